#include "test/storage/power_model.h"

#include "proto/check.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void model_init(struct model *model)
{
    memset(model, 0, sizeof *model);
    for (int i = 0; i < MODEL_TOPICS; i++) {
        model->topics[i].first = model->topics[i].floor = 1;
    }
}

size_t model_body(uint32_t topic, uint64_t seq, uint32_t salt,
                  char body[MODEL_BODY_LEN])
{
    size_t len = salt % 17 == 0 ? 2000 + salt % 1000 : 24 + salt % 400;
    int head =
        snprintf(body, MODEL_BODY_LEN, "%u/%" PRIu64 "/%u", topic, seq, salt);

    for (size_t i = (size_t)head; i < len; i++) {
        body[i] = (char)('a' + (salt + i) % 26);
    }
    body[len] = '\0';
    return len;
}

/* ---- what an event does ---- */

static bool settled(const struct model_lane *lane, uint64_t seq)
{
    return lane->state[seq] != 0;
}

static void settle(struct model *model, const struct event *event)
{
    struct model_lane *lane = &model->lanes[event->group][event->topic];

    lane->known = true;
    for (uint64_t seq = event->first; seq <= event->last; seq++) {
        if (lane->state[seq] == 0) {
            lane->state[seq] = event->kind == EVENT_GAP ? 2 : 1;
        }
        lane->attempts[seq] = 0;
        lane->due[seq] = 0;
    }
}

static void note_message(struct model *model, const struct event *event)
{
    struct model_topic *topic = &model->topics[event->topic];

    CHECK(event->first == topic->last + 1 && event->first < MODEL_SEQS);
    topic->last = event->first;
    topic->salts[event->first] = event->salt;
    if (event->producer != 0) {
        model->numbers[event->producer] = event->number;
        model->number_topics[event->producer] = event->topic;
        model->number_seqs[event->producer] = event->first;
    }
}

static void note_fact(struct model *model, const struct event *event)
{
    if (event->class == CATALOG_GROUP
        && model->facts[CATALOG_GROUP][event->id] == FACT_NONE) {
        for (uint32_t topic = 0; topic < MODEL_TOPICS; topic++) {
            model->after[event->id][topic] = model->topics[topic].floor - 1;
        }
    }
    model->facts[event->class][event->id] =
        event->deleted ? FACT_DELETED : FACT_LIVE;
    model->values[event->class][event->id] = event->value;
    if (!event->deleted || event->class == CATALOG_APP) {
        return;
    }
    for (uint32_t group = 0; group < MODEL_GROUPS; group++) {
        for (uint32_t topic = 0; topic < MODEL_TOPICS; topic++) {
            uint32_t id = event->class == CATALOG_TOPIC ? topic : group;
            if (id == event->id) {
                memset(&model->lanes[group][topic], 0,
                       sizeof model->lanes[group][topic]);
            }
        }
    }
}

void model_apply(struct model *model, const struct event *event)
{
    struct model_topic *topic = &model->topics[event->topic];
    struct model_lane *lane = &model->lanes[event->group][event->topic];

    CHECK(event->topic < MODEL_TOPICS && event->group < MODEL_GROUPS);
    switch (event->kind) {
    case EVENT_MESSAGE:
        note_message(model, event);
        return;
    case EVENT_ACK:
    case EVENT_GAP:
        settle(model, event);
        return;
    case EVENT_RETRY:
        lane->known = true;
        if (!settled(lane, event->retry.seq)) {
            lane->attempts[event->retry.seq] = event->retry.attempts;
            lane->due[event->retry.seq] = event->retry.due_us;
        }
        return;
    case EVENT_FACT:
        note_fact(model, event);
        return;
    case EVENT_TRIM:
        topic->trimmed = true;
        topic->first =
            event->first > topic->first ? event->first : topic->first;
        topic->floor = event->last > topic->floor ? event->last : topic->floor;
        return;
    }
}

/* ---- what may go ---- */

bool model_is_gone(const struct model *model, uint32_t topic, uint64_t seq)
{
    return seq < model->topics[topic].first;
}

bool model_may_go(const struct model *model, uint32_t topic, uint64_t seq)
{
    if (model->facts[CATALOG_TOPIC][topic] == FACT_DELETED) {
        return true;
    }
    if (seq >= model->topics[topic].floor) {
        return false;
    }
    for (uint32_t group = 1; group < MODEL_GROUPS; group++) {
        if (model->facts[CATALOG_GROUP][group] == FACT_LIVE
            && seq > model->after[group][topic]
            && !settled(&model->lanes[group][topic], seq)) {
            return false;
        }
    }
    return true;
}

/* ---- text ---- */

/* Of what is deleted for everybody a lane keeps only how much was settled, and
 * that not to the letter: it is left out here, and so is a lane that says
 * nothing else. */
struct text {
    char *at;
    size_t len;
    uint64_t first[MODEL_TOPICS]; /* of the store's topics */
    size_t lane;                  /* where the last one begins, */
    size_t said;                  /* and what was said of it */
};

__attribute__((format(printf, 2, 3))) static void say(struct text *t,
                                                      const char *format, ...)
{
    va_list args;
    int added;

    va_start(args, format);
    added = vsnprintf(t->at + t->len, MODEL_TEXT_LEN - t->len, format, args);
    va_end(args);
    CHECK(added >= 0 && (size_t)added < MODEL_TEXT_LEN - t->len);
    t->len += (size_t)added;
}

static void begin_lane(struct text *t, uint32_t group, uint32_t topic)
{
    t->lane = t->len;
    t->said = 0;
    say(t, "lane %u %u", group, topic);
}

