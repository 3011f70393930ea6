/* A seeded simulator of one group: random publishers, members, settlements,
 * operators, rules, time, damage and crashes, against a model that keeps the
 * state of every message on its own and knows nothing of how the group does it.
 * Which of the messages that may be delivered comes next is the group's choice;
 * the model says whether it may be, and when nothing comes, whether something
 * had to. After each step both must agree; at the end everything must have been
 * settled.
 *
 *   group_sim.c         the run: which step comes when, and the end of it
 *   group_sim_steps.c   publishers, members, rules, time, operators
 *   group_sim_give.c    deliveries: what may come, what has to
 *   group_sim_settle.c  settlements and what they answer
 *   group_sim_log.c     effects, the log they make, crashes
 *   group_sim_check.c   what is compared after each step
 *   group_sim_model.c   the states of messages and small questions about them
 *
 * Plants are faults behind the model's back. Each must be found, or the model
 * would not notice such a fault in the group either. */
#ifndef GODWIT_TEST_LIB_GROUP_SIM_H
#define GODWIT_TEST_LIB_GROUP_SIM_H

#include "broker/delivery/group.h"
#include "proto/limits.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    LANES_MAX = 4,
    LANE_END_MAX = 1500,
    MEMBERS_MAX = 6,
    LEASES_KEPT = 12,
    KEYS = 6,
    TEXT_LEN = 320,
    OWED_MAX = 24
};
#define SECOND UINT64_C(1000000)
#define HOUR   (3600 * SECOND)
#define TICK   ((uint64_t)INFLIGHT_TICK_US)

enum plant {
    PLANT_NONE,
    PLANT_LOST_REDELIVERY, /* a message that failed is never given again */
    PLANT_TWO_HOLDERS,     /* one that is leased is given to another */
    PLANT_FORGOTTEN_ACK,   /* a durable ack is missing after a restart */
    PLANT_WRONG_ATTEMPTS,  /* a durable count is one less after a restart */
    PLANT_LOST_CREDIT,     /* a member gets more than it asked for */
    PLANT_FORGOTTEN_TRIM,  /* what is deleted is there again after a restart */
    PLANT_HASTY_TRIM,      /* more is deleted than was to be */
    PLANT_MIXED_KEYS,      /* some messages lose their key */
    PLANT_EARLY,           /* a delayed message is due at once */
    PLANT_NO_TTL,          /* some never expire */
    PLANT_FILTER_OFF,      /* some pass the filter that should not */
    PLANT_DEAF_TO_PAUSE,   /* the group is not told to pause */
    PLANT_LOST_DEAD,       /* a dead message is missing after a restart */
    PLANT_SEEK_OFF_BY_ONE, /* it begins one message late */
    PLANT_EFFECT_DROPPED,  /* the log is not told some of it */
    PLANT_HASTY_BACKOFF,   /* shorter delays than the rules say */
    PLANT_MORE_ATTEMPTS,   /* one more than the rules say */
    PLANT_LOST_REDRIVE,    /* a redriven one is acked behind the model's back */
    PLANT_WRONG_QUOTA,     /* more in flight than the rules say */
    PLANT_CLOCK_BACK,      /* the group's clock stands still */
    PLANT_NO_NOTICE,       /* no word before the end of a lease */
    PLANT_WITHHELD,        /* it says that there is nothing, and there is */
    PLANT_STUCK_MEMBER,    /* a member gets nothing, and nobody paused it */
    PLANT_LOST_FAILURE,    /* a restart does not know of a failure */
    PLANT_STUCK_SEEK, /* what a seek left for later turns is left for ever */
    PLANT_OLD_ACK,    /* an ack of before a seek counts behind it */
    PLANTS
};

/* How the places for open messages are shared out. */
enum tiers {
    TIERS_ANY,    /* at random, often too few */
    TIERS_HEAP,   /* all in the heap */
    TIERS_SPREAD, /* tiny, tiny, huge */
    TIERS_DIRECT, /* no heap, no file */
    TIERS_FILE,   /* the file alone */
    TIERS_MIDDLE, /* tiny, huge */
    TIERS
};

/* WAITING is what was given to the table and is not held: ready or delayed, as
 * its due time says. */
enum state {
    FRESH,
    WAITING,
    IN_FLIGHT,
    ACKED,
    DEAD,
    EXPIRED,
    FILTERED,
    GAP,
    DELETED,
    STATES
};

/* What the log says of a message. DELETED: discarded. */
struct written {
    enum state state; /* FRESH, DEAD or settled */
    uint32_t attempts;
    uint64_t due;
};

