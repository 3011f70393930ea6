#include "tools/godwit/dump.h"

#include "proto/codec.h"
#include "proto/utf8.h"
#include "tools/godwit/human.h"
#include "tools/godwit/json.h"

#include <inttypes.h>
#include <stdio.h>

enum { HEADER_NAME_LEN = 256 };

static const char *kind_word(enum record_kind kind)
{
    switch (kind) {
    case RECORD_MESSAGE:
        return "message";
    case RECORD_ACK:
        return "ack";
    case RECORD_RETRY:
        return "retry";
    case RECORD_CATALOG:
        return "catalog";
    case RECORD_GAP:
        return "gap";
    case RECORD_TRIM:
        return "trim";
    case RECORD_FAILED:
        return "failed";
    case RECORD_EXPIRED:
        return "expired";
    case RECORD_FILTERED:
        return "filtered";
    case RECORD_REDRIVE:
        return "redrive";
    case RECORD_BURY:
        return "bury";
    case RECORD_DISCARD:
        return "discard";
    case RECORD_SEEK:
        return "seek";
    }
    return "unknown";
}

bool dump_kind_of(const char *word, enum record_kind *out)
{
    for (int kind = RECORD_MESSAGE; kind <= RECORD_KIND_LAST; kind++) {
        if (strcmp(kind_word((enum record_kind)kind), word) == 0) {
            *out = (enum record_kind)kind;
            return true;
        }
    }
    return false;
}

static void put_time(struct json_writer *w, const char *name, uint64_t time_us)
{
    char text[HUMAN_LEN];

    json_put_text(w, name, slice_text(human_time(text, time_us)));
}

/* `name` and its id; the name is left out when no fact tells it. */
static void put_named(struct json_writer *w, const struct inspect *inspect,
                      enum catalog_class class, uint32_t id, const char *name,
                      const char *id_name)
{
    struct slice known = inspect_name(inspect, class, id);

    if (known.len > 0) {
        json_put_text(w, name, known);
    }
    json_put_number(w, id_name, id);
}

static void put_topic(struct json_writer *w, const struct inspect *inspect,
                      uint32_t topic)
{
    put_named(w, inspect, CATALOG_TOPIC, topic, "topic", "topic_id");
}

static void put_bytes(struct json_writer *w, const char *name,
                      const char *base64_name, struct slice bytes)
{
    if (bytes.len == 0) {
        json_put_text(w, name, slice_text(""));
    } else if (utf8_valid(bytes)) {
        json_put_text(w, name, bytes);
    } else {
        json_put_base64(w, base64_name, bytes);
    }
}

/* ---- messages ---- */

static void put_headers(struct json_writer *w, const struct wire_message *m)
{
    json_begin(w, "headers", '{');
    for (size_t i = 0; i < m->header_count; i++) {
        char name[HEADER_NAME_LEN];
        struct slice header = m->headers[i].name;
        size_t len = header.len < sizeof name ? header.len : sizeof name - 1;
        memcpy(name, header.at, len);
        name[len] = '\0';
        json_put_text(w, name, m->headers[i].value);
    }
    json_end(w, '}');
}

/* What few messages have. */
static void put_options(struct json_writer *w, const struct wire_message *m)
{
    const struct {
        const char *name;
        uint64_t value;
    } times[] = { { "delay_ms", m->delay_ms },
                  { "deliver_at_ms", m->deliver_at_ms },
                  { "ttl_ms", m->ttl_ms } };

    if (m->tag.len > 0) {
        json_put_text(w, "tag", m->tag);
    }
    if (m->id.len > 0) {
        json_put_text(w, "id", m->id);
    }
    for (size_t i = 0; i < COUNT_OF(times); i++) {
        if (times[i].value > 0) {
            json_put_number(w, times[i].name, times[i].value);
        }
    }
}

