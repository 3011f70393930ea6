#include "test/history/inside.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static const char *const rule_texts[RULE_COUNT] = {
    "the ledger contradicts itself",
    "a confirmed message is delivered, retained, dead or expired by rule",
    "nothing is delivered that was not published",
    "payload, headers and key arrive as they were sent",
    "first deliveries come in publish order per producer and key",
    "attempts count, and come no sooner than the lease ends",
    "after an accepted ack there is no delivery",
    "no two live leases for one message in one group",
    "the books balance, and say what the clients know",
    "a dead message is dead once, intact and with a cause",
    "positions never go back",
    "no tenant sees another's message",
    "with faults off everything drains in time",
    "nothing comes before its time"
};

const char *history_rule_text(int rule)
{
    return rule >= 0 && rule < RULE_COUNT ? rule_texts[rule] : "?";
}

/* ---- faults ---- */

uint64_t where(const struct history *h)
{
    return (uint64_t)(h->event.file + 1) << 40 | h->event.line;
}

const char *where_text(const struct history *h, uint64_t at, char *text,
                       size_t len)
{
    uint32_t file = (uint32_t)(at >> 40);

    (void)snprintf(text, len, "%s:%llu",
                   file == 0 ? "?" : ledgers_name(h->ledgers, file - 1),
                   (unsigned long long)(at & ((UINT64_C(1) << 40) - 1)));
    return text;
}

static void print_line(const struct history *h)
{
    const struct event *e = &h->event;

    (void)fprintf(h->options.out, "    %s:%u: %llu %.*s",
                  ledgers_name(h->ledgers, e->file), (unsigned)e->line,
                  (unsigned long long)e->us, (int)e->word.len, e->word.at);
    for (size_t i = 0; i < e->count; i++) {
        (void)fprintf(h->options.out, " %.*s", (int)e->fields[i].len,
                      e->fields[i].at);
    }
    (void)fputc('\n', h->options.out);
}

void fault(struct history *h, enum rule rule, const char *format, ...)
{
    va_list args;

    h->figures.faults[rule]++;
    if (h->figures.fault_count++ >= h->options.faults_max
        || h->options.out == NULL) {
        return;
    }
    (void)fprintf(h->options.out, "invariant %d (%s): ", (int)rule,
                  rule_texts[rule]);
    va_start(args, format);
    (void)vfprintf(h->options.out, format, args);
    va_end(args);
    (void)fputc('\n', h->options.out);
    if (h->in_event) {
        print_line(h);
    }
}

/* ---- fields ---- */

bool get_number(struct history *h, size_t index, uint64_t *out)
{
    if (field_number(&h->event.fields[index], out)) {
        return true;
    }
    fault(h, RULE_LEDGER, "field %zu is no number", index + 1);
    return false;
}

uint32_t get_name(struct history *h, size_t index)
{
    const struct field *field = &h->event.fields[index];

    return names_add(&h->names, field->at, field->len);
}

struct topic *get_topic(struct history *h, size_t index, uint32_t *name)
{
    *name = get_name(h, index);
    if (*name < h->topics_room && h->topics[*name].known) {
        return &h->topics[*name];
    }
    fault(h, RULE_LEDGER, "there is no topic %s", names_text(&h->names, *name));
    return NULL;
}

bool get_seq(struct history *h, const struct topic *topic, size_t index,
             uint64_t *out)
{
    if (!get_number(h, index, out)) {
        return false;
    }
    if (*out == 0 || *out > topic->sent) {
        fault(h, RULE_INVENTED, "seq %llu of a topic with %llu publishes",
              (unsigned long long)*out, (unsigned long long)topic->sent);
        return false;
    }
    return true;
}

bool get_range(struct history *h, const struct topic *topic, size_t index,
               uint64_t *first, uint64_t *last)
{
    if (!get_seq(h, topic, index, first)
        || !get_seq(h, topic, index + 1, last)) {
        return false;
    }
    if (*first > *last) {
        fault(h, RULE_LEDGER, "a range that ends before it begins");
        return false;
    }
    return true;
}

