/* What a message costs its groups: offered, taken, acked with its neighbours,
 * and noted for the log; nothing is stored or sent. One topic, GROUPS groups
 * with a member each, ROUND messages a round, which is what a fan-out under
 * load hands a worker in a turn.
 *
 * Instructions do not hang on what else the machine does:
 *
 *   valgrind --tool=callgrind --collect-atstart=no --toggle-collect=one_round \
 *       build/release/test/bench_group
 *
 * "Collected", divided by the number of deliveries that it prints. */
#include "broker/delivery/group.h"
#include "proto/limits.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GROUPS = 100, ROUND = 64, ROUNDS = 20, TOPIC = 1, BYTES = 1024 };

static struct inflight *table;
static struct key_budget keys = { .max = KEYS_WAITING_MAX * 8 };
static struct group *groups[GROUPS];
static struct member *members[GROUPS];
static uint64_t now_us = 1000000;
static uint64_t end;
static uint64_t delivered;
static uint64_t outcomes;

static void make_group(uint32_t i)
{
    const struct group_config config = {
        .id = i + 1,
        .rules = { .mode = MODE_SHARED,
                   .lease_us = (uint64_t)LEASE_MS_DEFAULT * 1000,
                   .in_flight_max = GROUP_IN_FLIGHT_DEFAULT },
        .inflight = table,
        .keys = &keys,
    };
    const struct lane_start start = { .topic = TOPIC };

    groups[i] = group_new(&config);
    CHECK(groups[i] != NULL);
    CHECK(group_add_lane(groups[i], &start) == STATUS_OK);
    CHECK(
        group_join(groups[i], i + 1, 1024, CREDIT_BYTES_MAX, NULL, &members[i])
        == STATUS_OK);
}

static void note(void *arg, const struct wire_settled_range *range)
{
    (void)arg;
    CHECK(range->outcome == OUTCOME_ACCEPTED);
    outcomes += range->last - range->first + 1;
}

static bool tell(void *arg, const struct effects *effects)
{
    (void)arg;
    (void)effects;
    return true;
}

static void deliver(struct group *group)
{
    const struct message_facts facts = { .bytes = BYTES };
    struct offer offer;

    while (group_next(group, now_us, &offer)) {
        CHECK(group_take(group, &offer, &facts, now_us) == TAKE_DELIVERED);
        delivered++;
    }
}

/* All groups deliver, then all ack, as members do that have it on the wire. */
__attribute__((noinline)) static void one_round(void)
{
    struct settlement ack = { .topic = TOPIC,
                              .action = SETTLE_ACK,
                              .range = { end + 1, end + ROUND } };

    end += ROUND;
    now_us += 2000;
    for (size_t i = 0; i < GROUPS; i++) {
        group_extend(groups[i], TOPIC, end);
        deliver(groups[i]);
    }
    for (size_t i = 0; i < GROUPS; i++) {
        ack.lease = i + 1;
        CHECK(group_settle(groups[i], &ack, now_us, note, NULL) == STATUS_OK);
        group_take_effects(groups[i], tell, NULL);
    }
}

int main(void)
{
    const struct inflight_config config = { .bytes = { 64 << 20 },
                                            .now_us = now_us };
    struct error err;

    CHECK(inflight_new(&table, &config, &err) == STATUS_OK);
    for (uint32_t i = 0; i < GROUPS; i++) {
        make_group(i);
    }
    for (int i = 0; i < ROUNDS; i++) {
        one_round();
    }
    for (size_t i = 0; i < GROUPS; i++) {
        group_leave(groups[i], members[i], now_us);
        group_free(groups[i]);
    }
    inflight_free(table);
    CHECK(outcomes == delivered);
    printf("deliveries %lu\n", (unsigned long)delivered);
    return 0;
}
