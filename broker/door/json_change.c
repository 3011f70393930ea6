/* Bodies that create or change an app, a topic or a group. What is out of range
 * here is only what would not fit the request; the rest is the catalog's. */
#include "broker/door/json_read.h"

#include "broker/door/json_fields.h"

#include <stdlib.h>

/* ---- words ---- */

/* One of `words`, by its index, which begins at 1; `want` names them all. */
static unsigned field_word(struct fields *f, const char *key,
                           const char *const *words, size_t count,
                           const char *want)
{
    struct slice text = { 0 };

    field_any_text(f, key, &text);
    for (unsigned i = 1; f->status == STATUS_OK && i < count; i++) {
        if (slice_is(text, words[i])) {
            return i;
        }
    }
    if (f->status == STATUS_OK) {
        field_wrong(f, key, want);
    }
    return 0;
}

/* A string "a,b" or an array of strings. */
static void field_patterns(struct fields *f, const char *key,
                           struct patterns *out)
{
    struct slice text = { 0 };

    switch (field_kind(f, key)) {
    case FIELD_ABSENT:
        return;
    case FIELD_TEXT:
        field_any_text(f, key, &text);
        f->status = patterns_add(out, text, f->refusal);
        return;
    case FIELD_ARRAY:
        break;
    case FIELD_OBJECT:
    case FIELD_NULL:
    case FIELD_OTHER:
        field_wrong(f, key, "an array of patterns");
        return;
    }
    for (size_t i = 0; i < field_count(f, key); i++) {
        if (field_item_text(f, key, i, &text)) {
            f->status = patterns_add(out, text, f->refusal);
        } else {
            field_wrong(f, key, "an array of patterns");
        }
    }
}

/* ---- topics ---- */

static void read_topic(struct fields *f, struct catalog_request *out)
{
    static const char *const keeps[] = {
        [KEEP_SETTLED] = "settled", [KEEP_LIMIT] = "limit"
    };
    struct retention *r = &out->retention;

    r->keep = field_kind(f, "keep") == FIELD_ABSENT
                  ? KEEP_SETTLED
                  : (enum topic_keep)field_word(
                      f, "keep", keeps, COUNT_OF(keeps), "settled or limit");
    field_u64(f, "keep_ms_min", &r->ms_min);
    field_u64(f, "keep_ms_max", &r->ms_max);
    field_u64(f, "keep_bytes_max", &r->bytes_max);
    field_u64(f, "keep_count_max", &r->count_max);
}

/* ---- places ---- */

#define PLACE_WANT                                                             \
    "\"earliest\", \"latest\", {\"seq\":\"N\"} or {\"time_us\":\"N\"}"

static void read_seq_or_time(struct fields *f, const char *key,
                             enum group_from *place, uint64_t *at)
{
    static const char *const known[] = { "seq", "time_us", NULL };
    struct fields inside;
    bool seq;

    field_inside(f, key, known, &inside);
    if (f->status != STATUS_OK) {
        return;
    }
    seq = field_kind(&inside, "seq") != FIELD_ABSENT;
    if (seq == (field_kind(&inside, "time_us") != FIELD_ABSENT)) {
        field_wrong(f, key, PLACE_WANT);
        return;
    }
    *place = seq ? FROM_SEQ : FROM_TIME;
    field_u64(&inside, seq ? "seq" : "time_us", at);
    f->status = inside.status;
}

void field_place(struct fields *f, const char *key, enum group_from *place,
                 uint64_t *at)
{
    static const char *const words[] = {
        [FROM_EARLIEST] = "earliest", [FROM_LATEST] = "latest"
    };

    if (f->status != STATUS_OK) {
        return;
    }
    switch (field_kind(f, key)) {
    case FIELD_TEXT:
        *place = (enum group_from)field_word(f, key, words, COUNT_OF(words),
                                             PLACE_WANT);
        break;
    case FIELD_OBJECT:
        read_seq_or_time(f, key, place, at);
        break;
    case FIELD_ABSENT:
    case FIELD_ARRAY:
    case FIELD_NULL:
    case FIELD_OTHER:
        field_wrong(f, key, PLACE_WANT);
        break;
    }
}

/* ---- groups ---- */

static void read_from(struct fields *f, struct catalog_request *out)
{
    out->from = FROM_EARLIEST;
    if (field_kind(f, "from") != FIELD_ABSENT) {
        field_place(f, "from", &out->from, &out->from_at);
    }
}

/* True: it is there, and noted in `given`. */
static bool takes(struct fields *f, const char *key, enum group_option option,
                  struct catalog_request *out)
{
    if (field_kind(f, key) == FIELD_ABSENT) {
        return false;
    }
    out->given |= option;
    return true;
}

/* What 32 bits do not hold is over the bound, whatever it is. */
static uint32_t narrow(struct fields *f, const char *limit, const char *text,
                       uint64_t value, uint64_t allowed)
{
    if (f->status == STATUS_OK && value > UINT32_MAX) {
        f->status = refuse(f->refusal, STATUS_INVALID, limit, "%s", text);
        f->refusal->used = value;
        f->refusal->allowed = allowed;
    }
    return f->status == STATUS_OK ? (uint32_t)value : 0;
}

static void read_attempts(struct fields *f, struct group_options *o)
{
    uint64_t attempts = 0;

    field_u64(f, "max_attempts", &attempts);
    o->attempts_max = narrow(f, "max_attempts",
                             "more attempts than there may "
                             "be (0: no end)",
                             attempts, ATTEMPTS_MAX);
}

