/* A group with one lane, topic 1, and time in our hands: for the tests of
 * groups. Every step through it counts the books twice. A test with facts of
 * its own about messages defines OWN_FACTS and facts_of(). */
#ifndef GODWIT_TEST_LIB_GROUP_BED_H
#define GODWIT_TEST_LIB_GROUP_BED_H

#include "broker/delivery/group.h"
#include "proto/limits.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

enum { TOPIC = 1, OTHER = 2, BYTES = 100, OUTCOMES_MAX = 64 };
#define SECOND UINT64_C(1000000)
#define LEASE  (30 * SECOND)
#define START  (1000 * SECOND)
#define TICK   ((uint64_t)INFLIGHT_TICK_US)

static struct inflight *inflight;
static struct group *group;
static struct key_budget keys = { .max = KEYS_WAITING_MAX * sizeof(uint64_t) };
static uint64_t now;
static struct wire_settled_range outcomes[OUTCOMES_MAX];
static size_t outcome_count;

static struct group_rules rules;

/* With `rules` as they are. */
static inline void open_with_rules(size_t heap_bytes)
{
    struct inflight_config config = { .bytes = { heap_bytes },
                                      .now_us = START };

    cr_assert(inflight_new(&inflight, &config, NULL) == STATUS_OK);
    group = group_new(&(struct group_config) { .id = 9,
                                               .rules = rules,
                                               .seed = 42,
                                               .inflight = inflight,
                                               .keys = &keys });
    cr_assert(group != NULL);
    now = START;
}

static inline void open_group(size_t heap_bytes, size_t in_flight_max)
{
    rules = (struct group_rules) { .mode = MODE_SHARED,
                                   .lease_us = LEASE,
                                   .in_flight_max = in_flight_max };
    open_with_rules(heap_bytes);
}

static inline void add_lane(uint32_t topic, uint64_t end)
{
    struct lane_start start = { .topic = topic, .end = end };
    cr_assert(group_add_lane(group, &start) == STATUS_OK);
}

static inline void set_up(void)
{
    open_group(1024 * 1024, SIZE_MAX);
    add_lane(TOPIC, 10);
}

static inline void tear_down(void)
{
    group_free(group);
    inflight_free(inflight);
}

static inline struct member *join(uint64_t lease, uint64_t credit)
{
    struct member *member = NULL;
    cr_assert(group_join(group, lease, credit, UINT64_MAX, NULL, &member)
              == STATUS_OK);
    return member;
}

static inline void audit(void)
{
    cr_assert(group_audit(group, TOPIC));
    cr_assert(group_audit(group, OTHER));
}

/* What a test's reader says of each message it is asked for. */
static struct message_facts facts_of(const struct offer *offer);

static inline enum take take(const struct offer *offer)
{
    struct message_facts facts = facts_of(offer);
    return group_take(group, offer, &facts, now);
}

/* Deliver the next one; its seq, 0 if there is none or no room. */
static inline uint64_t deliver_to(struct offer *offer)
{
    enum take taken;

    audit();
    do {
        if (!group_next(group, now, offer)) {
            return 0;
        }
        taken = take(offer);
        audit();
    } while (taken == TAKE_PASSED);
    return taken == TAKE_DELIVERED ? offer->seq : 0;
}

static inline uint64_t deliver(void)
{
    struct offer offer;
    return deliver_to(&offer);
}

static inline void expect_offer(uint64_t seq, uint32_t attempt)
{
    struct offer offer;
    cr_assert_eq(deliver_to(&offer), seq);
    cr_assert_eq(offer.attempt, attempt);
}

static inline void note_outcome(void *arg,
                                const struct wire_settled_range *range)
{
    (void)arg;
    cr_assert(outcome_count < OUTCOMES_MAX);
    outcomes[outcome_count++] = *range;
}

static inline void settle_range(enum settle_action action, uint64_t lease,
                                uint64_t first, uint64_t last, uint64_t delay)
{
    struct settlement s = { .lease = lease,
                            .topic = TOPIC,
                            .action = action,
                            .range = { first, last },
                            .delay_us = delay };
    outcome_count = 0;
    cr_assert(group_settle(group, &s, now, note_outcome, NULL) == STATUS_OK);
    audit();
}

/* One message, one outcome. */
static inline enum settle_outcome settle(enum settle_action action,
                                         uint64_t lease, uint64_t seq)
{
    settle_range(action, lease, seq, seq, 0);
    cr_assert_eq(outcome_count, 1);
    cr_assert_eq(outcomes[0].first, seq);
    cr_assert_eq(outcomes[0].last, seq);
    return outcomes[0].outcome;
}

static inline void expect_outcome(size_t index, uint64_t first, uint64_t last,
                                  enum settle_outcome outcome, uint64_t holder)
{
    cr_assert(index < outcome_count);
    cr_assert_eq(outcomes[index].first, first);
    cr_assert_eq(outcomes[index].last, last);
    cr_assert_eq(outcomes[index].outcome, outcome);
    cr_assert_eq(outcomes[index].holder, holder);
}

static inline void tick(void)
{
    while (group_tick(group, now, 16, NULL, NULL)) {
        audit();
    }
    audit();
}

static inline struct standing standing_of(uint64_t seq)
{
    struct standing out;
    group_explain(group, TOPIC, seq, 0, now, &out);
    return out;
}

static inline struct lane_books books(void)
{
    struct lane_books b;
    cr_assert(group_books(group, TOPIC, &b));
    return b;
}

static inline void expect_gate(uint64_t seq, enum gate gate)
{
    cr_assert_eq(standing_of(seq).gate, gate, "seq %lu: %s, not %s", seq,
                 gate_word(standing_of(seq).gate), gate_word(gate));
}

/* When the delay of what failed is over. */
static inline uint64_t due_of(uint64_t seq)
{
    struct standing s = standing_of(seq);
    cr_assert_eq(s.gate, GATE_BACKOFF);
    return s.until_us;
}

/* All that is due until then has become so. */
static inline void pass_until(uint64_t us)
{
    now = us + TICK;
    tick();
}

static inline void expect_books(uint64_t acked, uint64_t gap, uint64_t ready,
                                uint64_t delayed, uint64_t in_flight)
{
    struct lane_books b;
    cr_assert(group_books(group, TOPIC, &b));
    cr_assert_eq(b.acked, acked);
    cr_assert_eq(b.gap, gap);
    cr_assert_eq(b.ready, ready);
    cr_assert_eq(b.delayed, delayed);
    cr_assert_eq(b.in_flight, in_flight);
    cr_assert(lane_books_balance(&b));
}

/* Most tests are of messages with nothing special. */
#ifndef OWN_FACTS
static struct message_facts facts_of(const struct offer *offer)
{
    (void)offer;
    return (struct message_facts) { .bytes = BYTES };
}
#endif

#endif
