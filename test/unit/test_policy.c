/* links: godwit_server godwit_router godwit_storage godwit_proto */
#include "broker/policy.h"

#include <criterion/criterion.h>
#include <stdio.h>

/* What the store hears before it deletes anything. */

static struct policy *policy;
static struct catalog *writer; /* decides, so that facts are as in life */
static struct refusal refusal;
static struct store_retention r;

static uint64_t last_of(void *arg, const struct topic *topic)
{
    (void)arg;
    return topic->id * 100;
}

static uint64_t floor_of(void *arg, const struct topic *topic)
{
    (void)arg;
    (void)topic;
    return 1;
}

static void set_up(void)
{
    struct error err;

    writer = catalog_new();
    cr_assert_not_null(writer);
    cr_assert_eq(policy_new(&policy, NULL, &err), STATUS_OK);
}

static void tear_down(void)
{
    policy_free(policy);
    catalog_free(writer);
}

TestSuite(policy, .init = set_up, .fini = tear_down, .timeout = 30);

static void change(struct catalog_request *request)
{
    const struct catalog_context context = { .random =
                                                 (const uint8_t[64]) { 0 },
                                             .last_seq = last_of,
                                             .floor_seq = floor_of };
    struct bytes body = { 0 };
    struct record_fact fact;
    char secret[SECRET_LEN_MAX + 1];

    cr_assert_eq(
        catalog_decide(writer, request, &context, &body, secret, &refusal),
        STATUS_OK, "%s", refusal.text);
    cr_assert_eq(
        fact_read(slice_of(bytes_begin(&body), bytes_len(&body)), &fact),
        STATUS_OK);
    cr_assert_eq(catalog_apply(writer, &fact), STATUS_OK);
    policy_fact(policy, &fact);
    bytes_fini(&body);
    catalog_request_fini(request);
}

static uint32_t make_topic(const char *name, struct retention retention)
{
    struct catalog_request request = { .op = CATALOG_CREATE,
                                       .class = CATALOG_TOPIC,
                                       .retention = retention };

    snprintf(request.name, sizeof request.name, "%s", name);
    change(&request);
    return catalog_topic(writer, slice_text(name))->id;
}

static uint32_t make_group(const char *name, const char *topics,
                           enum group_from from)
{
    struct catalog_request request = { .op = CATALOG_CREATE,
                                       .class = CATALOG_GROUP,
                                       .from = from };

    snprintf(request.name, sizeof request.name, "%s", name);
    cr_assert_eq(patterns_add(&request.topics, slice_text(topics), &refusal),
                 STATUS_OK);
    change(&request);
    return catalog_group(writer, slice_text(name))->id;
}

static void drop(enum catalog_class class, const char *name)
{
    struct catalog_request request = { .op = CATALOG_DELETE, .class = class };

    snprintf(request.name, sizeof request.name, "%s", name);
    change(&request);
}

/* The groups it is owed to, as "1+0,3+200,": id and after_seq. */
static const char *owed(uint32_t topic)
{
    static char text[256];
    size_t len = 0;

    text[0] = '\0';
    cr_assert(policy_topic(policy, topic, &r));
    for (size_t i = 0; i < r.owed_count; i++) {
        len += (size_t)snprintf(text + len, sizeof text - len, "%u+%lu,",
                                r.owed[i].group,
                                (unsigned long)r.owed[i].after_seq);
    }
    return text;
}

Test(policy, a_topic_that_is_not_there_may_go)
{
    cr_assert_not(policy_topic(policy, 1, &r));
    cr_assert_eq(make_topic("t", (struct retention) { 0 }), 1);
    cr_assert(policy_topic(policy, 1, &r));
    drop(CATALOG_TOPIC, "t");
    cr_assert_not(policy_topic(policy, 1, &r));
}

