#include "broker/door/json_operation.h"

#include "broker/door/json_fields.h"
#include "broker/router/filter.h"
#include "proto/limits.h"
#include "proto/name.h"

#include <stdlib.h>

static enum status refuse_field(struct fields *f, const char *limit,
                                const char *text)
{
    if (f->status == STATUS_OK) {
        f->status = refuse(f->refusal, STATUS_INVALID, limit, "%s", text);
    }
    return f->status;
}

/* ---- what they have in common ---- */

static void read_topic(struct fields *f, struct json_operation *out)
{
    struct slice name = { 0 };

    if (field_kind(f, "topic") == FIELD_ABSENT) {
        return;
    }
    field_name(f, "topic", &name);
    if (f->status != STATUS_OK) {
        return;
    }
    if (!name_valid(name)) {
        refuse_field(f, "topic", "topic is not a good name");
        return;
    }
    memcpy(out->topic, name.at, name.len);
    out->topic[name.len] = '\0';
    out->operation.topic = slice_text(out->topic);
}

static void read_ranges(struct fields *f, struct operation *out)
{
    struct seq_range *ranges;
    size_t count = 0;

    if (f->status != STATUS_OK) {
        return;
    }
    ranges = calloc(RANGE_COUNT_MAX, sizeof *ranges);
    if (ranges == NULL) {
        f->status = refuse(f->refusal, STATUS_NOMEM, "memory",
                           "the broker is out of memory");
        return;
    }
    field_seqs(f, ranges, &count);
    for (size_t i = 0; f->status == STATUS_OK && i < count; i++) {
        if (seqset_add(&out->ranges, ranges[i].first, ranges[i].last, NULL)
            != STATUS_OK) {
            f->status = refuse(f->refusal, STATUS_NOMEM, "memory",
                               "the broker is out of memory");
        }
    }
    free(ranges);
    if (count > 0 && out->topic.len == 0) {
        refuse_field(f, "topic",
                     "seqs and ranges are of one topic: name it, topic");
    }
}

/* ---- seek ---- */

static void read_seek(struct fields *f, struct operation *out)
{
    static const enum seek_to seek_of[] = { [FROM_EARLIEST] = SEEK_EARLIEST,
                                            [FROM_LATEST] = SEEK_LATEST,
                                            [FROM_SEQ] = SEEK_SEQ,
                                            [FROM_TIME] = SEEK_TIME };
    enum group_from place = FROM_EARLIEST;

    field_place(f, "to", &place, &out->seek);
    if (f->status != STATUS_OK) {
        return;
    }
    out->to = seek_of[place];
    if (out->to == SEEK_SEQ && out->topic.len == 0) {
        refuse_field(f, "topic", "a seq is of one topic: name it, topic");
    }
}

/* ---- redrive ---- */

static void read_cause(struct fields *f, struct operation *out)
{
    struct slice word = { 0 };

    if (field_kind(f, "cause") == FIELD_ABSENT) {
        return;
    }
    field_any_text(f, "cause", &word);
    for (unsigned i = CAUSE_NACK; i <= (unsigned)CAUSE_REJECT; i++) {
        if (f->status == STATUS_OK
            && slice_is(word, failure_cause_word((uint8_t)i))) {
            out->cause = (enum failure_cause)i;
        }
    }
    if (f->status == STATUS_OK && out->cause == 0) {
        field_wrong(f, "cause", "one of nack, lease, gone, reject");
    }
}

static void read_filter(struct fields *f, struct operation *out)
{
    struct slice text = { 0 };

    if (field_kind(f, "filter") == FIELD_ABSENT) {
        return;
    }
    field_any_text(f, "filter", &text);
    if (f->status == STATUS_OK) {
        f->status = filter_compile(&out->filter, text, f->refusal);
    }
}

/* A number that is not 0, if it is there. */
static void read_count(struct fields *f, const char *key, uint64_t *out)
{
    if (field_kind(f, key) == FIELD_ABSENT) {
        return;
    }
    field_u64(f, key, out);
    if (f->status == STATUS_OK && *out == 0) {
        field_wrong(f, key, "a number from 1; leave it out for no limit");
    }
}

static void read_redrive(struct fields *f, struct operation *out)
{
    read_ranges(f, out);
    read_cause(f, out);
    read_count(f, "rate", &out->rate);
    read_count(f, "cap", &out->cap);
    field_bool(f, "dry_run", &out->dry_run);
    read_filter(f, out);
}

/* What is given up is named. */
static void read_discard(struct fields *f, struct operation *out)
{
    read_ranges(f, out);
    if (f->status == STATUS_OK && out->topic.len == 0) {
        refuse_field(f, "topic", "name the topic whose dead are given up");
    }
}

/* ---- the whole ---- */

static const char *const seek_keys[] = { "topic", "to", NULL };
static const char *const redrive_keys[] = { "topic", "seqs",    "ranges",
                                            "cause", "filter",  "rate",
                                            "cap",   "dry_run", NULL };
static const char *const discard_keys[] = { "topic", "seqs", "ranges", NULL };
static const char *const no_keys[] = { NULL };

static const char *const *keys_of(enum operation_kind kind)
{
    switch (kind) {
    case OPERATION_SEEK:
        return seek_keys;
    case OPERATION_REDRIVE:
        return redrive_keys;
    case OPERATION_DISCARD:
        return discard_keys;
    case OPERATION_STOP:
    case OPERATION_UNDO:
        break;
    }
    return no_keys;
}

static void read_kind(struct fields *f, struct operation *out)
{
    switch (out->kind) {
    case OPERATION_SEEK:
        read_seek(f, out);
        break;
    case OPERATION_REDRIVE:
        read_redrive(f, out);
        break;
    case OPERATION_DISCARD:
        read_discard(f, out);
        break;
    case OPERATION_STOP:
    case OPERATION_UNDO:
        break;
    }
}

enum status json_operation_read(struct json_operation *out,
                                enum operation_kind kind, struct slice text,
                                struct refusal *refusal)
{
    struct fields f;
    enum status status;

    *out = (struct json_operation) { .operation = { .kind = kind } };
    fields_open(&f, text.len == 0 ? slice_text("{}") : text, keys_of(kind),
                refusal);
    if (kind != OPERATION_STOP && kind != OPERATION_UNDO) {
        read_topic(&f, out);
    }
    read_kind(&f, &out->operation);
    status = f.status;
    fields_close(&f);
    if (status != STATUS_OK) {
        seqset_fini(&out->operation.ranges);
        filter_free(out->operation.filter);
    }
    return status;
}
