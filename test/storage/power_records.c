#include "test/storage/power_records.h"

#include "proto/check.h"
#include "proto/limits.h"

#include <stdio.h>

uint64_t life_draw(struct life *life, uint64_t below)
{
    return random_next(&life->state) % below;
}

static struct event *adding(struct life *life, bool duplicate)
{
    CHECK(life->added < COUNT_OF(life->adding));
    life->expect_duplicate[life->added] = duplicate;
    life->adding[life->added] = (struct event) { 0 };
    return &life->adding[life->added++];
}

/* Seq as it will be: behind those in the buffer. */
static uint64_t next_seq(const struct life *life, uint32_t topic)
{
    uint64_t seq = life->tried.topics[topic].last + 1;

    for (size_t i = 0; i < life->added; i++) {
        seq += life->adding[i].kind == EVENT_MESSAGE
               && life->adding[i].topic == topic && !life->expect_duplicate[i];
    }
    return seq;
}

static uint64_t next_number(const struct life *life, uint32_t producer)
{
    uint64_t number = life->tried.numbers[producer] + 1;

    for (size_t i = 0; i < life->added; i++) {
        if (life->adding[i].producer == producer
            && life->adding[i].number >= number) {
            number = life->adding[i].number + 1;
        }
    }
    return number;
}

void add_one(struct life *life, uint32_t topic, uint32_t producer, bool again)
{
    char body[MODEL_BODY_LEN];
    uint64_t seq = next_seq(life, topic);
    uint64_t number = next_number(life, producer);
    struct event *event = adding(life, again);

    event->kind = EVENT_MESSAGE;
    event->topic = topic;
    event->first = seq;
    event->salt = ++life->salt + (uint32_t)(life_draw(life, 1 << 20) << 12);
    event->producer = producer;
    event->number = producer == 0 ? 0 : number - (again ? 1 : 0);
    (void)model_body(topic, event->salt, body);
    add_numbered(&life->h, topic, body, producer, event->number, false);
}

/* Some messages in one chain, of any topics. */
static void add_chain(struct life *life, unsigned count)
{
    uint32_t chain = ++life->salt;

    for (unsigned i = 1; i <= count; i++) {
        size_t at = life->h.len;
        add_one(life, some_topic(life), 0, false);
        life->adding[life->added - 1].chain = chain;
        if (i < count) { /* not numbered yet, so no hash covers it */
            life->h.buffer[at + 5] |= RECORD_MORE;
        }
    }
}

static bool topic_lives(const struct life *life, uint32_t topic)
{
    return life->tried.facts[CATALOG_TOPIC][topic] == FACT_LIVE;
}

uint32_t some_topic(struct life *life)
{
    for (;;) {
        uint32_t topic = 1 + (uint32_t)life_draw(life, MODEL_TOPICS - 1);
        if (topic_lives(life, topic)) {
            return topic;
        }
    }
}

static uint32_t some_group(struct life *life)
{
    for (;;) {
        uint32_t group = 1 + (uint32_t)life_draw(life, MODEL_GROUPS - 1);
        if (life->tried.facts[CATALOG_GROUP][group] == FACT_LIVE) {
            return group;
        }
    }
}

void add_some_messages(struct life *life, unsigned count)
{
    if (count > 2 && life_draw(life, 3) == 0) {
        add_chain(life, count - 1);
        count = 1;
    }
    for (unsigned i = 0; i < count; i++) {
        uint32_t producer =
            life_draw(life, 3) == 0
                ? 1 + (uint32_t)life_draw(life, MODEL_PRODUCERS - 1)
                : 0;
        bool again =
            producer != 0 && life_draw(life, 4) == 0
            && life->tried.numbers[producer] > 0
            && next_number(life, producer) == life->tried.numbers[producer] + 1;
        add_one(life, some_topic(life), producer, again);
    }
}

static void add_range(struct life *life, enum record_kind how, uint32_t group,
                      uint32_t topic, struct seq_range range)
{
    struct event *event = adding(life, false);

    *event = (struct event) { .kind = EVENT_RANGE,
                              .how = how,
                              .topic = topic,
                              .group = group,
                              .first = range.first,
                              .last = range.last };
    add_lane(&life->h, how, group, topic, range.first, range.last);
}

static void add_failure(struct life *life, uint32_t group, uint32_t topic,
                        uint64_t seq)
{
    static const char reason[REASON_LEN_MAX];
    struct event *event = adding(life, false);

    *event = (struct event) {
        .kind = EVENT_FAILED,
        .topic = topic,
        .group = group,
        .retry = { .seq = seq,
                   .attempts = ++life->salt, /* no two are the same */
                   .due_us = 1000 + life_draw(life, 100000) },
        .dead = life_draw(life, 3) == 0,
    };
    add_failed(
        &life->h, group, topic,
        (struct failure) { .seq = seq,
                           .attempts = event->retry.attempts,
                           .due_us = event->retry.due_us,
                           .holder = life_draw(life, 100),
                           .cause = CAUSE_NACK,
                           .dead = event->dead,
                           .reason = slice_of(reason, seq % sizeof reason) });
}

