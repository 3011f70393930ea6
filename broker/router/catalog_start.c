/* Where a group begins on each topic that is there before it. On one that comes
 * later it begins with the first message. */
#include "broker/router/catalog.h"

#include "broker/router/catalog_impl.h"

#include <stdlib.h>

static enum status outside(struct refusal *refusal, const char *text,
                           uint64_t used, uint64_t allowed)
{
    (void)refuse(refusal, STATUS_INVALID, "from", "%s", text);
    refusal->used = used;
    refusal->allowed = allowed;
    return STATUS_INVALID;
}

/* A number means something in its topic only, and that must be there. */
static enum status check_seq(struct catalog *catalog,
                             const struct catalog_request *request,
                             const struct catalog_context *context,
                             struct refusal *refusal)
{
    const char *name = request->topics.at[0];
    const struct topic *topic;
    uint64_t next;

    if (request->topics.count != 1 || strchr(name, '*') != NULL) {
        return refuse(refusal, STATUS_INVALID, "from",
                      "a sequence number is one topic's: a group that begins "
                      "at one takes one topic, by its name; for several give a "
                      "time");
    }
    topic = catalog_topic(catalog, slice_text(name));
    if (topic == NULL) {
        return refuse(refusal, STATUS_INVALID, "from",
                      "there is no topic %s yet to begin in at a sequence "
                      "number",
                      name);
    }
    next = context->last_seq(context->arg, topic) + 1;
    if (request->from_at == 0 || request->from_at > next) {
        return outside(refusal,
                       "a sequence number is from 1 to the next one of the "
                       "topic",
                       request->from_at, next);
    }
    return STATUS_OK;
}

/* Each look is a search in the log, on the thread that decides. */
static enum status check_time(struct catalog *catalog,
                              const struct catalog_request *request,
                              const struct catalog_context *context,
                              struct refusal *refusal)
{
    const struct table *topics = catalog_table(catalog, CATALOG_TOPIC);
    uint64_t latest = context->now_us + UINT64_C(1000) * TIMESTAMP_SKEW_MS_MAX;
    uint64_t taken = 0;

    if (context->seq_at == NULL) {
        return refuse(refusal, STATUS_UNSUPPORTED, "from",
                      "a group cannot begin at a time here");
    }
    if (request->from_at > latest) {
        return outside(refusal, "a time that is still to come",
                       request->from_at, context->now_us);
    }
    for (size_t i = 0; i < topics->count; i++) {
        taken += patterns_match(&request->topics,
                                slice_text(topics->by_id[i]->name));
    }
    if (taken > FROM_TIME_TOPIC_COUNT_MAX) {
        return outside(refusal,
                       "too many topics to look for a time in; begin at the "
                       "earliest or the latest, or take fewer",
                       taken, FROM_TIME_TOPIC_COUNT_MAX);
    }
    return STATUS_OK;
}

enum status start_check(struct catalog *catalog,
                        const struct catalog_request *request,
                        const struct catalog_context *context,
                        struct refusal *refusal)
{
    switch (request->from) {
    case FROM_EARLIEST:
    case FROM_LATEST:
        return STATUS_OK;
    case FROM_SEQ:
        return check_seq(catalog, request, context, refusal);
    case FROM_TIME:
        return check_time(catalog, request, context, refusal);
    }
    return refuse(refusal, STATUS_INVALID, "from",
                  "a group begins from earliest, from latest, at a seq or at a "
                  "time_us");
}

/* The first message of the topic that is asked for. */
static uint64_t first_asked(const struct catalog_context *context,
                            const struct group_fact *group,
                            const struct topic *topic)
{
    switch (group->from) {
    case FROM_EARLIEST:
        return 1;
    case FROM_LATEST:
        return context->last_seq(context->arg, topic) + 1;
    case FROM_SEQ:
        return group->from_at;
    case FROM_TIME:
        return context->seq_at(context->arg, topic, group->from_at);
    }
    return 1;
}

/* The last message of the topic that the group does not get. What a topic keeps
 * for older groups only is nothing to a new one. */
static uint64_t starts_after(const struct catalog_context *context,
                             const struct group_fact *group,
                             const struct topic *topic)
{
    uint64_t floor_seq = context->floor_seq(context->arg, topic);
    uint64_t first = first_asked(context, group, topic);

    first = first < floor_seq ? floor_seq : first;
    return first < 1 ? 0 : first - 1;
}

enum status start_find(struct catalog *catalog,
                       const struct catalog_context *context,
                       struct group_fact *group)
{
    const struct table *topics = catalog_table(catalog, CATALOG_TOPIC);

    if (topics->count == 0) {
        return STATUS_OK;
    }
    group->starts = calloc(topics->count, sizeof group->starts[0]);
    if (group->starts == NULL) {
        return STATUS_NOMEM;
    }
    for (size_t i = 0; i < topics->count; i++) {
        const struct topic *topic = (const struct topic *)topics->by_id[i];
        uint64_t after;

        if (!group_takes_topic(group, slice_text(topic->name))) {
            continue;
        }
        after = starts_after(context, group, topic);
        if (after > 0) {
            group->starts[group->start_count++] =
                (struct lane_from) { topic->id, after };
        }
    }
    return STATUS_OK;
}