/* One too many is kept in the count, for the catalog to refuse. */
static void read_backoff(struct fields *f, struct group_options *o)
{
    if (field_kind(f, "backoff_ms") != FIELD_ARRAY) {
        field_wrong(f, "backoff_ms", "an array of milliseconds");
        return;
    }
    o->backoff_count = field_count(f, "backoff_ms");
    for (size_t i = 0; f->status == STATUS_OK && i < o->backoff_count
                       && i < BACKOFF_COUNT_MAX;
         i++) {
        uint64_t step;

        if (!field_item_u64(f, "backoff_ms", i, &step)) {
            field_wrong(f, "backoff_ms", "an array of milliseconds");
            return;
        }
        o->backoff_ms[i] =
            narrow(f, "backoff_ms", "a step of the backoff is too long", step,
                   DELAY_MS_MAX);
    }
}

/* null and "" take every message. */
static void read_filter(struct fields *f, struct group_options *o)
{
    struct slice text = { 0 };

    if (field_kind(f, "filter") != FIELD_NULL) {
        field_any_text(f, "filter", &text);
    }
    if (f->status != STATUS_OK || text.len == 0) {
        return;
    }
    o->filter = strndup((const char *)text.at, text.len);
    if (o->filter == NULL) {
        f->status = refuse(f->refusal, STATUS_NOMEM, "memory", "out of memory");
    }
}

static void read_mode(struct fields *f, struct catalog_request *out)
{
    static const char *const modes[] = { [MODE_SHARED] = "shared",
                                         [MODE_ORDERED] = "ordered",
                                         [MODE_EXCLUSIVE] = "exclusive" };
    static const char *const priorities[] = {
        [PRIORITY_LOW] = "low", [PRIORITY_NORMAL] = "normal", [PRIORITY_HIGH] = "high"
    };

    if (takes(f, "mode", OPTION_MODE, out)) {
        out->options.mode = (enum group_mode)field_word(
            f, "mode", modes, COUNT_OF(modes), "shared, ordered or exclusive");
    }
    if (takes(f, "priority", OPTION_PRIORITY, out)) {
        out->options.priority = (enum group_priority)field_word(
            f, "priority", priorities, COUNT_OF(priorities),
            "low, normal or high");
    }
}

static void read_options(struct fields *f, struct catalog_request *out)
{
    struct group_options *o = &out->options;

    read_mode(f, out);
    if (takes(f, "lease_ms", OPTION_LEASE, out)) {
        field_u64(f, "lease_ms", &o->lease_ms);
    }
    if (takes(f, "max_attempts", OPTION_ATTEMPTS, out)) {
        read_attempts(f, o);
    }
    if (takes(f, "backoff_ms", OPTION_BACKOFF, out)) {
        read_backoff(f, o);
    }
    if (takes(f, "max_in_flight", OPTION_IN_FLIGHT, out)) {
        field_u64(f, "max_in_flight", &o->in_flight_max);
    }
    if (takes(f, "notice_ms", OPTION_NOTICE, out)) {
        field_u64(f, "notice_ms", &o->notice_ms);
    }
    if (takes(f, "paused", OPTION_PAUSED, out)) {
        field_bool(f, "paused", &o->paused);
    }
    if (takes(f, "filter", OPTION_FILTER, out)) {
        read_filter(f, o);
    }
}

static void read_group(struct fields *f, struct catalog_request *out)
{
    if (out->op == CATALOG_CREATE) {
        field_patterns(f, "topics", &out->topics);
        read_from(f, out);
    } else if (field_kind(f, "topics") != FIELD_ABSENT
               || field_kind(f, "from") != FIELD_ABSENT) {
        f->status = refuse(f->refusal, STATUS_INVALID, "unknown_key",
                           "which topics a group takes and from where stays as "
                           "it is: delete the group and make another");
    }
    read_options(f, out);
}

/* ---- all of them ---- */

static void read_change(struct fields *f, struct catalog_request *out)
{
    struct slice name = slice_text(out->name);

    if (out->op == CATALOG_CREATE) {
        field_name(f, "name", &name);
    }
    if (f->status != STATUS_OK) {
        return;
    }
    memmove(out->name, name.at, name.len);
    out->name[name.len] = '\0';
    switch (out->class) {
    case CATALOG_APP:
        field_bool(f, "admin", &out->admin);
        field_patterns(f, "publish", &out->publish);
        field_patterns(f, "subscribe", &out->subscribe);
        break;
    case CATALOG_TOPIC:
        read_topic(f, out);
        break;
    case CATALOG_GROUP:
        read_group(f, out);
        break;
    }
}

enum status json_change_read(struct slice text, struct catalog_request *out,
                             struct refusal *refusal)
{
    static const char *const keys[][13] = {
        [CATALOG_APP] = { "name", "admin", "publish", "subscribe", NULL },
        [CATALOG_TOPIC] = { "name", "keep", "keep_ms_min", "keep_ms_max",
                            "keep_bytes_max", "keep_count_max", NULL },
        [CATALOG_GROUP] = { "name", "topics", "from", "mode", "priority",
                            "lease_ms", "max_attempts", "backoff_ms",
                            "max_in_flight", "notice_ms", "paused", "filter",
                            NULL },
    };
    struct fields f;

    fields_open(&f, text,
                keys[out->class] + (out->op == CATALOG_UPDATE ? 1 : 0),
                refusal);
    if (f.status == STATUS_OK) {
        read_change(&f, out);
    }
    fields_close(&f);
    return f.status;
}