/* To anywhere that it may go. */
static void add_some_seek(struct life *life, uint32_t group, uint32_t topic)
{
    const struct model_topic *t = &life->tried.topics[topic];
    uint64_t least = t->floor - 1;
    struct event *event = adding(life, false);

    *event = (struct event) { .kind = EVENT_SEEK,
                              .topic = topic,
                              .group = group,
                              .first = least
                                       + life_draw(life, t->last - least + 1) };
    add_seek(&life->h, group, topic, event->first);
}

/* What is said of these, one way or another. */
static void settle_somehow(struct life *life, uint32_t group, uint32_t topic,
                           struct seq_range range)
{
    static const enum record_kind kinds[] = { RECORD_ACK,      RECORD_ACK,
                                              RECORD_ACK,      RECORD_EXPIRED,
                                              RECORD_FILTERED, RECORD_REDRIVE,
                                              RECORD_BURY,     RECORD_DISCARD };
    const struct model_lane *lane = &life->tried.lanes[group][topic];
    uint64_t kind = life_draw(life, 16);

    if (kind < 8) {
        add_range(life, kinds[kind], group, topic, range);
    } else if (kind < 9 && lane->state[range.first] == MODEL_OPEN) {
        range.last = range.first;
        add_range(life, RECORD_GAP, group, topic, range);
    } else if (kind < 10) {
        add_some_seek(life, group, topic);
    } else {
        add_failure(life, group, topic, range.first);
    }
}

/* Of messages that are not deleted: what is said of those the store has no
 * need to remember. */
void add_settling(struct life *life)
{
    uint32_t topic = some_topic(life);
    uint32_t group = some_group(life);
    const struct model_lane *lane = &life->tried.lanes[group][topic];
    uint64_t last = life->tried.topics[topic].last;
    uint64_t from = life->tried.topics[topic].first;
    struct seq_range range;

    while (from <= last && lane->state[from] >= MODEL_SETTLED) {
        from++;
    }
    if (from > last) {
        return;
    }
    range.first =
        from + life_draw(life, last - from + 1) / (1 + life_draw(life, 4));
    range.last = range.first + life_draw(life, last - range.first + 1);
    settle_somehow(life, group, topic, range);
}

void add_settling_of_all(struct life *life)
{
    uint32_t topic = some_topic(life);
    uint64_t last = life->tried.topics[topic].last;
    uint64_t kept = life_draw(life, 6);

    for (uint32_t group = 1; group < MODEL_GROUPS && last > kept; group++) {
        if (life->tried.facts[CATALOG_GROUP][group] == FACT_LIVE) {
            add_range(life, RECORD_ACK, group, topic,
                      (struct seq_range) { 1, last - kept });
        }
    }
}

void add_fact_of(struct life *life, enum catalog_class class, uint32_t id,
                 bool deleted)
{
    struct event *event = adding(life, false);
    char name[16];
    char value[16];

    event->kind = EVENT_FACT;
    event->class = class;
    event->id = id;
    event->deleted = deleted;
    event->value = deleted ? 0 : ++life->salt;
    snprintf(name, sizeof name, "n%u", id);
    snprintf(value, sizeof value, "v%u", event->value);
    add_fact(&life->h, class, id, name, value, deleted);
}

static unsigned count_live(const struct life *life, enum catalog_class class,
                           uint32_t ids)
{
    unsigned count = 0;

    for (uint32_t id = 1; id < ids; id++) {
        count += life->tried.facts[class][id] == FACT_LIVE;
    }
    return count;
}

/* A topic or a group goes and another comes, or an app changes. Alone in its
 * batch: what else is in there must not be about it. */
void add_some_fact(struct life *life)
{
    uint64_t kind = life_draw(life, 8);
    enum catalog_class class = kind == 0 ? CATALOG_TOPIC : CATALOG_GROUP;
    uint32_t ids = kind == 0 ? MODEL_TOPICS : MODEL_GROUPS;

    if (kind > 1) {
        add_fact_of(life, CATALOG_APP, 1 + (uint32_t)life_draw(life, 9),
                    life_draw(life, 4) == 0);
        return;
    }
    for (uint32_t id = 1; id < ids; id++) {
        if (life->tried.facts[class][id] == FACT_NONE) {
            add_fact_of(life, class, id, false);
            break;
        }
    }
    if (count_live(life, class, ids) > 2) {
        uint32_t id = kind == 0 ? some_topic(life) : some_group(life);
        add_fact_of(life, class, id, true);
    }
}

/* A good part of a segment. */
void add_many(struct life *life)
{
    char body[MODEL_BODY_LEN];

    for (int i = 0; i < 10; i++) {
        uint32_t topic = 1 + (uint32_t)i % 2;
        uint64_t seq = next_seq(life, topic);
        struct event *event = adding(life, false);
        *event = (struct event) { .kind = EVENT_MESSAGE,
                                  .topic = topic,
                                  .first = seq,
                                  .salt = 17 * ++life->salt };
        (void)model_body(topic, event->salt, body);
        add_message(&life->h, topic, body);
    }
}
