#include "test/storage/harness.h"

#include "storage/internal.h"

#include "proto/check.h"
#include "test/lib/tmpdir.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { TEXT_LEN = 65536 };

void harness_init(struct harness *h)
{
    *h = (struct harness) { 0 };
    tmpdir_make(h->dir, sizeof h->dir);
    h->config.dir = h->dir;
    h->config.segment_len = 64 * 1024;
    h->config.keydir_len_max = 256 * 1024 * 1024;
    h->buffer = malloc(HARNESS_BUFFER_LEN);
    CHECK(h->buffer != NULL);
    h->now_us = 1000000;
}

void harness_close(struct harness *h)
{
    store_view_close(h->view);
    store_close(h->store);
    h->view = NULL;
    h->store = NULL;
}

void harness_fini(struct harness *h)
{
    harness_close(h);
    free(h->buffer);
    tmpdir_remove(h->dir);
}

enum status harness_open(struct harness *h)
{
    enum status status;

    h->config.now_us = h->now_us;
    h->err.text[0] = '\0';
    status = store_open(&h->store, &h->config, &h->recovery, &h->err);
    if (status != STATUS_OK) {
        h->store = NULL;
        return status;
    }
    status = store_view_open(&h->view, h->store, &h->err);
    if (status != STATUS_OK) {
        store_close(h->store);
        h->store = NULL;
    }
    return status;
}

static void must_open(struct harness *h)
{
    enum status status = harness_open(h);

    if (status != STATUS_OK) {
        fprintf(stderr, "open: %s: %s\n", status_word(status), h->err.text);
    }
    CHECK(status == STATUS_OK);
}

void harness_reopen(struct harness *h)
{
    harness_close(h);
    must_open(h);
}

/* The folder as it is now under another name, then back: LMDB and the lock of
 * the old store stay with the old one. */
void harness_kill(struct harness *h)
{
    char copy[512];

    tmpdir_make(copy, sizeof copy);
    tmpdir_copy(h->dir, copy);
    harness_close(h);
    tmpdir_remove(h->dir);
    CHECK(rename(copy, h->dir) == 0);
}

void harness_delete_keydir(struct harness *h)
{
    char path[600];

    snprintf(path, sizeof path, "%s/keydir", h->dir);
    tmpdir_remove(path);
}

/* ---- records ---- */

static void add(struct harness *h, struct record record, const void *body,
                size_t len)
{
    uint8_t *at = h->buffer + h->len;

    CHECK(h->len + record_size(len) <= HARNESS_BUFFER_LEN);
    if (len > 0) {
        memcpy(at + RECORD_HEADER_LEN, body, len);
    }
    record.body = slice_of(at + RECORD_HEADER_LEN, len);
    record_finish(at, &record);
    h->len += record_size(len);
}

void add_flagged(struct harness *h, uint32_t topic, const char *body,
                 uint8_t flags, uint64_t producer, uint64_t producer_seq)
{
    struct record record = { .kind = RECORD_MESSAGE,
                             .flags = flags,
                             .topic = topic,
                             .app = 1,
                             .producer = producer,
                             .producer_seq = producer_seq };

    add(h, record, body, strlen(body));
}

void add_sent(struct harness *h, uint32_t topic, const char *body,
              uint64_t producer, uint64_t producer_seq)
{
    add_flagged(h, topic, body, 0, producer, producer_seq);
}

void add_message(struct harness *h, uint32_t topic, const char *body)
{
    add_sent(h, topic, body, 0, 0);
}

void add_sized(struct harness *h, uint32_t topic, size_t len, uint8_t fill)
{
    struct record record = { .kind = RECORD_MESSAGE, .topic = topic, .app = 1 };
    uint8_t *body = malloc(len + 1);

    CHECK(body != NULL);
    memset(body, fill, len + 1);
    add(h, record, body, len);
    free(body);
}

static void add_ranges(struct harness *h, enum record_kind kind, uint32_t group,
                       uint32_t topic, struct seq_range range)
{
    struct record_ranges ranges = { group, topic, &range, 1 };
    struct bytes body = { 0 };

    CHECK(record_ranges_write(&body, &ranges) == STATUS_OK);
    add(h, (struct record) { .kind = kind }, body.at, bytes_len(&body));
    bytes_fini(&body);
}

void add_ack(struct harness *h, uint32_t group, uint32_t topic, uint64_t first,
             uint64_t last)
{
    add_ranges(h, RECORD_ACK, group, topic, (struct seq_range) { first, last });
}

void add_gap(struct harness *h, uint32_t group, uint32_t topic, uint64_t first,
             uint64_t last)
{
    add_ranges(h, RECORD_GAP, group, topic, (struct seq_range) { first, last });
}