/* What is no Message is shown as it is. */
static void put_content(struct json_writer *w, struct slice body)
{
    struct wire_message message;
    struct refusal refusal;

    if (codec_message_check(body, &message, &refusal) != STATUS_OK) {
        json_put_base64(w, "raw_base64", body);
        return;
    }
    if (message.key.len > 0) {
        json_put_text(w, "key", message.key);
    }
    put_options(w, &message);
    if (message.header_count > 0) {
        put_headers(w, &message);
    }
    put_bytes(w, "body", "body_base64", message.body);
}

static void put_message(struct json_writer *w, const struct inspect *inspect,
                        const struct dump_options *options,
                        const struct inspect_record *r)
{
    put_topic(w, inspect, r->record.topic);
    json_put_number(w, "seq", r->record.seq);
    put_named(w, inspect, CATALOG_APP, r->record.app, "app", "app_id");
    if (r->record.producer != 0 && (r->record.flags & RECORD_ID) == 0) {
        json_put_number(w, "producer", r->record.producer);
        json_put_number(w, "producer_seq", r->record.producer_seq);
    }
    if ((r->record.flags & RECORD_MORE) != 0) {
        json_put_bool(w, "more", true); /* one with the next record */
    }
    if (r->moved) {
        json_put_bool(w, "moved", true);
    }
    if (r->deleted) {
        json_put_bool(w, "deleted", true);
    }
    json_put_number(w, "len", r->record.body.len);
    if (!options->no_bodies) {
        put_content(w, r->record.body);
    }
}

/* ---- the others ---- */

static void put_ranges(struct json_writer *w, const struct inspect *inspect,
                       struct slice body)
{
    struct ranges_reader ranges;

    if (ranges_read(body, &ranges) != STATUS_OK) {
        json_put_base64(w, "raw_base64", body);
        return;
    }
    put_named(w, inspect, CATALOG_GROUP, ranges.group, "group", "group_id");
    put_topic(w, inspect, ranges.topic);
    json_begin(w, "ranges", '[');
    for (size_t i = 0; i < ranges.count; i++) {
        struct seq_range range = ranges_next(&ranges);
        json_begin(w, NULL, '[');
        json_put_number(w, NULL, range.first);
        json_put_number(w, NULL, range.last);
        json_end(w, ']');
    }
    json_end(w, ']');
}

static void put_retries(struct json_writer *w, const struct inspect *inspect,
                        struct slice body)
{
    struct retries_reader retries;

    if (retries_read(body, &retries) != STATUS_OK) {
        json_put_base64(w, "raw_base64", body);
        return;
    }
    put_named(w, inspect, CATALOG_GROUP, retries.group, "group", "group_id");
    put_topic(w, inspect, retries.topic);
    json_begin(w, "retries", '[');
    for (size_t i = 0; i < retries.count; i++) {
        struct retry retry = retries_next(&retries);
        json_begin(w, NULL, '{');
        json_put_number(w, "seq", retry.seq);
        json_put_number(w, "attempts", retry.attempts);
        put_time(w, "due", retry.due_us);
        json_end(w, '}');
    }
    json_end(w, ']');
}

static void put_failure(struct json_writer *w, const struct failure *failure)
{
    json_begin(w, NULL, '{');
    json_put_number(w, "seq", failure->seq);
    json_put_number(w, "attempts", failure->attempts);
    json_put_text(w, "cause", slice_text(failure_cause_word(failure->cause)));
    if (failure->dead) {
        json_put_bool(w, "dead", true);
    } else if (failure->due_us != 0) {
        put_time(w, "due", failure->due_us);
    }
    if (failure->holder != 0) {
        json_put_number(w, "holder", failure->holder);
    }
    if (failure->reason.len > 0) {
        put_bytes(w, "reason", "reason_base64", failure->reason);
    }
    json_end(w, '}');
}

static void put_failed(struct json_writer *w, const struct inspect *inspect,
                       struct slice body)
{
    struct failed_reader failed;

