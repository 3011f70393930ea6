/* A seeded simulator of one group: random publishers, members, settlements,
 * time, damage and crashes, against a model that keeps the state of every
 * message on its own and knows nothing of how the group does it. After each
 * step both must agree; at the end everything must have been delivered and
 * acked.
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
    LOG_MAX = 4096,
    TEXT_LEN = 256
};
#define SECOND UINT64_C(1000000)
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
    PLANTS
};

enum state { FRESH, READY, DELAYED, IN_FLIGHT, ACKED, GAP, DELETED, STATES };

struct msg {
    enum state state;
    uint32_t attempts; /* that failed */
    uint64_t due;      /* DELAYED */
    uint64_t lease;    /* IN_FLIGHT */
    uint64_t lease_end;
    uint32_t bytes;
    bool retry_expected; /* an effect must tell of it */
    uint64_t due_min;    /* and of a due time within */
    uint64_t due_max;
    /* what a restart would find */
    enum state kept_state; /* FRESH, ACKED or GAP */
    uint32_t kept_attempts;
    uint64_t kept_due;
};

struct lane {
    uint32_t topic; /* 0: none */
    uint64_t end;
    uint64_t first; /* below it all are deleted, settled or in flight */
    uint64_t floor; /* all up to it are settled */
    uint64_t count[STATES];
    struct msg msgs[LANE_END_MAX + 1];
};

struct person {
    struct member *member; /* NULL: none */
    uint64_t lease;
    uint64_t credit;
    uint64_t credit_bytes;
    bool paused;
};

/* What a member holds outlives it: by lease. */
struct holding {
    uint64_t lease;
    uint64_t count;
    uint64_t bytes;
};

/* A record that is written and perhaps not synced. */
struct note {
    struct lane *lane;
    uint32_t topic;
    uint64_t seq;
    enum state state; /* ACKED, GAP; else a retry */
    uint32_t attempts;
    uint64_t due;
};

struct sim {
    uint64_t seed;
    uint64_t random;
    uint64_t step;
    uint64_t steps;
    enum plant plant;
    uint64_t now;
    size_t in_flight_max;
    uint64_t lease_us;
    struct inflight *inflight;
    struct group *group;
    struct lane *lanes; /* LANES_MAX */
    uint32_t next_topic;
    struct person people[MEMBERS_MAX];
    uint64_t next_lease;
    struct note *log;
    size_t log_count;
    bool failed;
    char text[TEXT_LEN];
    uint64_t delivered, restarts, refused, planted;
};

/* True: nothing wrong was found. Else s->text says what, s->step when. */
bool sim_run(struct sim *s, uint64_t seed, uint64_t steps, enum plant plant);

/* ---- the model, for the simulator ---- */

uint64_t sim_rnd(struct sim *s, uint64_t below);
/* The first failure counts. */
void sim_fail(struct sim *s, const char *format, ...) PRINTF_LIKE(2, 3);
#define EXPECT(s, condition, ...)                                              \
    do {                                                                       \
        if (!(condition)) {                                                    \
            sim_fail(s, __VA_ARGS__);                                          \
        }                                                                      \
    } while (0)

struct lane *sim_lane_of(struct sim *s, uint32_t topic); /* 0: a free one */
bool sim_is_settled(const struct msg *m);
void sim_become(struct lane *lane, struct msg *m, enum state state);
uint64_t sim_total(const struct sim *s, enum state state);
bool sim_is_able(const struct sim *s, const struct person *p);
/* The log must be told that the message failed. */
void sim_expect_retry(struct sim *s, struct msg *m, bool at_once,
                      uint64_t delay);
bool sim_on_effects(void *arg, const struct effects *e);
/* The first `count` notes of the log are synced. */
void sim_sync_log(struct sim *s, size_t count);

#endif
