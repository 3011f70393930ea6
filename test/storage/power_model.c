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

size_t model_body(uint32_t topic, uint32_t salt, char body[MODEL_BODY_LEN])
{
    size_t len = salt % 17 == 0 ? 2000 + salt % 1000 : 24 + salt % 400;
    int head = snprintf(body, MODEL_BODY_LEN, "%u/%u", topic, salt);

    for (size_t i = (size_t)head; i < len; i++) {
        body[i] = (char)('a' + (salt + i) % 26);
    }
    body[len] = '\0';
    return len;
}

/* ---- what an event does ---- */

static bool settled(const struct model_lane *lane, uint64_t seq)
{
    return lane->state[seq] >= MODEL_SETTLED;
}

static void settle_as(struct model_lane *lane, uint64_t seq,
                      enum model_state state)
{
    if (!settled(lane, seq)) {
        /* How it was settled counts for what is behind the last seek. */
        bool counts = !lane->sought || seq > lane->after;
        lane->state[seq] = (uint8_t)(counts ? state : MODEL_SETTLED);
        lane->attempts[seq] = 0;
        lane->due[seq] = 0;
        lane->failures[seq] = 0;
    }
}

static void do_range(struct model_lane *lane, enum record_kind how,
                     uint64_t seq)
{
    bool dead = lane->state[seq] == MODEL_DEAD;

    switch (how) {
    case RECORD_ACK:
        settle_as(lane, seq, MODEL_SETTLED);
        break;
    case RECORD_GAP:
        settle_as(lane, seq, MODEL_GAP);
        break;
    case RECORD_EXPIRED:
        settle_as(lane, seq, MODEL_EXPIRED);
        break;
    case RECORD_FILTERED:
        settle_as(lane, seq, MODEL_FILTERED);
        break;
    case RECORD_DISCARD:
        if (dead) {
            settle_as(lane, seq, MODEL_DISCARDED);
        }
        break;
    case RECORD_REDRIVE:
        lane->state[seq] = dead ? MODEL_OPEN : lane->state[seq];
        break;
    case RECORD_BURY:
        if (!settled(lane, seq)) {
            lane->state[seq] = MODEL_DEAD;
            lane->attempts[seq] = 0;
            lane->due[seq] = 0;
        }
        break;
    case RECORD_MESSAGE:
    case RECORD_RETRY:
    case RECORD_CATALOG:
    case RECORD_TRIM:
    case RECORD_FAILED:
    case RECORD_SEEK:
        CHECK(!"a range");
    }
}

static void note_range(struct model *model, const struct event *event)
{
    struct model_lane *lane = &model->lanes[event->group][event->topic];

    lane->known = true;
    for (uint64_t seq = event->first; seq <= event->last; seq++) {
        do_range(lane, event->how, seq);
    }
}

static void note_failed(struct model_lane *lane, const struct event *event)
{
    uint64_t seq = event->retry.seq;

    lane->known = true;
    if (settled(lane, seq)) {
        return;
    }
    lane->state[seq] = event->dead ? MODEL_DEAD : MODEL_OPEN;
    lane->attempts[seq] = event->dead ? 0 : event->retry.attempts;
    lane->due[seq] = event->dead ? 0 : event->retry.due_us;
    lane->last_attempts[seq] = event->retry.attempts;
    lane->failures[seq] += lane->failures[seq] < HISTORY_MAX;
}

