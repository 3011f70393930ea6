/* What the checker knows while it reads. */
#ifndef GODWIT_TEST_HISTORY_INSIDE_H
#define GODWIT_TEST_HISTORY_INSIDE_H

#include "test/history/history.h"
#include "test/history/ledger.h"
#include "test/history/table.h"

enum rule {
    RULE_LEDGER,
    RULE_LOST,
    RULE_INVENTED,
    RULE_ALTERED,
    RULE_ORDER,
    RULE_ATTEMPTS,
    RULE_AFTER_ACK,
    RULE_TWO_LEASES,
    RULE_BOOKS,
    RULE_DEAD,
    RULE_POSITION,
    RULE_TENANT,
    RULE_DRAIN,
    RULE_EARLY
};

/* Bounds of the packed keys below. */
enum {
    LANE_COUNT_MAX = 1 << 10,
    SESSION_COUNT_MAX = 1 << 22,
    PRODUCER_COUNT_MAX = 1 << 18,
    KEY_COUNT_MAX = 1 << 24
};
#define SEQ_MAX     (UINT64_C(1) << 38)
#define COUNTER_MAX (UINT64_C(1) << 38)

enum publish_state { NOT_SENT, SENT, CONFIRMED, REFUSED, GIVEN_UP };

/* One publish; its id is (producer, counter). */
struct message {
    uint64_t sent_us, confirmed_us;
    uint64_t hash;   /* of body and headers */
    uint64_t seq;    /* 0: not known */
    uint64_t where;  /* its send */
    uint64_t due_us; /* not before; 0: at once */
    uint32_t key;
    uint32_t topic;
    enum publish_state state;
};

struct producer {
    uint32_t file;
    struct message *messages; /* by counter - 1 */
    size_t room;
    uint64_t count;
};

enum keep { KEEP_SETTLED = 1, KEEP_LIMIT };

struct topic {
    uint32_t tenant;
    enum keep keep;
    uint64_t count_max, age_us, ttl_us; /* 0: none */
    uint64_t *by_seq; /* by seq - 1: message_id(), 0: not known */
    size_t room;
    uint64_t seen_seq;           /* the highest that anybody saw */
    uint64_t sent;               /* publishes so far: no seq can be past it */
    uint64_t last, first, floor; /* as the broker said last */
    bool known, told, told_at_end;
};

#define LIFE_UNKNOWN UINT32_MAX

/* One message in one lane. */
struct copy {
    uint64_t got_us;
    uint64_t held_until_us;  /* lease as the client could know it; 0: free */
    uint64_t acked_us;       /* an ack was accepted; 0: not */
    uint64_t rejected_us;    /* a rejection was accepted; 0: not */
    uint64_t asked_until_us; /* an extension that is not answered yet */
    uint64_t where;          /* the last delivery */
    uint32_t session;        /* of the last delivery; 0: never delivered */
    uint32_t life;           /* of the broker then; LIFE_UNKNOWN */
    uint32_t acked_file;
    uint32_t attempt, attempt_min;
    uint16_t maybe;       /* acks whose fate is not known */
    uint8_t released : 1; /* given back since the last delivery, uncounted */
    uint8_t nacked : 1;   /* given back, counted */
    uint8_t dead : 1;
    uint8_t expired : 1;
    uint8_t gap : 1;
    uint8_t rejecting : 1; /* asked for since the last delivery */
    uint8_t rejected : 1;  /* and accepted: dead from then on */
    uint8_t redriven : 1;  /* somebody asked for it: attempts begin anew */
};

struct books {
    uint64_t published, acked, dead, expired, deleted, gap;
    uint64_t ready, delayed, in_flight;
    bool told;
};

/* A group's view of one topic. */
struct lane {
    uint32_t group, topic, tenant;
    bool earliest;
    bool ordered;               /* by key */
    uint64_t asked_us, made_us; /* the group was asked for, was there */
    uint64_t lease_us;
    uint64_t attempts_max; /* 0: no end */
    struct copy *copies;   /* by seq - 1 */
    size_t room;
    struct books books;
};

/* One connection of a subscriber, or one puller. */
struct session {
    uint32_t file, group, tenant;
    uint32_t life;     /* of the broker: how often it was killed before */
    uint64_t since_us; /* attached, or the last pull was asked */
    uint64_t ended_us; /* 0: goes on */
    uint64_t leaves;   /* of its group, when it attached */
    uint64_t pulled;   /* deliveries since the pull was asked */
    bool pull, pulling;
    bool left; /* in order: what it held goes back uncounted */
};

struct group {
    uint64_t leaves; /* sessions that ended by themselves */
    bool known;
};

struct file {
    uint32_t client;       /* name */
    struct table sessions; /* the client's number -> session */
    uint64_t pending;      /* settlements without an outcome */
    uint64_t dying_us;
    uint32_t open_sessions;
    bool ended;
};