uint32_t get_session(struct history *h)
{
    uint64_t number;
    const uint64_t *session;

    if (!get_number(h, 0, &number)) {
        return 0;
    }
    session = table_find(&this_file(h)->sessions, number + 1);
    if (session == NULL) {
        fault(h, RULE_LEDGER, "there is no session %llu in this file",
              (unsigned long long)number);
        return 0;
    }
    return (uint32_t)*session;
}

static uint64_t lane_key(uint32_t group, uint32_t topic)
{
    return (uint64_t)group << 32 | topic;
}

uint32_t get_lane(struct history *h, uint32_t group, uint32_t topic)
{
    const uint64_t *lane = table_find(&h->lane_of, lane_key(group, topic));

    if (lane == NULL) {
        fault(h, RULE_INVENTED, "group %s does not take topic %s",
              names_text(&h->names, group), names_text(&h->names, topic));
        return 0;
    }
    return (uint32_t)*lane;
}

uint64_t message_id(uint32_t producer, uint64_t counter)
{
    return (uint64_t)producer << 38 | counter;
}

struct message *message_at(struct history *h, uint64_t id)
{
    struct producer *p = &h->producers[id >> 38];

    return &p->messages[(id & (COUNTER_MAX - 1)) - 1];
}

struct message *get_message(struct history *h, size_t index, uint64_t *id)
{
    const struct field *name = &h->event.fields[index];
    const uint64_t *number =
        table_find(&h->producer_of, names_find(&h->names, name->at, name->len));
    uint64_t counter;

    if (!field_number(&h->event.fields[index + 1], &counter) || number == NULL
        || counter == 0 || counter > h->producers[*number].count) {
        return NULL;
    }
    *id = message_id((uint32_t)*number, counter);
    return message_at(h, *id);
}

/* ---- state ---- */

uint64_t pending_key(uint32_t file, uint32_t lane, uint64_t seq)
{
    return (uint64_t)file << 48 | (uint64_t)lane << 38 | (seq & (SEQ_MAX - 1));
}

struct file *this_file(struct history *h)
{
    return &h->files[h->event.file];
}

struct copy *copy_at(struct history *h, uint32_t lane, uint64_t seq)
{
    struct lane *l = &h->lanes[lane];

    l->copies = grown(l->copies, &l->room, seq, sizeof *l->copies);
    return &l->copies[seq - 1];
}

/* ---- lines about the run ---- */

static void on_client(struct history *h)
{
    if (this_file(h)->client != 0) {
        fault(h, RULE_LEDGER, "a second client in one file");
    }
    this_file(h)->client = get_name(h, 0);
}

static void on_param(struct history *h)
{
    uint64_t value;

    if (!get_number(h, 1, &value)) {
        return;
    }
    if (field_is(&h->event.fields[0], "grace_us")) {
        h->grace_us = value;
    } else if (field_is(&h->event.fields[0], "drain_us")) {
        h->drain_max_us = value;
    } else if (field_is(&h->event.fields[0], "damage")) {
        h->damage = value != 0;
    } else {
        fault(h, RULE_LEDGER, "no such parameter");
    }
}

static void on_topic(struct history *h)
{
    uint32_t name = get_name(h, 0);
    struct topic *topic;

    h->topics = grown(h->topics, &h->topics_room, name + 1u, sizeof *topic);
    topic = &h->topics[name];
    if (topic->known) {
        fault(h, RULE_LEDGER, "the topic is there already");
        return;
    }
    *topic =
        (struct topic) { .tenant = get_name(h, 1), .first = 1, .floor = 1 };
    topic->keep =
        field_is(&h->event.fields[2], "limit") ? KEEP_LIMIT : KEEP_SETTLED;
    topic->known = get_number(h, 3, &topic->count_max)
                   && get_number(h, 4, &topic->age_us)
                   && get_number(h, 5, &topic->ttl_us);
}

