/* What a fact says about an app, a topic or a group, little-endian. Every value
 * begins with a version and a byte of flags.
 *
 *   all        u8 version | u8 flags (2 admin, 4 paused)
 *   app        u16 secret_len | u64 created_us | secret | patterns | patterns
 *              (publish, subscribe)
 *   topic      u8 keep | u8 0 | u32 app | u64 created_us | u64 ms_min |
 *              u64 ms_max | u64 bytes_max | u64 count_max
 *              (version 1 ends behind created_us, keep 0: until settled)
 *   group      u8 from | u8 mode | u32 app | u64 created_us | u64 lease_ms |
 *              options | patterns | u32 start_count | start_count x
 *              {u32 topic, u64 after_seq}, by topic, rising
 *              (version 1 has a 0 for the mode and no options: shared, and
 *              attempts without an end)
 *   options    u64 from_at | u64 in_flight_max | u64 notice_ms |
 *              u32 attempts_max | u8 priority | u8 backoff_count |
 *              u16 filter_len | backoff_count x u32 backoff_ms | filter
 *   patterns   u16 count | count x {u8 len | bytes}
 *
 * A value comes from the disk: what is read is judged, never CHECKed. */
#include "broker/router/catalog_impl.h"

#include "broker/router/filter.h"
#include "proto/name.h"

#include <stdlib.h>

_Static_assert(TOPIC_COUNT_MAX * 12
                       + 2 * APP_GRANT_COUNT_MAX * (1 + PATTERN_LEN_MAX) + 4096
                   <= BATCH_LEN_MAX / 2,
               "the log has room for any value");

static void write_patterns(struct writer *w, const struct patterns *patterns)
{
    writer_u16(w, (uint16_t)patterns->count);
    for (size_t i = 0; i < patterns->count; i++) {
        struct slice pattern = slice_text(patterns->at[i]);

        writer_u8(w, (uint8_t)pattern.len);
        writer_slice(w, pattern);
    }
}

enum status value_app_write(struct bytes *to, const struct app *app)
{
    struct writer w = { to, STATUS_OK };
    struct slice secret = slice_text(app->secret);

    writer_u8(&w, VALUE_VERSION);
    writer_u8(&w, app->admin ? VALUE_ADMIN : 0);
    writer_u16(&w, (uint16_t)secret.len);
    writer_u64(&w, app->created_us);
    writer_slice(&w, secret);
    write_patterns(&w, &app->publish);
    write_patterns(&w, &app->subscribe);
    return w.status;
}

enum status value_topic_write(struct bytes *to, const struct topic *topic)
{
    struct writer w = { to, STATUS_OK };

    writer_u8(&w, TOPIC_VALUE_VERSION);
    writer_u8(&w, 0);
    writer_u8(&w, (uint8_t)topic->retention.keep);
    writer_u8(&w, 0);
    writer_u32(&w, topic->app);
    writer_u64(&w, topic->created_us);
    writer_u64(&w, topic->retention.ms_min);
    writer_u64(&w, topic->retention.ms_max);
    writer_u64(&w, topic->retention.bytes_max);
    writer_u64(&w, topic->retention.count_max);
    return w.status;
}

static void write_options(struct writer *w, const struct group_fact *group)
{
    const struct group_options *o = &group->options;
    struct slice filter =
        o->filter == NULL ? slice_of(NULL, 0) : slice_text(o->filter);

    CHECK(o->backoff_count <= BACKOFF_COUNT_MAX
          && filter.len <= FILTER_LEN_MAX);
    writer_u64(w, group->from_at);
    writer_u64(w, o->in_flight_max);
    writer_u64(w, o->notice_ms);
    writer_u32(w, o->attempts_max);
    writer_u8(w, (uint8_t)o->priority);
    writer_u8(w, (uint8_t)o->backoff_count);
    writer_u16(w, (uint16_t)filter.len);
    for (size_t i = 0; i < o->backoff_count; i++) {
        writer_u32(w, o->backoff_ms[i]);
    }
    writer_slice(w, filter);
}

enum status value_group_write(struct bytes *to, const struct group_fact *group)
{
    struct writer w = { to, STATUS_OK };

    writer_u8(&w, GROUP_VALUE_VERSION);
    writer_u8(&w, group->options.paused ? VALUE_PAUSED : 0);
    writer_u8(&w, (uint8_t)group->from);
    writer_u8(&w, (uint8_t)group->options.mode);
    writer_u32(&w, group->app);
    writer_u64(&w, group->created_us);
    writer_u64(&w, group->options.lease_ms);
    write_options(&w, group);
    write_patterns(&w, &group->topics);
    writer_u32(&w, (uint32_t)group->start_count);
    for (size_t i = 0; i < group->start_count; i++) {
        writer_u32(&w, group->starts[i].topic);
        writer_u64(&w, group->starts[i].after_seq);
    }
    return w.status;
}