/* A redelivery that only the end of the holder's session can explain. The end
 * may be written down a little later than the redelivery. */
struct suspicion {
    uint64_t us;
    uint64_t where, before;
    uint64_t seq;
    uint32_t lane, session, holder;
};

/* In an ordered group another message of its key came before it was settled. */
struct overtaken {
    uint64_t where;
    uint64_t seq;
    uint32_t lane;
    uint32_t life;
    bool last_attempt; /* a death that a kill may take back */
};

struct history {
    struct history_options options;
    struct history_figures figures;
    struct ledgers *ledgers;
    struct event event; /* the one in hand */
    bool in_event;

    uint64_t grace_us;
    uint64_t drain_max_us;
    bool damage; /* the disk was damaged on purpose: gaps are no fault */

    struct names names; /* of everything: topics, groups, keys ... */
    struct file *files;
    size_t files_room;
    struct topic *topics; /* by name */
    size_t topics_room;
    struct group *groups; /* by name */
    size_t groups_room;
    struct table producer_of; /* name -> producer */
    struct producer *producers;
    size_t producers_room;
    uint32_t producer_count;
    struct session *sessions;
    size_t sessions_room;
    uint32_t session_count;
    struct table lane_of; /* group, topic -> lane */
    struct lane *lanes;
    size_t lanes_room;
    uint32_t lane_count;
    struct table pending;  /* file, lane, seq -> settlements on their way */
    struct table pairs;    /* session, life, lane -> one number */
    struct table newest;   /* pair, producer, key -> counter */
    struct table furthest; /* ordered lane, key -> seq delivered */
    struct overtaken *overtaken; /* only their death can explain it */
    size_t overtaken_room, overtaken_count;

    bool up;
    uint32_t life;
    uint64_t up_us, kill_us, cut_us; /* the last ones */
    uint64_t drain_us, drained_us;

    struct suspicion *suspicions; /* first in, first out */
    size_t suspicions_room, suspicion_first, suspicion_count;
};

/* ---- events' fields: a fault and false when one is bad ---- */

bool get_number(struct history *h, size_t index, uint64_t *out);
uint32_t get_name(struct history *h, size_t index);
/* Has to exist; 0 and a fault otherwise. `index` is the event's field. */
struct topic *get_topic(struct history *h, size_t index, uint32_t *name);
/* A seq that can be: not 0, not past what was sent. */
bool get_seq(struct history *h, const struct topic *topic, size_t index,
             uint64_t *out);
bool get_range(struct history *h, const struct topic *topic, size_t index,
               uint64_t *first, uint64_t *last);
/* The session of this file that field 0 names; 0 and a fault otherwise. */
uint32_t get_session(struct history *h);
/* Lane of the group and topic, or 0 and a fault. */
uint32_t get_lane(struct history *h, uint32_t group, uint32_t topic);
/* The message that fields index and index + 1 name; NULL: nobody sent it. */
struct message *get_message(struct history *h, size_t index, uint64_t *id);

/* What one client has of one message: deliveries it has not settled,
 * settlements on their way that are acks, and others, in one number. */
enum { PENDING_ACK = 1, PENDING_OTHER = 1 << 10, PENDING_GOT = 1 << 20 };
#define PENDING_MIXED (UINT64_C(1) << 40) /* both were on their way at once */
uint64_t pending_key(uint32_t file, uint32_t lane, uint64_t seq);

struct file *this_file(struct history *h);
struct copy *copy_at(struct history *h, uint32_t lane, uint64_t seq);
struct message *message_at(struct history *h, uint64_t id);
uint64_t message_id(uint32_t producer, uint64_t counter);
uint64_t where(const struct history *h); /* the event in hand */
/* "FILE:LINE" into `text`. */
const char *where_text(const struct history *h, uint64_t where, char *text,
                       size_t len);
enum { WHERE_LEN = 256 };

__attribute__((format(printf, 3, 4))) void
fault(struct history *h, enum rule rule, const char *format, ...);

/* ---- what a line does ---- */

void on_send(struct history *h);
void on_ok(struct history *h);
void on_no(struct history *h);
void on_unknown(struct history *h);
/* The message was seen under this seq. False: another one has it. */
bool seq_seen(struct history *h, uint32_t topic, uint64_t seq, uint64_t id,
              struct message *m);

void on_attach(struct history *h);
void on_leave(struct history *h);
void on_lost(struct history *h);
void on_pull(struct history *h);
void on_pulled(struct history *h);

void on_got(struct history *h);
void on_gap(struct history *h);
void on_dead(struct history *h);
void on_expired(struct history *h);
void on_redrive(struct history *h);
/* At the end: were those dead that others overtook? */
void check_overtaken(struct history *h);
/* Judge what waited until `us`. */
void suspicions_until(struct history *h, uint64_t us);

void on_settle(struct history *h);
void on_outcome(struct history *h);

void on_at(struct history *h);
void on_books(struct history *h);
void check_end(struct history *h);

#endif