static void on_group(struct history *h)
{
    uint32_t topic_name;
    uint32_t group = get_name(h, 0);
    const struct topic *topic = get_topic(h, 2, &topic_name);
    struct lane lane = { .group = group, .tenant = get_name(h, 1) };
    uint64_t *number;

    if (topic == NULL || !get_number(h, 4, &lane.asked_us)
        || !get_number(h, 5, &lane.lease_us)
        || !get_number(h, 6, &lane.attempts_max)) {
        return;
    }
    number = table_put(&h->lane_of, lane_key(group, topic_name));
    if (*number != 0 || h->lane_count + 1 == LANE_COUNT_MAX) {
        fault(h, RULE_LEDGER, "the lane is there already, or too many");
        return;
    }
    *number = ++h->lane_count;
    lane.topic = topic_name;
    lane.ordered =
        h->event.count > 7 && field_is(&h->event.fields[7], "ordered");
    lane.earliest = field_is(&h->event.fields[3], "earliest");
    lane.made_us = h->event.us;
    h->lanes = grown(h->lanes, &h->lanes_room, h->lane_count + 1u, sizeof lane);
    h->lanes[h->lane_count] = lane;
    h->groups =
        grown(h->groups, &h->groups_room, group + 1u, sizeof *h->groups);
    h->groups[group].known = true;
}

static void on_up(struct history *h)
{
    if (h->up) {
        fault(h, RULE_LEDGER, "the broker runs already");
    }
    h->up = true;
    h->up_us = h->event.us;
}

static void on_kill(struct history *h)
{
    if (!h->up) {
        fault(h, RULE_LEDGER, "the broker does not run");
    }
    h->up = false;
    h->life++;
    h->kill_us = h->event.us;
    h->figures.kills++;
}

static void on_cut(struct history *h)
{
    h->cut_us = h->event.us;
}

static void on_dying(struct history *h)
{
    uint32_t name = get_name(h, 0);

    for (uint32_t i = 0; i < ledgers_count(h->ledgers); i++) {
        if (h->files[i].client == name && h->files[i].dying_us == 0) {
            h->files[i].dying_us = h->event.us;
            return;
        }
    }
    fault(h, RULE_LEDGER, "no client of this name lives");
}

static void on_drain(struct history *h)
{
    if (h->drain_us != 0) {
        fault(h, RULE_LEDGER, "a second drain");
    }
    h->drain_us = h->event.us;
}

static void on_drained(struct history *h)
{
    if (h->drain_us == 0 || h->drained_us != 0) {
        fault(h, RULE_LEDGER, "drained without a drain, or twice");
    }
    h->drained_us = h->event.us;
    if (h->drain_max_us != 0 && h->event.us - h->drain_us > h->drain_max_us) {
        fault(h, RULE_DRAIN, "it took longer than %llu us",
              (unsigned long long)h->drain_max_us);
    }
}

static void on_end(struct history *h)
{
    struct file *file = this_file(h);

    if (file->pending > 0) {
        fault(h, RULE_LEDGER, "%llu settlements were never answered",
              (unsigned long long)file->pending);
    }
    if (file->open_sessions > 0) {
        fault(h, RULE_LEDGER, "%u sessions never ended",
              (unsigned)file->open_sessions);
    }
    file->ended = true;
}

/* ---- the stream ---- */

struct line {
    const char *word;
    size_t count_min, count_max; /* fields */
    void (*fn)(struct history *h);
};