static enum status read_version(struct reader *r, unsigned newest,
                                unsigned *version, unsigned *flags)
{
    *version = reader_u8(r);
    *flags = reader_u8(r);
    if (r->failed || *version == 0) {
        return STATUS_CORRUPT;
    }
    return *version > newest ? STATUS_NEWER : STATUS_OK;
}

static enum status read_patterns(struct reader *r, size_t count_max,
                                 struct patterns *out)
{
    size_t count = reader_u16(r);

    if (r->failed || count > count_max) {
        return STATUS_CORRUPT;
    }
    for (size_t i = 0; i < count; i++) {
        size_t len = reader_u8(r);
        struct slice pattern = reader_slice(r, len);

        if (r->failed || !pattern_valid(pattern)) {
            return STATUS_CORRUPT;
        }
        if (patterns_append(out, pattern) != STATUS_OK) {
            return STATUS_NOMEM;
        }
    }
    return STATUS_OK;
}

static bool is_secret(struct slice secret)
{
    if (secret.len == 0 || secret.len > SECRET_LEN_MAX) {
        return false;
    }
    for (size_t i = 0; i < secret.len; i++) {
        if (secret.at[i] <= ' ' || secret.at[i] > '~') {
            return false;
        }
    }
    return true;
}

static enum status read_app(struct reader *r, struct app *app)
{
    unsigned version;
    unsigned flags;
    size_t secret_len;
    struct slice secret;
    enum status status = read_version(r, VALUE_VERSION, &version, &flags);

    if (status != STATUS_OK) {
        return status;
    }
    secret_len = reader_u16(r);
    app->admin = (flags & VALUE_ADMIN) != 0;
    app->created_us = reader_u64(r);
    secret = reader_slice(r, secret_len);
    if (r->failed || !is_secret(secret)) {
        return STATUS_CORRUPT;
    }
    memcpy(app->secret, secret.at, secret.len);
    status = read_patterns(r, APP_GRANT_COUNT_MAX, &app->publish);
    if (status != STATUS_OK) {
        return status;
    }
    status = read_patterns(r, APP_GRANT_COUNT_MAX, &app->subscribe);
    if (status == STATUS_OK && r->at != r->end) {
        return STATUS_CORRUPT;
    }
    return status;
}

enum status value_app_read(struct slice value, struct app **out)
{
    struct reader r = reader_of(value);
    struct app *app = calloc(1, sizeof *app);
    enum status status;

    if (app == NULL) {
        return STATUS_NOMEM;
    }
    status = read_app(&r, app);
    if (status != STATUS_OK) {
        app_free(app);
        return status;
    }
    *out = app;
    return STATUS_OK;
}

static enum status read_retention(struct reader *r, unsigned version,
                                  struct retention *out)
{
    struct retention_fault fault;

    if (version == 1) {
        *out = (struct retention) { .keep = KEEP_SETTLED };
        return STATUS_OK;
    }
    out->ms_min = reader_u64(r);
    out->ms_max = reader_u64(r);
    out->bytes_max = reader_u64(r);
    out->count_max = reader_u64(r);
    return r->failed || !retention_valid(out, &fault) ? STATUS_CORRUPT
                                                      : STATUS_OK;
}

static enum status read_topic(struct reader *r, struct topic *topic)
{
    unsigned version;
    unsigned flags;
    enum status status = read_version(r, TOPIC_VALUE_VERSION, &version, &flags);

    if (status != STATUS_OK) {
        return status;
    }
    topic->retention.keep = (enum topic_keep)reader_u8(r);
    (void)reader_u8(r);
    topic->app = reader_u32(r);
    topic->created_us = reader_u64(r);
    status = read_retention(r, version, &topic->retention);
    return r->failed || r->at != r->end ? STATUS_CORRUPT : status;
}

enum status value_topic_read(struct slice value, struct topic **out)
{
    struct reader r = reader_of(value);
    struct topic *topic = calloc(1, sizeof *topic);
    enum status status;

    if (topic == NULL) {
        return STATUS_NOMEM;
    }
    status = read_topic(&r, topic);
    if (status != STATUS_OK) {
        topic_free(topic);
        return status;
    }
    *out = topic;
    return STATUS_OK;
}

enum { START_LEN = 4 + 8 };

/* The count is believed only when that many entries are really there. */
static enum status read_starts(struct reader *r, struct group_fact *group)
{
    size_t count = reader_u32(r);

    if (r->failed || (size_t)(r->end - r->at) != count * START_LEN) {
        return STATUS_CORRUPT;
    }
    if (count == 0) {
        return STATUS_OK;
    }
    group->starts = calloc(count, sizeof group->starts[0]);
    if (group->starts == NULL) {
        return STATUS_NOMEM;
    }
    for (size_t i = 0; i < count; i++) {
        group->starts[i].topic = reader_u32(r);
        group->starts[i].after_seq = reader_u64(r);
        if (i > 0 && group->starts[i].topic <= group->starts[i - 1].topic) {
            return STATUS_CORRUPT;
        }
    }
    group->start_count = count;
    return STATUS_OK;
}

