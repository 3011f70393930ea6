/* links: godwit_router godwit_storage godwit_proto */
#include "broker/router/catalog.h"

#include "broker/router/catalog_impl.h"

#include <criterion/criterion.h>

/* How a topic's messages are kept: what is refused, and what the log says. */

static struct catalog *catalog;
static struct refusal refusal;
static uint64_t floor_seq = 1;
static uint64_t last_seq = 100;

static uint64_t floor_of(void *arg, const struct topic *topic)
{
    (void)arg;
    (void)topic;
    return floor_seq;
}

static uint64_t last_of(void *arg, const struct topic *topic)
{
    (void)arg;
    (void)topic;
    return last_seq;
}

static void set_up(void)
{
    catalog = catalog_new();
    cr_assert_not_null(catalog);
}

static void tear_down(void)
{
    catalog_free(catalog);
}

TestSuite(retention, .init = set_up, .fini = tear_down, .timeout = 30);

static enum status change(struct catalog_request *request)
{
    const struct catalog_context context = { .now_us = 9,
                                             .random =
                                                 (const uint8_t[64]) { 0 },
                                             .last_seq = last_of,
                                             .floor_seq = floor_of };
    struct bytes body = { 0 };
    struct record_fact fact;
    char secret[SECRET_LEN_MAX + 1];
    enum status status =
        catalog_decide(catalog, request, &context, &body, secret, &refusal);

    if (status == STATUS_OK) {
        cr_assert_eq(
            fact_read(slice_of(bytes_begin(&body), bytes_len(&body)), &fact),
            STATUS_OK);
        cr_assert_eq(catalog_apply(catalog, &fact), STATUS_OK);
    }
    bytes_fini(&body);
    catalog_request_fini(request);
    return status;
}

static enum status keep(enum catalog_op op, uint32_t app, struct retention r)
{
    struct catalog_request request = { .op = op,
                                       .class = CATALOG_TOPIC,
                                       .name = "t",
                                       .app = app,
                                       .retention = r };

    return change(&request);
}

static enum status create(struct retention r)
{
    return keep(CATALOG_CREATE, 0, r);
}

static const struct retention *kept(void)
{
    const struct topic *topic = catalog_topic(catalog, slice_text("t"));

    cr_assert_not_null(topic);
    return &topic->retention;
}

#define MONTH_MS UINT64_C(2678400000)
#define MOST_MS  (UINT64_C(3600000) * KEEP_HOURS_MAX)

Test(retention, nothing_said_is_until_settled)
{
    cr_assert_eq(create((struct retention) { 0 }), STATUS_OK);
    cr_assert_eq(kept()->keep, KEEP_SETTLED);
    cr_assert_eq(kept()->ms_min, 0);
}

Test(retention, all_of_it_is_in_the_fact)
{
    const struct retention r = { .keep = KEEP_LIMIT,
                                 .ms_max = MONTH_MS,
                                 .bytes_max = UINT64_MAX,
                                 .count_max = 1 };

    cr_assert_eq(create(r), STATUS_OK);
    cr_assert(retention_equal(kept(), &r));
}

static void cr_is_refused(struct retention r, const char *limit)
{
    cr_assert_eq(create(r), STATUS_INVALID);
    cr_assert_str_eq(refusal.limit, limit);
    cr_assert_neq(refusal.text[0], '\0');
    cr_assert_null(catalog_topic(catalog, slice_text("t")));
}

Test(retention, contradictions_are_refused_by_name)
{
    cr_is_refused((struct retention) { .ms_max = 1 }, "keep_ms_max");
    cr_is_refused((struct retention) { .keep = KEEP_SETTLED, .bytes_max = 1 },
                  "keep_bytes_max");
    cr_is_refused((struct retention) { .keep = KEEP_SETTLED, .count_max = 1 },
                  "keep_count_max");
    cr_is_refused((struct retention) { .keep = KEEP_LIMIT }, "keep");
    cr_is_refused(
        (struct retention) { .keep = KEEP_LIMIT, .ms_max = 2, .ms_min = 1 },
        "keep_ms_min");
    cr_is_refused((struct retention) { .keep = (enum topic_keep)3 }, "keep");
}

Test(retention, ages_have_a_bound)
{
    cr_assert_eq(create((struct retention) { .ms_min = MOST_MS }), STATUS_OK);
    cr_assert_eq(
        keep(CATALOG_UPDATE, 0,
             (struct retention) { .keep = KEEP_LIMIT, .ms_max = MOST_MS }),
        STATUS_OK);
    cr_assert_eq(
        keep(CATALOG_UPDATE, 0,
             (struct retention) { .keep = KEEP_LIMIT, .ms_max = MOST_MS + 1 }),
        STATUS_INVALID);
    cr_assert_str_eq(refusal.limit, "keep_ms_max");
    cr_assert_eq(refusal.allowed, MOST_MS);
    cr_assert_eq(
        keep(CATALOG_UPDATE, 0, (struct retention) { .ms_min = MOST_MS + 1 }),
        STATUS_INVALID);
    cr_assert_eq(kept()->ms_max, MOST_MS);
}