/* The frequent ones first. */
static const struct line lines[] = {
    { "got", 8, 8, on_got },         { "settle", 5, 6, on_settle },
    { "outcome", 5, 5, on_outcome }, { "send", 5, 6, on_send },
    { "ok", 4, 5, on_ok },           { "pull", 1, 1, on_pull },
    { "pulled", 2, 2, on_pulled },   { "no", 3, 3, on_no },
    { "unknown", 2, 2, on_unknown }, { "attach", 4, 4, on_attach },
    { "leave", 1, 1, on_leave },     { "lost", 1, 1, on_lost },
    { "gap", 4, 4, on_gap },         { "dead", 9, 9, on_dead },
    { "expired", 3, 3, on_expired }, { "at", 4, 4, on_at },
    { "books", 11, 11, on_books },   { "client", 1, 1, on_client },
    { "param", 2, 2, on_param },     { "topic", 6, 6, on_topic },
    { "group", 7, 8, on_group },     { "up", 0, 0, on_up },
    { "kill", 0, 0, on_kill },       { "cut", 0, 0, on_cut },
    { "dying", 1, 1, on_dying },     { "drain", 0, 0, on_drain },
    { "drained", 0, 0, on_drained }, { "end", 0, 0, on_end },
    { "redrive", 4, 4, on_redrive },
};

static const struct line *line_of(const struct field *word)
{
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        if (lines[i].word[0] == word->at[0] && field_is(word, lines[i].word)) {
            return &lines[i];
        }
    }
    return NULL;
}

static void take(struct history *h)
{
    const struct line *line = line_of(&h->event.word);

    h->figures.events++;
    suspicions_until(h, h->event.us);
    if (h->event.backwards) {
        fault(h, RULE_LEDGER, "earlier than the line before");
    }
    if (this_file(h)->ended) {
        fault(h, RULE_LEDGER, "a line after the end");
    }
    if (line == NULL || h->event.count < line->count_min
        || h->event.count > line->count_max) {
        fault(h, RULE_LEDGER, "no such line");
        return;
    }
    if (this_file(h)->client == 0 && line->fn != on_client) {
        fault(h, RULE_LEDGER, "a ledger begins with its client");
        this_file(h)->client = UINT32_MAX;
    }
    line->fn(h);
}

bool history_check(struct history *h)
{
    enum ledgers_next next;

    h->files = grown(h->files, &h->files_room, ledgers_count(h->ledgers) + 1u,
                     sizeof *h->files);
    while ((next = ledgers_next(h->ledgers, &h->event)) != LEDGERS_END) {
        h->in_event = true;
        if (next == LEDGERS_EVENT) {
            take(h);
        } else {
            h->event.count = 0;
            h->event.word = (struct field) { "(malformed)", 11 };
            fault(h, RULE_LEDGER, "not a line of a ledger");
        }
    }
    h->in_event = false;
    suspicions_until(h, UINT64_MAX);
    check_end(h);
    return h->figures.fault_count == 0;
}

/* ---- life ---- */

struct history *history_new(const struct history_options *options)
{
    size_t room = 0;
    struct history *h = grown(NULL, &room, 1, sizeof *h);

    h->options = *options;
    h->ledgers = ledgers_new();
    h->grace_us = 1000000;
    return h;
}

bool history_add_file(struct history *h, const char *path)
{
    return ledgers_add_file(h->ledgers, path);
}

void history_add_text(struct history *h, const char *name, const char *text,
                      size_t len)
{
    ledgers_add_text(h->ledgers, name, text, len);
}

const struct history_figures *history_figures(const struct history *h)
{
    return &h->figures;
}

void history_free(struct history *h)
{
    if (h == NULL) {
        return;
    }
    for (size_t i = 0; i < h->files_room; i++) {
        table_fini(&h->files[i].sessions);
    }
    for (size_t i = 0; i < h->topics_room; i++) {
        free(h->topics[i].by_seq);
    }
    for (size_t i = 0; i < h->producers_room; i++) {
        free(h->producers[i].messages);
    }
    for (size_t i = 0; i < h->lanes_room; i++) {
        free(h->lanes[i].copies);
    }
    free(h->files);
    free(h->topics);
    free(h->groups);
    free(h->producers);
    free(h->sessions);
    free(h->lanes);
    free(h->suspicions);
    free(h->overtaken);
    table_fini(&h->producer_of);
    table_fini(&h->lane_of);
    table_fini(&h->pending);
    table_fini(&h->pairs);
    table_fini(&h->newest);
    table_fini(&h->furthest);
    names_fini(&h->names);
    ledgers_free(h->ledgers);
    free(h);
}