void add_lane(struct harness *h, enum record_kind kind, uint32_t group,
              uint32_t topic, uint64_t first, uint64_t last)
{
    add_ranges(h, kind, group, topic, (struct seq_range) { first, last });
}

void add_failed(struct harness *h, uint32_t group, uint32_t topic,
                struct failure failure)
{
    struct record_failures failures = { group, topic, &failure, 1 };
    struct bytes body = { 0 };

    CHECK(record_failed_write(&body, &failures) == STATUS_OK);
    add(h, (struct record) { .kind = RECORD_FAILED }, body.at,
        bytes_len(&body));
    bytes_fini(&body);
}

void add_seek(struct harness *h, uint32_t group, uint32_t topic, uint64_t after)
{
    struct record_seek seek = { group, topic, after };
    struct bytes body = { 0 };

    CHECK(record_seek_write(&body, &seek) == STATUS_OK);
    add(h, (struct record) { .kind = RECORD_SEEK }, body.at, bytes_len(&body));
    bytes_fini(&body);
}

void add_retry(struct harness *h, uint32_t group, uint32_t topic,
               struct retry retry)
{
    struct record_retries retries = { group, topic, &retry, 1 };
    struct bytes body = { 0 };

    CHECK(record_retries_write(&body, &retries) == STATUS_OK);
    add(h, (struct record) { .kind = RECORD_RETRY }, body.at, bytes_len(&body));
    bytes_fini(&body);
}

void add_fact(struct harness *h, enum catalog_class class, uint32_t id,
              const char *name, const char *value, bool deleted)
{
    struct record_fact fact = { class, id, deleted, slice_text(name),
                                slice_text(value) };
    struct bytes body = { 0 };

    CHECK(record_fact_write(&body, &fact) == STATUS_OK);
    add(h, (struct record) { .kind = RECORD_CATALOG, .app = 7 }, body.at,
        bytes_len(&body));
    bytes_fini(&body);
}

/* ---- the store ---- */

enum status harness_append(struct harness *h, struct store_commit *commit)
{
    struct store_span span = { .at = h->buffer, .len = h->len };
    enum status status;

    h->now_us += 1000;
    status = store_append(h->store, &span, 1, h->now_us, commit, &h->err);
    h->len = 0;
    return status;
}

static enum status take_in(struct harness *h, const struct store_commit *commit)
{
    enum status status = store_sync(h->store, &h->err);

    if (status == STATUS_OK) {
        status = store_view_commit(h->view, commit, NULL);
    }
    if (status == STATUS_OK) {
        status = store_apply(h->store, commit);
    }
    return status;
}

enum status harness_commit(struct harness *h)
{
    size_t done = 0;
    enum status status = STATUS_OK;

    while (done < h->len && status == STATUS_OK) {
        struct store_span span = { .at = h->buffer + done,
                                   .len = h->len - done };
        struct store_commit commit;
        h->now_us += 1000;
        status = store_append(h->store, &span, 1, h->now_us, &commit, &h->err);
        if (status == STATUS_OK && commit.record_count > 0) {
            status = take_in(h, &commit);
        }
        CHECK(status != STATUS_OK || span.taken > 0);
        done += span.taken;
    }
    h->len = 0;
    return status;
}

enum status harness_checkpoint(struct harness *h)
{
    enum status status = harness_commit(h);

    return status == STATUS_OK ? store_checkpoint(h->store, &h->err) : status;
}

/* ---- looking ---- */

enum status message_at(struct harness *h, uint32_t topic, uint64_t seq,
                       struct record *out, uint64_t *next)
{
    struct store_cursor cursor = { 0 };

    return store_view_message(h->view, &cursor, topic, seq, out, next);
}

const char *message_text(struct harness *h, uint32_t topic, uint64_t seq)
{
    static char text[TEXT_LEN];
    struct record record;
    enum status status = message_at(h, topic, seq, &record, NULL);

    if (status != STATUS_OK) {
        return status == STATUS_NOT_FOUND ? "" : "?";
    }
    CHECK(record.body.len < sizeof text);
    memcpy(text, record.body.at, record.body.len);
    text[record.body.len] = '\0';
    return text;
}

struct looking {
    uint32_t group, topic;
    uint64_t seq;
    char *text;
    size_t len;
};

__attribute__((format(printf, 2, 3))) static void say(struct looking *l,
                                                      const char *format, ...)
{
    va_list args;
    int added;

    va_start(args, format);
    added = vsnprintf(l->text + l->len, TEXT_LEN - l->len, format, args);
    va_end(args);
    CHECK(added >= 0 && (size_t)added < TEXT_LEN - l->len);
    l->len += (size_t)added;
}