/* What was settled before may still have its history or not. */
static void note_seek(struct model_lane *lane, uint64_t after)
{
    lane->known = true;
    lane->sought = true;
    lane->after = after;
    for (uint64_t seq = 1; seq < MODEL_SEQS; seq++) {
        bool dead = lane->state[seq] == MODEL_DEAD;
        if (seq > after) {
            lane->state[seq] = MODEL_OPEN;
        } else if (!dead) {
            lane->state[seq] = MODEL_SETTLED;
            lane->failures[seq] = 0;
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
    case EVENT_RANGE:
        note_range(model, event);
        return;
    case EVENT_FAILED:
        note_failed(lane, event);
        return;
    case EVENT_SEEK:
        note_seek(lane, event->first);
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
        const struct model_lane *lane = &model->lanes[group][topic];
        uint64_t after = lane->sought ? 0 : model->after[group][topic];
        if (model->facts[CATALOG_GROUP][group] == FACT_LIVE && seq > after
            && !settled(lane, seq)) {
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

static bool is_as(const struct model_lane *lane, uint64_t seq,
                  enum model_state state)
{
    return state == MODEL_SETTLED ? settled(lane, seq)
                                  : lane->state[seq] == state;
}

static void say_states(struct text *t, const struct model_lane *lane,
                       uint64_t from, const char *what, enum model_state state)
{
    say(t, " %s", what);
    for (uint64_t seq = from; seq < MODEL_SEQS; seq++) {
        uint64_t first = seq;
        while (seq < MODEL_SEQS && is_as(lane, seq, state)) {
            seq++;
        }
        if (seq > first) {
            say_range(t, first, seq - 1);
        }
    }
}

/* Of all its messages, deleted ones too. */
static void say_count(struct text *t, const char *what, uint64_t count)
{
    if (count > 0) {
        say(t, " %s %" PRIu64, what, count);
        t->said++;
    }
}

static uint64_t count_as(const struct model_lane *lane, enum model_state state)
{
    uint64_t count = 0;

    for (uint64_t seq = 1; seq < MODEL_SEQS; seq++) {
        count += lane->state[seq] == state;
    }
    return count;
}

static void say_lane(struct text *t, uint32_t group, uint32_t topic,
                     const struct model_lane *lane, uint64_t from)
{
    begin_lane(t, group, topic);
    say_states(t, lane, from, "acked", MODEL_SETTLED);
    say_states(t, lane, from, "gaps", MODEL_GAP);
    say_states(t, lane, from, "expired", MODEL_EXPIRED);
    say_states(t, lane, from, "dead", MODEL_DEAD);
    say_count(t, "filtered", count_as(lane, MODEL_FILTERED));
    if (lane->sought) {
        say_count(t, "after", lane->after + 1);
    }
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
    say_set(t, "expired", from, lane->expired);
    say_set(t, "dead", from, lane->dead);
    say_count(t, "filtered", lane->filtered);
    if (lane->sought) {
        say_count(t, "after", lane->after + 1);
    }
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

/* ---- histories ---- */

static bool history_is(struct harness *h, uint32_t group, uint32_t topic,
                       uint64_t seq, const struct model_lane *lane)
{
    struct store_failure failures[HISTORY_MAX];
    size_t count;

    return store_view_history(h->view, group, topic, seq, failures, HISTORY_MAX,
                              &count)
               == STATUS_OK
           && count >= lane->failures[seq]
           && (lane->failures[seq] == 0
               || (failures[count - 1].attempts == lane->last_attempts[seq]
                   && failures[count - 1].reason_len == seq % REASON_LEN_MAX));
}

const char *histories_differ(struct harness *h, const struct model *model)
{
    static char text[128];

    text[0] = '\0';
    for (uint32_t group = 1; group < MODEL_GROUPS; group++) {
        for (uint32_t topic = 1; topic < MODEL_TOPICS; topic++) {
            const struct model_lane *lane = &model->lanes[group][topic];
            for (uint64_t seq = model->topics[topic].first;
                 lane->known && seq <= model->topics[topic].last; seq++) {
                if (!settled(lane, seq)
                    && !history_is(h, group, topic, seq, lane)) {
                    snprintf(text, sizeof text,
                             "group %u topic %u seq %" PRIu64
                             ": %u failures, the last one number %u",
                             group, topic, seq, lane->failures[seq],
                             lane->last_attempts[seq]);
                    return text;
                }
            }
        }
    }
    return text;
}

void add_numbered(struct harness *h, uint32_t topic, const char *body,
                  uint32_t producer, uint64_t number, bool more)
{
    uint8_t flags = more ? RECORD_MORE : 0;

    if (producer == MODEL_IDS_BY) { /* halves of a hash */
        add_flagged(h, topic, body, flags | RECORD_ID,
                    (number * UINT64_C(0x9e3779b97f4a7c15)) | 1, number);
    } else {
        add_flagged(h, topic, body, flags, producer, number);
    }
}
