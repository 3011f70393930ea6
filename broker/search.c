#include "broker/search.h"

#include "broker/clock.h"
#include "proto/codec.h"

#include <stdlib.h>

struct search {
    struct search_order order; /* its texts stand in `texts` */
    char texts[KEY_LEN_MAX + TAG_LEN_MAX];
    uint32_t topic;
    struct store_cursor cursor;
    bool begun;
    uint64_t next;            /* the next to look at */
    uint64_t to;              /* the last to look at; UINT64_MAX: no end */
    struct seq_range deleted; /* first 0: none */
    struct seq_range lost;    /* and not told yet; first 0: none */
    uint64_t scanned;
    uint64_t bytes; /* of messages looked at */
    uint64_t us;    /* that it took so far */
    uint64_t found;
    uint64_t found_bytes;
    /* newest: first back to `low`, then forth again over what was found */
    uint64_t low;
    uint64_t behind; /* where it began to go back */
    uint64_t *seqs;  /* found, last one first */
    uint64_t given;  /* of them */
    bool back_done;
};

/* One run of a search. */
struct run {
    struct search *search;
    struct dispatch *dispatch;
    const struct search_out *out;
    const struct topic *topic; /* until out->catch_up() is called */
    enum search_state state;
};

/* ---- making ---- */

static struct slice keep(char *to, struct slice text)
{
    if (text.at == NULL) {
        return text;
    }
    memcpy(to, text.at, text.len);
    return slice_of(to, text.len);
}

enum status search_new(struct search **out, uint32_t topic,
                       const struct search_order *order)
{
    struct search *s = calloc(1, sizeof *s);

    CHECK(order->key.len <= KEY_LEN_MAX && order->tag.len <= TAG_LEN_MAX);
    CHECK(order->count_max > 0);
    if (s != NULL && order->newest) {
        s->seqs = calloc(order->count_max, sizeof *s->seqs);
    }
    if (s == NULL || (order->newest && s->seqs == NULL)) {
        filter_free(order->filter);
        free(s);
        return STATUS_NOMEM;
    }
    s->order = *order;
    s->order.key = keep(s->texts, order->key);
    s->order.tag = keep(s->texts + KEY_LEN_MAX, order->tag);
    s->topic = topic;
    *out = s;
    return STATUS_OK;
}

void search_free(struct search *s)
{
    if (s != NULL) {
        filter_free(s->order.filter);
        free(s->seqs);
        free(s);
    }
}

/* ---- where it begins and ends ---- */

static void begin(struct run *run)
{
    struct search *s = run->search;
    uint64_t first = dispatch_first_seq(run->topic);
    uint64_t last = dispatch_last_seq(run->topic);

    s->begun = true;
    s->next = s->order.from > 0 ? s->order.from : first;
    s->to = s->order.to > 0 ? s->order.to : UINT64_MAX;
    if (s->order.since_us > 0) {
        uint64_t seq =
            dispatch_seq_at(run->dispatch, run->topic, s->order.since_us);

        s->next = seq > s->next ? seq : s->next;
    }
    if (s->order.until_us > 0) {
        uint64_t behind =
            dispatch_seq_at(run->dispatch, run->topic, s->order.until_us + 1);

        s->to = behind - 1 < s->to ? behind - 1 : s->to;
    }
    if (s->order.newest) {
        s->low = s->next > first ? s->next : first;
        s->next = (s->to < last ? s->to : last) + 1;
        s->behind = s->next;
    }
}

/* ---- one message ---- */

static bool same(struct slice wanted, struct slice have)
{
    return wanted.at == NULL || slice_equal(wanted, have);
}

static bool matches(const struct search *s, const struct record *record)
{
    const struct search_order *o = &s->order;
    struct wire_message message;
    struct refusal refusal;

    if ((o->since_us > 0 && record->time_us < o->since_us)
        || (o->until_us > 0 && record->time_us > o->until_us)) {
        return false;
    }
    if (o->key.at == NULL && o->tag.at == NULL && o->filter == NULL) {
        return true;
    }
    return codec_message_check(record->body, &message, &refusal) == STATUS_OK
           && same(o->key, message.key) && same(o->tag, message.tag)
           && (o->filter == NULL || filter_match(o->filter, &message));
}