/* The text behind the fixed part; NULL when there is none. */
static enum status read_filter(struct reader *r, size_t len, char **out)
{
    struct slice text = reader_slice(r, len);

    *out = NULL;
    if (r->failed || len > FILTER_LEN_MAX
        || (len > 0 && memchr(text.at, '\0', len) != NULL)) {
        return STATUS_CORRUPT;
    }
    if (len > 0) {
        *out = strndup((const char *)text.at, len);
        return *out == NULL ? STATUS_NOMEM : STATUS_OK;
    }
    return STATUS_OK;
}

/* What the log holds has been compiled before: it is damaged if it cannot. */
static enum status compile_filter(struct group_fact *group)
{
    struct refusal ignored;
    enum status status;

    if (group->options.filter == NULL) {
        return STATUS_OK;
    }
    status = filter_compile(&group->filter, slice_text(group->options.filter),
                            &ignored);
    return status == STATUS_OK || status == STATUS_NOMEM ? status
                                                         : STATUS_CORRUPT;
}

static enum status read_options(struct reader *r, struct group_fact *group)
{
    enum status status;
    struct group_options *o = &group->options;
    size_t filter_len;

    group->from_at = reader_u64(r);
    o->in_flight_max = reader_u64(r);
    o->notice_ms = reader_u64(r);
    o->attempts_max = reader_u32(r);
    o->priority = (enum group_priority)reader_u8(r);
    o->backoff_count = reader_u8(r);
    filter_len = reader_u16(r);
    if (r->failed || !options_sound(o)) {
        return STATUS_CORRUPT;
    }
    for (size_t i = 0; i < o->backoff_count; i++) {
        o->backoff_ms[i] = reader_u32(r);
    }
    status = read_filter(r, filter_len, &o->filter);
    return status == STATUS_OK ? compile_filter(group) : status;
}

/* Groups made before there were dead letters keep trying. */
static enum status read_old_options(struct group_fact *group)
{
    uint64_t lease_ms = group->options.lease_ms;

    group->options = group_options_default();
    group->options.lease_ms = lease_ms;
    group->options.attempts_max = 0;
    return options_sound(&group->options) && group->from <= FROM_LATEST
               ? STATUS_OK
               : STATUS_CORRUPT;
}

static enum status read_group_head(struct reader *r, struct group_fact *group)
{
    unsigned version;
    unsigned flags;
    unsigned from;
    enum status status = read_version(r, GROUP_VALUE_VERSION, &version, &flags);

    if (status != STATUS_OK) {
        return status;
    }
    from = reader_u8(r);
    group->options.mode = (enum group_mode)reader_u8(r);
    group->options.paused = (flags & VALUE_PAUSED) != 0;
    group->app = reader_u32(r);
    group->created_us = reader_u64(r);
    group->options.lease_ms = reader_u64(r);
    if (r->failed || from < FROM_EARLIEST || from > FROM_TIME) {
        return STATUS_CORRUPT;
    }
    group->from = (enum group_from)from;
    return version == 1 ? read_old_options(group) : read_options(r, group);
}

static enum status read_group(struct reader *r, struct group_fact *group)
{
    enum status status = read_group_head(r, group);

    if (status != STATUS_OK) {
        return status;
    }
    status = read_patterns(r, GROUP_PATTERN_COUNT_MAX, &group->topics);
    if (status != STATUS_OK) {
        return status;
    }
    return group->topics.count == 0 ? STATUS_CORRUPT : read_starts(r, group);
}

enum status value_group_read(struct slice value, struct group_fact **out)
{
    struct reader r = reader_of(value);
    struct group_fact *group = calloc(1, sizeof *group);
    enum status status;

    if (group == NULL) {
        return STATUS_NOMEM;
    }
    status = read_group(&r, group);
    if (status != STATUS_OK) {
        group_fact_free(group);
        return status;
    }
    *out = group;
    return STATUS_OK;
}

void app_free(struct app *app)
{
    if (app == NULL) {
        return;
    }
    /* A secret should not outlive its app in freed memory. */
    explicit_bzero(app->secret, sizeof app->secret);
    patterns_fini(&app->publish);
    patterns_fini(&app->subscribe);
    free(app);
}

void topic_free(struct topic *topic)
{
    free(topic);
}

void group_fact_free(struct group_fact *group)
{
    if (group == NULL) {
        return;
    }
    patterns_fini(&group->topics);
    free(group->options.filter);
    filter_free(group->filter);
    free(group->starts);
    free(group);
}
