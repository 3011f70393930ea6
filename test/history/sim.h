/* The made-up broker of the generator, and its clients. See generate.h.
 *
 *   client --outbox--> broker --(sync)--> inbox --> client writes its ledger
 *
 * What the broker has done since the last sync is undone by a kill; what it
 * told before the sync are deliveries only. */
#ifndef GODWIT_TEST_HISTORY_SIM_H
#define GODWIT_TEST_HISTORY_SIM_H

#include "test/history/generate.h"
#include "test/history/table.h"

enum {
    SIM_TOPICS_MAX = 3,
    SIM_LANES_MAX = 12,
    SIM_CLIENTS_MAX = 4096,
    SIM_CREDIT = 8,
    SIM_WINDOW = 16,
    SIM_KEYS = 8,
    SIM_DELAY_US = 3000,
    SIM_BACKLOG = 1000,
    SIM_LEASE_US = 60000,
    SIM_GRACE_US = 15000
};

enum item_kind {
    ITEM_PUBLISH,
    ITEM_SETTLE,
    ITEM_LEAVE,
    ITEM_PULL,
    ITEM_CONFIRM,
    ITEM_REFUSE,
    ITEM_DELIVER,
    ITEM_GAP,
    ITEM_OUTCOME,
    ITEM_PULLED,
    ITEM_LOST
};

enum sim_action { SIM_ACK, SIM_NACK, SIM_RELEASE, SIM_EXTEND, SIM_REJECT };

struct item {
    enum item_kind kind;
    enum sim_action action;
    uint32_t client, epoch; /* whom an answer is for */
    uint32_t lane;
    uint32_t attempt;
    uint64_t first, last; /* seqs; a publish: its counter */
    bool accepted, duplicate;
};

struct queue {
    struct item *items;
    size_t room, first, count;
};

void queue_push(struct queue *q, const struct item *item);
bool queue_take(struct queue *q, struct item *out);

struct sim_message {
    uint32_t producer; /* client */
    uint64_t counter;
    uint64_t stored_us;
};

struct sim_topic {
    char name[16];
    const char *tenant;
    uint64_t count_max, ttl_us;
    uint64_t last, durable, first; /* seqs */
    struct sim_message *messages;
    size_t room;
};

enum copy_state {
    COPY_OPEN,
    COPY_IN_FLIGHT,
    COPY_ACKED,
    COPY_DEAD,
    COPY_EXPIRED,
    COPY_DELETED,
    COPY_GAP,
    COPY_STATES
};

struct sim_copy {
    uint8_t state;
    uint8_t failures;
    bool waits;    /* in lane.again */
    bool rejected; /* how it died */
    uint32_t holder, epoch;
    uint64_t until_us; /* lease end */
};

struct sim_lane {
    char group[16];
    uint32_t topic;
    bool latest;
    bool ordered; /* by key */
    uint32_t attempts_max;
    uint64_t begin; /* its first seq */
    uint64_t next;  /* fresh from here; ordered: below all are settled */
    uint64_t asked_us;
    struct sim_copy *copies;
    size_t room;
    struct queue again; /* to deliver once more */
    struct queue held;  /* in flight, by lease end */
};

enum role { ROLE_PUBLISH, ROLE_PUSH, ROLE_PULL };

/* What a producer sent, by counter - 1. */
struct sim_sent {
    uint32_t topic, key;
    uint64_t hash;
    uint64_t due_us; /* 0: at once */
    uint64_t seq;    /* as the broker stored it; 0: not */
    bool durable, refused;
};

struct client {
    enum role role;
    char name[24];
    FILE *out;
    bool alive, connected;
    uint32_t epoch;   /* of its connection */
    uint32_t session; /* the number in its ledger */
    struct queue inbox, outbox;
    /* a producer */
    struct sim_sent *sent;
    size_t sent_room;
    uint64_t sent_count, answered, resend;
    /* a subscriber */
    uint32_t group; /* its first lane */
    uint32_t lane_count;
    uint32_t holds;          /* deliveries that the broker counts */
    bool pulling;            /* the broker knows of its pull */
    bool asked;              /* it waits for the answer to a pull */
    struct queue unanswered; /* settlements */
    struct item acks;        /* being gathered; last 0: none */
};

struct undo {
    uint32_t lane;
    uint64_t seq;
    uint8_t state, failures;
};

struct sim {
    struct generate_options options;
    uint64_t random;
    uint64_t now_us, lines;
    bool up, draining, damage;
    uint32_t kills_in; /* one in so many turns */
    FILE *driver;
    struct sim_topic topics[SIM_TOPICS_MAX];
    uint32_t topic_count;
    struct sim_lane lanes[SIM_LANES_MAX];
    uint32_t lane_count;
    struct client *clients;
    uint32_t client_count;
    struct queue answers; /* wait for the sync */
    struct undo *undos;
    size_t undo_room, undo_count;
};

uint64_t sim_random(struct sim *sim, uint64_t below);
__attribute__((format(printf, 3, 4))) void sim_line(struct sim *sim, FILE *out,
                                                    const char *format, ...);

/* ---- broker ---- */
void broker_take(struct sim *sim, uint32_t client);
void broker_deliver(struct sim *sim);
void broker_expire(struct sim *sim);
void broker_sync(struct sim *sim);
void broker_redrive(struct sim *sim, uint32_t lane);
void broker_kill(struct sim *sim);
void broker_drop(struct sim *sim, uint32_t client); /* its connection is gone */
uint64_t broker_count(const struct sim_lane *lane,
                      const struct sim_topic *topic, enum copy_state state);
struct sim_copy *sim_copy_at(struct sim_lane *lane, uint64_t seq);

/* ---- clients ---- */
uint32_t client_add(struct sim *sim, enum role role, uint32_t lane,
                    uint32_t lane_count);
void client_step(struct sim *sim, uint32_t client);
void client_leave(struct sim *sim, uint32_t client);
void client_die(struct sim *sim, uint32_t client);
bool client_idle(const struct client *c);

#endif