    if (failed_read(body, &failed) != STATUS_OK) {
        json_put_base64(w, "raw_base64", body);
        return;
    }
    put_named(w, inspect, CATALOG_GROUP, failed.group, "group", "group_id");
    put_topic(w, inspect, failed.topic);
    json_begin(w, "failures", '[');
    for (size_t i = 0; i < failed.count; i++) {
        struct failure failure = failed_next(&failed);
        put_failure(w, &failure);
    }
    json_end(w, ']');
}

static void put_seek(struct json_writer *w, const struct inspect *inspect,
                     struct slice body)
{
    struct record_seek seek;

    if (seek_read(body, &seek) != STATUS_OK) {
        json_put_base64(w, "raw_base64", body);
        return;
    }
    put_named(w, inspect, CATALOG_GROUP, seek.group, "group", "group_id");
    put_topic(w, inspect, seek.topic);
    json_put_number(w, "after_seq", seek.after);
}

static const char *class_word(enum catalog_class class)
{
    switch (class) {
    case CATALOG_APP:
        return "app";
    case CATALOG_TOPIC:
        return "topic";
    case CATALOG_GROUP:
        break;
    }
    return "group";
}

/* An app's value holds its secret. */
static void put_fact(struct json_writer *w, struct slice body)
{
    struct record_fact fact;

    if (fact_read(body, &fact) != STATUS_OK) {
        json_put_number(w, "len", body.len);
        return;
    }
    json_put_text(w, "class", slice_text(class_word(fact.class)));
    json_put_number(w, "id", fact.id);
    put_bytes(w, "name", "name_base64", fact.name);
    json_put_bool(w, "deleted", fact.deleted);
    if (fact.class == CATALOG_APP) {
        json_put_number(w, "value_len", fact.value.len);
    } else {
        json_put_base64(w, "value_base64", fact.value);
    }
}

static void put_trim(struct json_writer *w, const struct inspect *inspect,
                     struct slice body)
{
    struct record_trim trim;

    if (trim_read(body, &trim) != STATUS_OK) {
        json_put_base64(w, "raw_base64", body);
        return;
    }
    put_topic(w, inspect, trim.topic);
    json_put_number(w, "first_seq", trim.first_seq);
    json_put_number(w, "floor_seq", trim.floor_seq);
}

enum status dump_record(struct bytes *to, const struct inspect *inspect,
                        const struct dump_options *options,
                        const struct inspect_record *r)
{
    struct json_writer w = { .text = *to };

    json_begin(&w, NULL, '{');
    json_put_text(&w, "kind", slice_text(kind_word(r->record.kind)));
    json_put_number(&w, "segment", r->segment);
    json_put_number(&w, "offset", r->offset);
    json_put_number(&w, "batch", r->batch);
    put_time(&w, "time", r->record.time_us);
    switch (r->record.kind) {
    case RECORD_MESSAGE:
        put_message(&w, inspect, options, r);
        break;
    case RECORD_ACK:
    case RECORD_GAP:
    case RECORD_EXPIRED:
    case RECORD_FILTERED:
    case RECORD_REDRIVE:
    case RECORD_BURY:
    case RECORD_DISCARD:
        put_ranges(&w, inspect, r->record.body);
        break;
    case RECORD_RETRY:
        put_retries(&w, inspect, r->record.body);
        break;
    case RECORD_FAILED:
        put_failed(&w, inspect, r->record.body);
        break;
    case RECORD_SEEK:
        put_seek(&w, inspect, r->record.body);
        break;
    case RECORD_CATALOG:
        put_fact(&w, r->record.body);
        break;
    case RECORD_TRIM:
        put_trim(&w, inspect, r->record.body);
        break;
    }
    json_end(&w, '}');
    *to = w.text; /* the writer borrowed the buffer */
    return w.status != STATUS_OK ? w.status : bytes_append(to, "\n", 1);
}