Test(policy, groups_are_owed_what_they_take_from_where_they_began)
{
    uint32_t a = make_topic("a.one", (struct retention) { .ms_min = 5 });
    uint32_t b = make_topic("b", (struct retention) { 0 });

    make_group("all", "*", FROM_EARLIEST);
    cr_assert_str_eq(owed(a), "1+0,"); /* asked first, then kept current */
    make_group("late", "a.*", FROM_LATEST);
    make_group("b", "b", FROM_EARLIEST);
    cr_assert_str_eq(owed(a), "1+0,2+100,");
    cr_assert_str_eq(owed(b), "1+0,3+0,");
    cr_assert_eq(r.keep, STORE_KEEP_UNTIL_SETTLED);
    cr_assert_eq(r.age_us, 0);
    (void)owed(a);
    cr_assert_eq(r.age_us, 5000);
    drop(CATALOG_GROUP, "all");
    cr_assert_str_eq(owed(a), "2+100,");
    drop(CATALOG_GROUP, "late");
    cr_assert_str_eq(owed(a), "");
    cr_assert_str_eq(owed(b), "3+0,");
}

Test(policy, a_topic_that_comes_later_is_owed_too)
{
    make_group("all", "*", FROM_EARLIEST);
    make_group("none", "x", FROM_EARLIEST);
    make_group("more", "t*", FROM_LATEST);
    cr_assert_str_eq(owed(make_topic("t", (struct retention) { 0 })),
                     "1+0,3+0,");
}

/* In whatever order of names the groups come, the ids rise. */
Test(policy, owed_groups_are_by_id)
{
    static const char *const names[] = { "m", "z", "a", "q", "b", "y" };
    uint32_t topic = make_topic("t", (struct retention) { 0 });
    uint32_t before = 0;

    for (size_t i = 0; i < COUNT_OF(names); i++) {
        make_group(names[i], "t", FROM_EARLIEST);
    }
    cr_assert_str_eq(owed(topic), "1+0,2+0,3+0,4+0,5+0,6+0,");
    drop(CATALOG_GROUP, "a");
    make_group("c", "t", FROM_EARLIEST);
    (void)owed(topic);
    for (size_t i = 0; i < r.owed_count; i++) {
        cr_assert_gt(r.owed[i].group, before);
        before = r.owed[i].group;
    }
    cr_assert_eq(r.owed_count, 6);
}

Test(policy, a_limit_is_a_limit_whoever_is_owed)
{
    struct catalog_request update = { .op = CATALOG_UPDATE,
                                      .class = CATALOG_TOPIC,
                                      .name = "t" };
    uint32_t topic = make_topic("t", (struct retention) { .keep = KEEP_LIMIT,
                                                          .ms_max = 1000,
                                                          .bytes_max = 7,
                                                          .count_max = 9 });

    make_group("all", "*", FROM_EARLIEST);
    cr_assert(policy_topic(policy, topic, &r));
    cr_assert_eq(r.keep, STORE_KEEP_UNTIL_LIMIT);
    cr_assert_eq(r.age_us, 1000000);
    cr_assert_eq(r.bytes, 7);
    cr_assert_eq(r.count, 9);
    change(&update);
    cr_assert_str_eq(owed(topic), "1+0,");
    cr_assert_eq(r.keep, STORE_KEEP_UNTIL_SETTLED);
}

Test(policy, what_does_not_read_keeps_everything)
{
    const uint8_t value[] = { 200, 0, 0, 0 };
    const struct record_fact fact = { .class = CATALOG_GROUP,
                                      .id = 77,
                                      .name = slice_text("strange"),
                                      .value = slice_of(value, sizeof value) };
    uint32_t topic = make_topic(
        "t", (struct retention) { .keep = KEEP_LIMIT, .count_max = 9 });

    cr_assert_not(policy_keeps_all(policy));
    policy_fact(policy, &fact);
    cr_assert(policy_keeps_all(policy));
    cr_assert(policy_topic(policy, topic, &r));
    cr_assert_eq(r.keep, STORE_KEEP_UNTIL_SETTLED);
    cr_assert_eq(r.owed_count, 0);
    cr_assert_gt(r.age_us, UINT64_C(900) * 365 * 24 * 3600 * 1000000);
    cr_assert(policy_topic(policy, 1000, &r)); /* one we never heard of */
}
