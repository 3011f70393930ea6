/* Which facts and lanes came out of a damaged snapshot. The others are made of
 * what the log still has of them, which may be less than was said. */
#include "storage/internal.h"

#include <stdlib.h>

void given_fini(struct given *given)
{
    for (size_t class = 0; class <= CATALOG_GROUP; class ++) {
        seqset_fini(&given->facts[class]);
    }
    free(given->lanes);
    *given = (struct given) { 0 };
}

/* A set of numbers begins with 1. */
static uint64_t fact_number(const struct record_fact *fact)
{
    return (uint64_t)fact->id + 1;
}

enum status given_fact(struct given *given, const struct record_fact *fact)
{
    uint64_t number = fact_number(fact);

    CHECK(fact->class <= CATALOG_GROUP);
    return seqset_add(&given->facts[fact->class], number, number, NULL);
}

static uint64_t lane_id(uint32_t group, uint32_t topic)
{
    return (uint64_t)group << 32 | topic;
}

/* They come in order. */
enum status given_lane(struct given *given, uint32_t group, uint32_t topic)
{
    void *lanes = given->lanes;
    enum status status =
        keeper_reserve(&lanes, &given->lane_capacity, given->lane_count + 1,
                       sizeof *given->lanes);

    if (status == STATUS_OK) {
        given->lanes = lanes;
        given->lanes[given->lane_count++] = lane_id(group, topic);
    }
    return status;
}

bool given_not_fact(const struct given *given, const struct record_fact *fact)
{
    return given->wanted
           && !seqset_has(&given->facts[fact->class], fact_number(fact));
}

static int by_id(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

bool given_not_lane(const struct given *given, uint32_t group, uint32_t topic)
{
    uint64_t id = lane_id(group, topic);

    return given->wanted
           && (given->lane_count == 0
               || bsearch(&id, given->lanes, given->lane_count, sizeof id,
                          by_id)
                      == NULL);
}