static void say_set(struct looking *l, const struct seqset *set)
{
    for (size_t i = 0; i < seqset_range_count(set); i++) {
        const struct seq_range *r = &seqset_ranges(set)[i];
        say(l, "%s%" PRIu64 "-%" PRIu64, i == 0 ? "" : ",", r->first, r->last);
    }
}

static void on_lane(void *arg, const struct store_lane *lane)
{
    struct looking *l = arg;

    if (lane->group != l->group || lane->topic != l->topic) {
        return;
    }
    say_set(l, lane->acked);
    if (seqset_range_count(lane->gaps) > 0) {
        say(l, " gaps ");
        say_set(l, lane->gaps);
    }
    if (seqset_range_count(lane->expired) > 0) {
        say(l, " expired ");
        say_set(l, lane->expired);
    }
    if (lane->filtered > 0) {
        say(l, " filtered %" PRIu64, lane->filtered);
    }
    if (lane->discarded > 0) {
        say(l, " discarded %" PRIu64, lane->discarded);
    }
    if (seqset_range_count(lane->dead) > 0) {
        say(l, " dead ");
        say_set(l, lane->dead);
    }
    if (lane->sought) {
        say(l, " after %" PRIu64, lane->after);
    }
    for (size_t i = 0; i < lane->retry_count; i++) {
        say(l, "%s%" PRIu64 "x%u@%" PRIu64, i == 0 ? " retries " : ",",
            lane->retries[i].seq, lane->retries[i].attempts,
            lane->retries[i].due_us);
    }
}

const char *lane_text(struct harness *h, uint32_t group, uint32_t topic)
{
    static char text[TEXT_LEN];
    struct looking l = { .group = group, .topic = topic, .text = text };

    text[0] = '\0';
    CHECK(store_each_lane(h->store, on_lane, &l) == STATUS_OK);
    return text;
}

static void on_fact(void *arg, const struct record_fact *fact)
{
    struct looking *l = arg;

    say(l, "%d:%u:%.*s=%.*s ", fact->class, fact->id, (int)fact->name.len,
        (const char *)fact->name.at, (int)fact->value.len,
        (const char *)fact->value.at);
}

const char *facts_text(struct harness *h)
{
    static char text[TEXT_LEN];
    struct looking l = { .text = text };

    text[0] = '\0';
    CHECK(store_each_fact(h->store, on_fact, &l) == STATUS_OK);
    return text;
}

static void on_topic(void *arg, const struct store_topic *topic)
{
    struct looking *l = arg;

    if (topic->topic == l->topic) {
        l->seq = topic->last_seq;
    }
}

uint64_t last_seq(struct harness *h, uint32_t topic)
{
    struct looking l = { .topic = topic };

    CHECK(store_each_topic(h->store, on_topic, &l) == STATUS_OK);
    return l.seq;
}

/* ---- files ---- */

void segment_file(const struct harness *h, uint32_t id, char *path, size_t len)
{
    snprintf(path, len, "%s/log/%010u.seg", h->dir, id);
}

uint64_t file_len(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 ? (uint64_t)st.st_size : 0;
}

void flip_bit(const char *path, uint64_t offset, int bit)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    uint8_t byte;

    CHECK(fd >= 0);
    CHECK(pread(fd, &byte, 1, (off_t)offset) == 1);
    byte = (uint8_t)(byte ^ (1u << bit));
    CHECK(pwrite(fd, &byte, 1, (off_t)offset) == 1);
    close(fd);
}

uint64_t find_in_file(const char *path, const char *text)
{
    size_t len = (size_t)file_len(path);
    uint8_t *all = malloc(len + 1);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    const uint8_t *found;
    uint64_t offset;

    CHECK(fd >= 0 && all != NULL);
    CHECK(pread(fd, all, len, 0) == (ssize_t)len);
    close(fd);
    found = memmem(all, len, text, strlen(text));
    CHECK(found != NULL);
    offset = (uint64_t)(found - all);
    free(all);
    return offset;
}

/* ---- chance ---- */

uint64_t random_next(uint64_t *state)
{
    uint64_t x = (*state += UINT64_C(0x9e3779b97f4a7c15));

    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

uint64_t random_seed(void)
{
    const char *given = getenv("GODWIT_SEED");

    return given != NULL ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
}

void harness_remove_segment(struct harness *h, uint32_t id)
{
    struct segment *segment;
    uint64_t epoch;

    CHECK(store_checkpoint(h->store, &h->err) == STATUS_OK);
    store_view_rest(h->view);
    segment = store_retire_begin(h->store, id, &epoch);
    CHECK(segment != NULL && store_retire_rested(h->store, epoch));
    CHECK(store_recycle(h->store, segment, &h->err) == STATUS_OK);
}