/* A failure that the log must be told of. */
struct owed {
    enum failure_cause cause;
    bool dead;
    uint32_t attempts;
    uint64_t holder;
    uint64_t due_min;
    uint64_t due_max;
    char reason[24];
};

struct msg {
    /* as published */
    uint32_t bytes;
    uint32_t key; /* 0: none */
    uint64_t due_facts;
    uint64_t expires;
    bool filtered;

    enum state state;
    bool counted;      /* in the books: not so what a seek left behind */
    uint32_t attempts; /* that failed */
    uint64_t due_min;  /* WAITING: due within */
    uint64_t due_max;
    bool given;    /* delivered since it was last fresh */
    bool redriven; /* and not delivered since */
    bool has_key;  /* of an ordered group, until it is settled or dead */
    bool stray;    /* it is not in line with its key: it was open before the
                    * group was ordered, is not due yet, or was dead */
    bool revived;  /* a retry of before the restart that was not looked at */
    uint32_t ends; /* attempts that ended with a lease or a lost member, */
    uint32_t ends_most; /* or that the group may have counted */
    uint64_t lease;     /* IN_FLIGHT */
    uint64_t lease_end;
    uint64_t lease_began;
    bool noticed;
    bool old_rules; /* they changed since its lease began */

    struct owed *owed; /* failures that the log must be told of, in order */
    size_t owed_count;

    struct written told; /* the group said so */
    struct written kept; /* and a restart would find it */
};

struct lane {
    uint32_t topic; /* 0: none */
    uint64_t end;
    uint64_t after;      /* it began behind this one */
    uint64_t kept_after; /* as the log has it */
    size_t untold_seeks;
    bool sought;    /* by a seek that the log has */
    uint64_t first; /* below it all are deleted, settled or in flight */
    bool in_turn;   /* restarted in order: what came back then, and what
                     * is redriven, comes in its turn */
    uint64_t floor; /* all up to it are settled */
    uint64_t count[STATES];
    struct msg *msgs; /* LANE_END_MAX + 1 */
};

struct person {
    struct member *member; /* NULL: none */
    uint64_t lease;
    uint64_t credit;
    uint64_t credit_bytes;
    bool paused;
};

/* Something the log was told, perhaps not synced yet. */
enum note_kind {
    NOTE_SETTLED,
    NOTE_FAILED,
    NOTE_DEAD,
    NOTE_REDRIVEN,
    NOTE_BURIED,
    NOTE_SEEK
};
struct note {
    enum note_kind kind;
    uint32_t topic;
    uint64_t seq;
    enum state state; /* NOTE_SETTLED */
    uint32_t attempts;
    uint64_t due;
    uint64_t first; /* NOTE_SEEK: messages below were deleted by then */
};

struct sim_options {
    uint64_t seed;
    uint64_t steps;
    enum plant plant;
    enum tiers tiers;
    FILE *trace; /* NULL: none */
};

struct sim {
    struct sim_options options;
    uint64_t random;
    uint64_t step;
    uint64_t now;
    uint64_t ticked; /* all that was due then is done */
    struct group_rules rules;
    uint64_t lease_least; /* of all rules so far */
    struct inflight *inflight;
    struct group *group;
    struct group *hog; /* another group, which takes what places it gets and
                        * gives none back; NULL: none */
    struct member *hog_member;
    struct key_budget keys;
    bool roomy;    /* the table has places for everything */
    bool few_keys; /* there may be too little memory for them */
    struct lane lanes[LANES_MAX];
    uint32_t next_topic;
    struct person people[MEMBERS_MAX];
    uint64_t next_lease;
    struct note *log;
    size_t log_count;
    size_t log_capacity;
    bool deaf; /* the log takes nothing for now */
    bool failed;
    char folder[64]; /* of the file tier */
    char text[TEXT_LEN];
    uint64_t hash;      /* of everything the group said */
    bool storm;         /* most attempts fail */
    uint64_t again_run; /* redeliveries more than others, while others were
                         * ready too */
    uint64_t delivered, redelivered, restarts, refused, planted, died, redriven,
        seeks, expired, passed, noticed, broken, aside;
    uint64_t long_seeks, long_drops; /* that left something for later turns */
};

/* True: nothing wrong was found. Else s->text says what, s->step when. */
bool sim_run(struct sim *s, const struct sim_options *options);
/* NULL past the last one. */
const char *sim_plant_word(enum plant plant);
const char *sim_tiers_word(enum tiers tiers);

/* ---- for the parts of the simulator ---- */