static void tell_lost(struct run *run)
{
    struct search *s = run->search;

    if (s->lost.first > 0) {
        run->out->lost(run->out->arg, run->topic->name, s->lost);
        s->lost = (struct seq_range) { 0 };
    }
}

/* Neighbours are one gap. */
static void note_lost(struct run *run, uint64_t first, uint64_t last)
{
    struct search *s = run->search;

    if (s->lost.first > 0 && s->lost.last + 1 == first) {
        s->lost.last = last;
    } else if (s->lost.first > 0 && last + 1 == s->lost.first) {
        s->lost.first = first;
    } else {
        tell_lost(run);
        s->lost = (struct seq_range) { first, last };
    }
}

static void give(struct run *run, const struct record *record, uint64_t seq)
{
    const struct wire_delivery delivery = {
        .seq = seq,
        .time_us = record->time_us,
        .message = record->body,
    };

    tell_lost(run);
    run->out->found(run->out->arg, run->topic->name, &delivery);
}

/* The messages of a pull's answer and of a search's are bounded alike. */
static bool has_room_for(const struct search *s, const struct record *record)
{
    return s->found == 0
           || (s->found < s->order.count_max
               && s->found_bytes + record->body.len <= PULL_BYTES_MAX);
}

static void count(struct search *s, const struct record *record)
{
    s->scanned++;
    s->bytes += record->body.len;
}

/* The store does not have `seq`. When all commits there are have been read, it
 * was either deleted by one of them or is lost. STATUS_NOT_FOUND: the whole
 * topic was. */
static enum status catch_up(struct run *run)
{
    run->out->catch_up(run->out->arg);
    run->topic = catalog_topic_by_id(dispatch_catalog(run->dispatch),
                                     run->search->topic);
    return run->topic == NULL ? STATUS_NOT_FOUND : STATUS_OK;
}

/* ---- forth ---- */

static void skip_deleted(struct search *s, uint64_t first)
{
    uint64_t last = s->to < first - 1 ? s->to : first - 1;

    if (s->next <= last) {
        s->deleted = (struct seq_range) { s->next, last };
    }
    s->next = first;
}

static enum status lose_forth(struct run *run, enum status status,
                              uint64_t next_seq)
{
    struct search *s = run->search;
    uint64_t seq = s->next;
    uint64_t last = seq;

    if (catch_up(run) != STATUS_OK) {
        return STATUS_NOT_FOUND;
    }
    if (dispatch_first_seq(run->topic) > seq) {
        return STATUS_OK; /* it was deleted just now */
    }
    if (status == STATUS_NOT_FOUND) {
        last = next_seq > seq ? next_seq - 1 : dispatch_last_seq(run->topic);
    }
    last = last < s->to ? last : s->to;
    s->scanned++; /* of one stretch */
    note_lost(run, seq, last);
    s->next = last + 1;
    return STATUS_OK;
}

/* One step. True: the run is over, or something failed. */
static bool step_forth(struct run *run, enum status *failed)
{
    struct search *s = run->search;
    uint64_t last = dispatch_last_seq(run->topic);
    uint64_t first = dispatch_first_seq(run->topic);
    uint64_t next_seq = 0;
    struct record record;
    enum status status;

    if (s->next < first) {
        skip_deleted(s, first);
    }
    if (s->next > last || s->next > s->to) {
        run->state = s->next > s->to ? SEARCH_DONE : SEARCH_AT_END;
        return true;
    }
    if (s->found == s->order.count_max) {
        run->state = SEARCH_BOUND;
        return true;
    }
    status = dispatch_read(run->dispatch, &s->cursor, run->topic, s->next,
                           &record, &next_seq);
    if (status != STATUS_OK) {
        *failed = status == STATUS_NOT_FOUND || status == STATUS_CORRUPT
                      ? lose_forth(run, status, next_seq)
                      : status;
        return *failed != STATUS_OK;
    }
    if (matches(s, &record)) {
        if (!has_room_for(s, &record)) {
            run->state = SEARCH_BOUND;
            return true;
        }
        give(run, &record, s->next);
        s->found++;
        s->found_bytes += record.body.len;
    }
    count(s, &record);
    s->next++;
    return false;
}

/* ---- back, and forth again ---- */

static enum status lose_back(struct run *run, uint64_t seq)
{
    struct search *s = run->search;