Test(retention, an_update_is_a_new_fact_of_the_same_topic)
{
    struct topic *topic;
    int user;

    cr_assert_eq(create((struct retention) { 0 }), STATUS_OK);
    topic = catalog_topic(catalog, slice_text("t"));
    topic->user = &user;
    cr_assert_eq(
        keep(CATALOG_UPDATE, 0,
             (struct retention) { .keep = KEEP_LIMIT, .count_max = 5 }),
        STATUS_OK);
    cr_assert_eq(catalog_topic(catalog, slice_text("t")), topic);
    cr_assert_eq(topic->user, &user);
    cr_assert_eq(topic->id, 1);
    cr_assert_eq(topic->retention.count_max, 5);
    cr_assert_eq(catalog_count(catalog, CATALOG_TOPIC), 1);
}

Test(retention, an_update_is_of_what_is_there_and_by_its_owner)
{
    struct catalog_request app = { .op = CATALOG_CREATE,
                                   .class = CATALOG_APP,
                                   .name = "shop" };

    cr_assert_eq(keep(CATALOG_UPDATE, 0, (struct retention) { 0 }),
                 STATUS_NOT_FOUND);
    cr_assert_eq(patterns_add(&app.publish, slice_text("t"), &refusal),
                 STATUS_OK);
    cr_assert_eq(change(&app), STATUS_OK);
    cr_assert_eq(create((struct retention) { 0 }), STATUS_OK);
    cr_assert_eq(keep(CATALOG_UPDATE, 1, (struct retention) { .ms_min = 1 }),
                 STATUS_FORBIDDEN);
    cr_assert_not_null(strstr(refusal.text, "change"));
    cr_assert_eq(kept()->ms_min, 0);
}

Test(retention, the_same_topic_once_more_says_whether_it_keeps_the_same)
{
    cr_assert_eq(create((struct retention) { .ms_min = 5 }), STATUS_OK);
    cr_assert_eq(create((struct retention) { .ms_min = 5 }), STATUS_EXISTS);
    cr_assert_not_null(strstr(refusal.text, "the same"));
    cr_assert_eq(create((struct retention) { 0 }), STATUS_EXISTS);
    cr_assert_not_null(strstr(refusal.text, "another"));
}

/* What version 1 of the broker wrote. */
Test(retention, a_fact_of_the_first_version_is_until_settled)
{
    const uint8_t value[16] = { 1, 0, 0, 0, 7, 0, 0, 0, 42 };
    const struct record_fact fact = { .class = CATALOG_TOPIC,
                                      .id = 3,
                                      .name = slice_text("t"),
                                      .value = slice_of(value, sizeof value) };

    cr_assert_eq(catalog_apply(catalog, &fact), STATUS_OK);
    cr_assert_eq(kept()->keep, KEEP_SETTLED);
    cr_assert_eq(catalog_topic(catalog, slice_text("t"))->app, 7);
    cr_assert_eq(catalog_topic(catalog, slice_text("t"))->created_us, 42);
}

Test(retention, a_fact_of_a_newer_version_is_left_alone)
{
    uint8_t value[48] = { TOPIC_VALUE_VERSION + 1, 0, KEEP_SETTLED };
    const struct record_fact fact = { .class = CATALOG_TOPIC,
                                      .id = 3,
                                      .name = slice_text("t"),
                                      .value = slice_of(value, sizeof value) };

    cr_assert_eq(catalog_apply(catalog, &fact), STATUS_NEWER);
    value[0] = TOPIC_VALUE_VERSION;
    cr_assert_eq(catalog_apply(catalog, &fact), STATUS_OK);
    value[2] = 9; /* no way to keep */
    cr_assert_eq(catalog_apply(catalog, &fact), STATUS_CORRUPT);
    cr_assert_eq(kept()->keep, KEEP_SETTLED);
}

/* ---- where a group begins ---- */

static uint64_t begins_after(enum group_from from)
{
    struct catalog_request request = {
        .op = CATALOG_CREATE, .class = CATALOG_GROUP, .name = "g", .from = from
    };
    uint64_t after;

    cr_assert_eq(patterns_add(&request.topics, slice_text("t"), &refusal),
                 STATUS_OK);
    cr_assert_eq(change(&request), STATUS_OK);
    after = group_starts_after(catalog_group(catalog, slice_text("g")), 1);
    request = (struct catalog_request) { .op = CATALOG_DELETE,
                                         .class = CATALOG_GROUP,
                                         .name = "g" };
    cr_assert_eq(change(&request), STATUS_OK);
    return after;
}

Test(retention, a_new_group_begins_at_the_floor)
{
    cr_assert_eq(create((struct retention) { 0 }), STATUS_OK);
    cr_assert_eq(begins_after(FROM_EARLIEST), 0);
    floor_seq = 51;
    cr_assert_eq(begins_after(FROM_EARLIEST), 50);
    cr_assert_eq(begins_after(FROM_LATEST), 100);
    floor_seq = 101;
    cr_assert_eq(begins_after(FROM_EARLIEST), 100);
    floor_seq = 200; /* ahead of what this worker has heard */
    cr_assert_eq(begins_after(FROM_LATEST), 199);
}