uint64_t sim_rnd(struct sim *s, uint64_t below);
bool sim_chance(struct sim *s, uint64_t of); /* one in so many */
/* A planted fault of this kind happens now, one time in so many. */
bool sim_plant(struct sim *s, enum plant plant, uint64_t of);
/* The first failure counts. */
void sim_fail(struct sim *s, const char *format, ...) PRINTF_LIKE(2, 3);
void sim_trace(struct sim *s, const char *format, ...) PRINTF_LIKE(2, 3);
/* The group said this. */
void sim_hear(struct sim *s, uint64_t a, uint64_t b, uint64_t c);
#define EXPECT(s, condition, ...)                                              \
    do {                                                                       \
        if (!(condition)) {                                                    \
            sim_fail(s, __VA_ARGS__);                                          \
        }                                                                      \
    } while (0)

/* the model */
struct lane *sim_lane_of(struct sim *s, uint32_t topic); /* 0: a free one */
struct lane *sim_some_lane(struct sim *s);
bool sim_is_settled(const struct msg *m);
uint64_t sim_seq(const struct lane *lane, const struct msg *m);
void sim_become(struct lane *lane, struct msg *m, enum state state);
/* Count all again: what is counted has changed. */
void sim_recount(struct lane *lane);
void sim_publish_one(struct sim *s, struct lane *lane);
uint64_t sim_total(const struct sim *s, enum state state);
bool sim_is_able(const struct sim *s, const struct person *p);
size_t sim_joined(const struct sim *s);
/* Somebody may be given a message, as far as members go. */
bool sim_any_able(const struct sim *s);
/* Who gets all in exclusive mode; NULL: nobody joined. */
const struct person *sim_first_joined(const struct sim *s);
/* What was open before a seek, or in a lane that is gone, is being ended. As
 * long as it is, it takes places and credit, and a lane that was sought gives
 * nothing: when, the model does not know. */
bool sim_is_ending(const struct sim *s);
/* Surely ready; surely not. */
bool sim_is_ready(const struct sim *s, const struct msg *m);
bool sim_is_delayed(const struct sim *s, const struct msg *m);
/* The message that has its key, or must go before it; NULL: none. */
const struct msg *sim_before_it(const struct sim *s, const struct lane *lane,
                                const struct msg *m);
/* Is there a message that keeps it back, strays and all? */
bool sim_is_blocked(const struct sim *s, const struct lane *lane,
                    const struct msg *m);
/* Set aside: its holder gets nothing else. */
bool sim_is_aside(const struct msg *m);
uint64_t sim_count_aside(const struct sim *s, enum state state);
bool sim_is_lost(const struct lane *lane, const struct msg *m); /* trimmed */
/* The holder failed to settle it. */
struct fault {
    enum failure_cause cause;
    bool at_once;    /* no backoff */
    bool fatal;      /* dead whatever the count */
    uint64_t delay;  /* 0: backoff */
    const char *why; /* NULL: no reason */
};
void sim_release(struct sim *s, struct lane *lane, struct msg *m);
void sim_fail_attempt(struct sim *s, struct lane *lane, struct msg *m,
                      const struct fault *fault);
void sim_explain(struct sim *s, const struct lane *lane, uint64_t seq,
                 struct standing *out);

/* the log */
bool sim_on_effects(void *arg, const struct effects *e);
void sim_take_effects(struct sim *s);
/* The first `count` notes of the log are synced. */
void sim_sync_log(struct sim *s, size_t count);
void sim_restart(struct sim *s);
void sim_open_group(struct sim *s);
void sim_open_hog(struct sim *s);
void sim_close_hog(struct sim *s);
/* The group must be given a place: by the thresholds of the table, or alone in
 * it up to half of all. */
bool sim_has_room(const struct sim *s);
void sim_close_group(struct sim *s);

/* deliveries */
bool sim_deliver_one(struct sim *s);
void sim_do_deliver(struct sim *s);
void sim_do_lose(struct sim *s);

/* settlements */
void sim_do_settle(struct sim *s);
void sim_settle(struct sim *s, struct lane *lane, const struct settlement *t);

/* steps */
void sim_do_publish(struct sim *s);
void sim_do_new_lane(struct sim *s);
void sim_do_drop_lane(struct sim *s);
void sim_do_join(struct sim *s);
void sim_do_leave(struct sim *s);
void sim_do_credit(struct sim *s);
void sim_do_rules(struct sim *s);
void sim_do_pause(struct sim *s);
void sim_do_trim(struct sim *s);
void sim_do_seek(struct sim *s);
void sim_do_go_on(struct sim *s);
void sim_do_redrive(struct sim *s);
void sim_do_bury(struct sim *s);
void sim_do_discard(struct sim *s);
void sim_do_advance(struct sim *s);
void sim_do_tick(struct sim *s);
void sim_do_sweep(struct sim *s);
void sim_first_rules(struct sim *s);

/* after each step */
void sim_check(struct sim *s);

#endif