    if (catch_up(run) != STATUS_OK) {
        return STATUS_NOT_FOUND;
    }
    if (dispatch_first_seq(run->topic) > seq) {
        return STATUS_OK; /* the next step sees it */
    }
    s->scanned++;
    s->next = seq;
    note_lost(run, seq, seq);
    return STATUS_OK;
}

static bool step_back(struct run *run, enum status *failed)
{
    struct search *s = run->search;
    uint64_t first = dispatch_first_seq(run->topic);
    struct record record;
    enum status status;
    uint64_t seq = s->next - 1;

    s->low = s->low > first ? s->low : first;
    if (seq < s->low || s->found == s->order.count_max) {
        s->back_done = true;
        tell_lost(run);
        return false;
    }
    status = dispatch_read(run->dispatch, &s->cursor, run->topic, seq, &record,
                           NULL);
    if (status != STATUS_OK) {
        *failed = status == STATUS_NOT_FOUND || status == STATUS_CORRUPT
                      ? lose_back(run, seq)
                      : status;
        return *failed != STATUS_OK;
    }
    if (matches(s, &record)) {
        if (!has_room_for(s, &record)) {
            s->back_done = true;
            return false;
        }
        s->seqs[s->found++] = seq;
        s->found_bytes += record.body.len;
    }
    count(s, &record);
    s->next = seq;
    return false;
}

/* What is not there any more is left out. */
static bool step_give(struct run *run)
{
    struct search *s = run->search;
    struct record record;
    uint64_t seq;

    if (s->given == s->found) {
        run->state = s->next <= s->low ? SEARCH_DONE : SEARCH_BOUND;
        return true;
    }
    seq = s->seqs[s->found - 1 - s->given++];
    if (seq >= dispatch_first_seq(run->topic)
        && dispatch_read(run->dispatch, &s->cursor, run->topic, seq, &record,
                         NULL)
               == STATUS_OK) {
        give(run, &record, seq);
    }
    return false;
}

/* ---- runs ---- */

static bool used_up(const struct search *s, uint64_t us)
{
    return s->scanned >= SEARCH_MESSAGES_MAX || s->bytes >= SEARCH_BYTES_MAX
           || s->us + us >= SEARCH_US_MAX;
}

static bool step(struct run *run, enum status *failed)
{
    struct search *s = run->search;

    if (!s->order.newest) {
        return step_forth(run, failed);
    }
    return s->back_done ? step_give(run) : step_back(run, failed);
}

enum status search_run(struct search *s, struct dispatch *d,
                       const struct search_out *out, uint64_t until_us,
                       enum search_state *state)
{
    struct run run = { .search = s, .dispatch = d, .out = out };
    uint64_t began_us = clock_monotonic_us();
    uint64_t now_us = began_us;
    enum status failed = STATUS_OK;

    run.topic = catalog_topic_by_id(dispatch_catalog(d), s->topic);
    if (run.topic == NULL) {
        return STATUS_NOT_FOUND;
    }
    if (!s->begun) {
        begin(&run);
    }
    run.state = SEARCH_GOES_ON;
    while (!step(&run, &failed)) {
        now_us = clock_monotonic_us();
        if (used_up(s, now_us - began_us) && !s->back_done) {
            if (!s->order.newest) {
                run.state = SEARCH_BOUND;
                break;
            }
            s->back_done = true; /* what was found is to be given */
            tell_lost(&run);
        }
        if (now_us >= until_us) {
            break;
        }
    }
    s->us += now_us - began_us;
    if (failed != STATUS_OK) {
        return failed;
    }
    if (run.state != SEARCH_GOES_ON) {
        tell_lost(&run);
    }
    *state = run.state;
    return STATUS_OK;
}

void search_result(const struct search *s, const struct dispatch *d,
                   struct search_result *out)
{
    const struct topic *topic =
        catalog_topic_by_id(dispatch_catalog(d), s->topic);
    uint64_t last = topic == NULL ? 0 : dispatch_last_seq(topic);
    bool newest = s->order.newest;

    *out = (struct search_result) {
        .next_seq = newest ? s->behind : s->next,
        .scanned = s->scanned,
        .found = s->found,
        .first_seq = topic == NULL ? 1 : dispatch_first_seq(topic),
        .last_seq = last,
        .deleted = s->deleted,
        .done = newest ? s->next <= s->low : s->next > s->to || s->next > last,
    };
}