static void say_range(struct text *t, uint64_t first, uint64_t last)
{
    say(t, " %" PRIu64 "-%" PRIu64, first, last);
    t->said++;
}

static void say_retry(struct text *t, const struct retry *retry)
{
    say(t, " retry %" PRIu64 " %u %" PRIu64, retry->seq, retry->attempts,
        retry->due_us);
    t->said++;
}

static void end_lane(struct text *t)
{
    if (t->said == 0) {
        t->len = t->lane;
        t->at[t->len] = '\0';
    } else {
        say(t, "\n");
    }
}

static void say_states(struct text *t, const struct model_lane *lane,
                       uint64_t from, const char *what, bool gaps)
{
    say(t, " %s", what);
    for (uint64_t seq = from; seq < MODEL_SEQS; seq++) {
        uint64_t first = seq;
        while (seq < MODEL_SEQS
               && (gaps ? lane->state[seq] == 2 : settled(lane, seq))) {
            seq++;
        }
        if (seq > first) {
            say_range(t, first, seq - 1);
        }
    }
}

static void say_lane(struct text *t, uint32_t group, uint32_t topic,
                     const struct model_lane *lane, uint64_t from)
{
    begin_lane(t, group, topic);
    say_states(t, lane, from, "acked", false);
    say_states(t, lane, from, "gaps", true);
    for (uint64_t seq = from; seq < MODEL_SEQS; seq++) {
        if (lane->attempts[seq] != 0) {
            const struct retry retry = { .seq = seq,
                                         .attempts = lane->attempts[seq],
                                         .due_us = lane->due[seq] };
            say_retry(t, &retry);
        }
    }
    end_lane(t);
}

void model_text(const struct model *model, char text[MODEL_TEXT_LEN])
{
    struct text t = { .at = text };

    text[0] = '\0';
    for (uint32_t i = 1; i < MODEL_TOPICS; i++) {
        const struct model_topic *topic = &model->topics[i];
        if (topic->last > 0 || topic->trimmed) {
            say(&t,
                "topic %u last %" PRIu64 " first %" PRIu64 " floor %" PRIu64
                "\n",
                i, topic->last, topic->first, topic->floor);
        }
    }
    for (uint32_t group = 1; group < MODEL_GROUPS; group++) {
        for (uint32_t topic = 1; topic < MODEL_TOPICS; topic++) {
            if (model->lanes[group][topic].known) {
                say_lane(&t, group, topic, &model->lanes[group][topic],
                         model->topics[topic].first);
            }
        }
    }
    for (int class = CATALOG_APP; class <= CATALOG_GROUP; class ++) {
        uint32_t last = 0;
        for (uint32_t id = 1; id < MODEL_IDS; id++) {
            if (model->facts[class][id] == FACT_LIVE) {
                say(&t, "fact %d %u n%u=v%u\n", class, id, id,
                    model->values[class][id]);
            }
            last = model->facts[class][id] != FACT_NONE ? id : last;
        }
        say(&t, "last id %d %u\n", class, last);
    }
}

static void on_topic(void *arg, const struct store_topic *topic)
{
    struct text *t = arg;

    if (topic->topic < MODEL_TOPICS) {
        t->first[topic->topic] = topic->first_seq;
    }
    say(arg, "topic %u last %" PRIu64 " first %" PRIu64 " floor %" PRIu64 "\n",
        topic->topic, topic->last_seq, topic->first_seq, topic->floor_seq);
}

static void say_set(struct text *t, const char *what, uint64_t from,
                    const struct seqset *set)
{
    say(t, " %s", what);
    for (size_t i = 0; i < seqset_range_count(set); i++) {
        const struct seq_range *r = &seqset_ranges(set)[i];
        if (r->last >= from) {
            say_range(t, r->first < from ? from : r->first, r->last);
        }
    }
}

static void on_lane(void *arg, const struct store_lane *lane)
{
    struct text *t = arg;
    uint64_t from = lane->topic < MODEL_TOPICS ? t->first[lane->topic] : 0;

    begin_lane(t, lane->group, lane->topic);
    say_set(t, "acked", from, lane->acked);
    say_set(t, "gaps", from, lane->gaps);
    for (size_t i = 0; i < lane->retry_count; i++) {
        if (lane->retries[i].seq >= from) {
            say_retry(t, &lane->retries[i]);
        }
    }
    end_lane(t);
}

struct facts {
    struct text *t;
    int class;
};

static void on_fact(void *arg, const struct record_fact *fact)
{
    struct facts *f = arg;

    if ((int)fact->class == f->class) {
        say(f->t, "fact %d %u %.*s=%.*s\n", f->class, fact->id,
            (int)fact->name.len, (const char *)fact->name.at,
            (int)fact->value.len, (const char *)fact->value.at);
    }
}

void store_text(struct harness *h, char text[MODEL_TEXT_LEN])
{
    struct text t = { .at = text };
    enum status status;

    text[0] = '\0';
    status = store_each_topic(h->store, on_topic, &t);
    if (status == STATUS_OK) {
        status = store_each_lane(h->store, on_lane, &t);
    }
    for (int class = CATALOG_APP; class <= CATALOG_GROUP; class ++) {
        struct facts facts = { &t, class };
        uint32_t last = 0;
        if (status == STATUS_OK) {
            status = store_each_fact(h->store, on_fact, &facts);
        }
        if (status == STATUS_OK) {
            status = store_last_id(h->store, (enum catalog_class) class, &last);
        }
        say(&t, "last id %d %u\n", class, last);
    }
    if (status != STATUS_OK) {
        say(&t, "failed: %s\n", status_word(status));
    }
}
