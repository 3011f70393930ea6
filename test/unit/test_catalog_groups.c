/* links: godwit_router godwit_storage godwit_proto */
#include "broker/router/filter.h"
#include "test/lib/catalog_bed.h"

TestSuite(catalog_groups, .init = set_up, .fini = tear_down, .timeout = 30);

static const struct group_fact *group_of(const char *name)
{
    return catalog_group(catalog, slice_text(name));
}

static struct catalog_request update_of(const char *name, uint32_t asker)
{
    return named(CATALOG_UPDATE, CATALOG_GROUP, name, asker);
}

/* Each one other than its default. */
static struct group_options all_options(void)
{
    return (struct group_options) {
        .mode = MODE_ORDERED,
        .priority = PRIORITY_HIGH,
        .lease_ms = 1000,
        .attempts_max = 7,
        .backoff_ms = { 100, 200, DELAY_MS_MAX },
        .backoff_count = 3,
        .in_flight_max = GROUP_IN_FLIGHT_MAX,
        .notice_ms = 999,
        .paused = true,
        .filter = strdup("region == \"eu\""),
    };
}

enum { ALL_OPTIONS = 2 * OPTION_FILTER - 1 };

static void check_all_options(const struct group_options *o)
{
    cr_assert_eq(o->mode, MODE_ORDERED);
    cr_assert_eq(o->priority, PRIORITY_HIGH);
    cr_assert_eq(o->lease_ms, 1000);
    cr_assert_eq(o->attempts_max, 7);
    cr_assert_eq(o->backoff_count, 3);
    cr_assert_eq(o->backoff_ms[0], 100);
    cr_assert_eq(o->backoff_ms[1], 200);
    cr_assert_eq(o->backoff_ms[2], DELAY_MS_MAX);
    cr_assert_eq(o->in_flight_max, GROUP_IN_FLIGHT_MAX);
    cr_assert_eq(o->notice_ms, 999);
    cr_assert(o->paused);
    cr_assert_str_eq(o->filter, "region == \"eu\"");
}

static void check_defaults(const struct group_options *o)
{
    cr_assert_eq(o->mode, MODE_SHARED);
    cr_assert_eq(o->priority, PRIORITY_NORMAL);
    cr_assert_eq(o->lease_ms, LEASE_MS_DEFAULT);
    cr_assert_eq(o->attempts_max, ATTEMPTS_DEFAULT);
    cr_assert_eq(o->backoff_count, 0);
    cr_assert_eq(o->in_flight_max, GROUP_IN_FLIGHT_DEFAULT);
    cr_assert_eq(o->notice_ms, 0);
    cr_assert_not(o->paused);
    cr_assert_null(o->filter);
}

/* ---- options ---- */

Test(catalog_groups, what_is_not_said_is_the_default)
{
    cr_assert_eq(create_group("g", "t", 0), STATUS_OK);
    restart();
    check_defaults(&group_of("g")->options);
}

Test(catalog_groups, all_options_survive_a_restart)
{
    struct catalog_request request = group_request("g", "t", 0);

    request.options = all_options();
    request.given = ALL_OPTIONS;
    cr_assert_eq(change(request), STATUS_OK);
    check_all_options(&group_of("g")->options);
    restart();
    check_all_options(&group_of("g")->options);
}

Test(catalog_groups, a_change_changes_what_it_names_and_nothing_else)
{
    struct catalog_request request = group_request("g", "a.*,b", 0);
    uint64_t created_us;

    last_seq = 9;
    cr_assert_eq(create_topic("b", 0), STATUS_OK);
    request.from = FROM_LATEST;
    cr_assert_eq(change(request), STATUS_OK);
    created_us = group_of("g")->created_us;
    for (unsigned option = 1; option <= OPTION_FILTER; option *= 2) {
        request = update_of("g", 0);
        request.options = all_options();
        request.given = option;
        if (option == OPTION_NOTICE) { /* shorter than the default lease */
            request.options.notice_ms = 999;
        }
        cr_assert_eq(change(request), STATUS_OK, "%u", option);
    }
    check_all_options(&group_of("g")->options);
    restart();
    check_all_options(&group_of("g")->options);
    cr_assert_eq(group_of("g")->from, FROM_LATEST);
    cr_assert_eq(group_of("g")->created_us, created_us);
    cr_assert_eq(group_of("g")->topics.count, 2);
    cr_assert_eq(group_starts_after(group_of("g"), topic_id("b")), 9);
}

Test(catalog_groups, a_change_that_names_nothing_changes_nothing)
{
    struct catalog_request request = group_request("g", "t", 0);

    request.options = all_options();
    request.given = ALL_OPTIONS;
    cr_assert_eq(change(request), STATUS_OK);
    cr_assert_eq(change(update_of("g", 0)), STATUS_OK);
    check_all_options(&group_of("g")->options);
}

Test(catalog_groups, only_its_owner_or_an_admin_changes_a_group)
{
    cr_assert_eq(create_app("root", true, NULL, NULL, 0), STATUS_OK);
    cr_assert_eq(create_app("shop", false, "*", "*", 0), STATUS_OK);
    cr_assert_eq(create_app("else", false, "*", "*", 0), STATUS_OK);
    cr_assert_eq(create_group("g", "t", app_id("shop")), STATUS_OK);
    cr_assert_eq(change(update_of("g", app_id("else"))), STATUS_FORBIDDEN);
    cr_assert_str_eq(refusal.limit, "owner");
    cr_assert_eq(change(update_of("g", app_id("shop"))), STATUS_OK);
    cr_assert_eq(change(update_of("g", app_id("root"))), STATUS_OK);
    cr_assert_eq(group_of("g")->app, app_id("shop"));
    cr_assert_eq(change(update_of("none", app_id("root"))), STATUS_NOT_FOUND);
}

/* Groups of version 1 tried for ever, and go on so. */
Test(catalog_groups, a_group_of_the_first_version_is_read)
{
    static const uint8_t value[] = {
        1,    0,    2, 0,   7,   0, 0, 0,             /* latest, by app 7 */
        5,    0,    0, 0,   0,   0, 0, 0,             /* created_us */
        0x10, 0x27, 0, 0,   0,   0, 0, 0,             /* lease_ms */
        1,    0,    2, 'a', '*', 1, 0, 0, 0,          /* a pattern; one start */
        3,    0,    0, 0,   9,   0, 0, 0, 0, 0, 0, 0, /* topic 3 behind 9 */
    };
    struct record_fact fact = { .class = CATALOG_GROUP,
                                .id = 4,
                                .name = slice_text("old"),
                                .value = slice_of(value, sizeof value) };

    cr_assert_eq(catalog_apply(catalog, &fact), STATUS_OK);
    cr_assert_eq(group_of("old")->options.attempts_max, 0);
    cr_assert_eq(group_of("old")->options.lease_ms, 10000);
    cr_assert_eq(group_of("old")->options.mode, MODE_SHARED);
    cr_assert_eq(group_of("old")->options.in_flight_max,
                 GROUP_IN_FLIGHT_DEFAULT);
    cr_assert_eq(group_of("old")->from, FROM_LATEST);
    cr_assert_eq(group_of("old")->app, 7);
    cr_assert_eq(group_starts_after(group_of("old"), 3), 9);
    cr_assert_eq(change(update_of("old", 0)), STATUS_OK);
    restart();
    cr_assert_eq(group_of("old")->options.attempts_max, 0);
    cr_assert_eq(group_of("old")->options.lease_ms, 10000);
    cr_assert_eq(group_starts_after(group_of("old"), 3), 9);
}

/* ---- watching ---- */

static char seen[256];

static void on_group_changed(void *arg, struct group_fact *group)
{
    size_t len = strlen(seen);

    cr_assert_eq(arg, seen);
    snprintf(seen + len, sizeof seen - len, "%s %d;", group->name,
             (int)group->options.paused);
}

Test(catalog_groups, a_watcher_hears_of_a_change_when_it_is_made)
{
    const struct catalog_watch watch = { .group_changed = on_group_changed,
                                         .arg = seen };
    struct catalog_request request = update_of("g", 0);

    catalog_set_watch(catalog, &watch);
    cr_assert_eq(create_group("g", "t", 0), STATUS_OK);
    cr_assert_str_eq(seen, "");
    request.options.paused = true;
    request.given = OPTION_PAUSED;
    cr_assert_eq(change(request), STATUS_OK);
    request.options.paused = false;
    cr_assert_eq(change(request), STATUS_OK);
    cr_assert_str_eq(seen, "g 1;g 0;");
}

/* ---- filters ---- */

static struct catalog_request filtered(struct catalog_request request,
                                       const char *filter)
{
    request.options.filter = filter == NULL ? NULL : strdup(filter);
    request.given = OPTION_FILTER;
    return request;
}

static bool takes(const char *group, const char *region)
{
    struct wire_message message = { .header_count = 1 };

    message.headers[0] =
        (struct wire_header) { slice_text("region"), slice_text(region) };
    return filter_match(group_of(group)->filter, &message);
}

Test(catalog_groups, a_filter_is_compiled_where_the_fact_is_applied)
{
    cr_assert_eq(change(filtered(group_request("g", "t", 0), "region=='eu'")),
                 STATUS_OK);
    cr_assert(takes("g", "eu"));
    cr_assert_not(takes("g", "us"));
    restart();
    cr_assert(takes("g", "eu"));
    cr_assert_eq(change(filtered(update_of("g", 0), "region=='us'")),
                 STATUS_OK);
    cr_assert(takes("g", "us"));
    cr_assert_not(takes("g", "eu"));
    cr_assert_eq(change(filtered(update_of("g", 0), NULL)), STATUS_OK);
    cr_assert_null(group_of("g")->filter);
    cr_assert_null(group_of("g")->options.filter);
    restart();
    cr_assert_null(group_of("g")->filter);
}

Test(catalog_groups, a_bad_filter_is_refused_with_its_column)
{
    char longest[FILTER_LEN_MAX + 2];

    cr_assert_eq(change(filtered(group_request("g", "t", 0), "region = 'eu'")),
                 STATUS_INVALID);
    cr_assert_str_eq(refusal.limit, "filter");
    cr_assert_eq(refusal.used, 8);
    cr_assert_null(group_of("g"));
    cr_assert_eq(create_group("g", "t", 0), STATUS_OK);
    cr_assert_eq(change(filtered(update_of("g", 0), "(")), STATUS_INVALID);
    cr_assert_str_eq(refusal.limit, "filter");
    cr_assert_null(group_of("g")->filter);
    memset(longest, ' ', sizeof longest);
    memcpy(longest, "has(a)", 6);
    longest[FILTER_LEN_MAX + 1] = '\0';
    cr_assert_eq(change(filtered(update_of("g", 0), longest)),
                 STATUS_TOO_LARGE);
    cr_assert_str_eq(refusal.limit, "filter_len");
    longest[FILTER_LEN_MAX] = '\0';
    cr_assert_eq(change(filtered(update_of("g", 0), longest)), STATUS_OK);
    restart();
    cr_assert_str_eq(group_of("g")->options.filter, longest);
}

/* ---- options that do not go together, or nowhere ---- */

struct bad {
    unsigned given;
    struct group_options options;
    const char *limit;
    uint64_t used;
    uint64_t allowed;
};

static const struct bad bad_options[] = {
    { OPTION_MODE, { .mode = (enum group_mode)4 }, "mode", 0, 0 },
    { OPTION_PRIORITY,
      { .priority = (enum group_priority)0 },
      "priority",
      0,
      0 },
    { OPTION_LEASE, { .lease_ms = 0 }, "lease_ms_min", 0, LEASE_MS_MIN },
    { OPTION_LEASE,
      { .lease_ms = UINT64_C(366) * 24 * 3600 * 1000 },
      "lease_ms",
      UINT64_C(366) * 24 * 3600 * 1000,
      LEASE_MS_MAX },
    { OPTION_NOTICE,
      { .notice_ms = LEASE_MS_DEFAULT },
      "notice_ms",
      LEASE_MS_DEFAULT,
      LEASE_MS_DEFAULT - 1 },
    { OPTION_NOTICE | OPTION_LEASE,
      { .notice_ms = 5000, .lease_ms = 5000 },
      "notice_ms",
      5000,
      4999 },
    { OPTION_ATTEMPTS,
      { .attempts_max = ATTEMPTS_MAX + 1 },
      "max_attempts",
      ATTEMPTS_MAX + 1,
      ATTEMPTS_MAX },
    { OPTION_BACKOFF,
      { .backoff_ms = { 1000, DELAY_MS_MAX + 1 }, .backoff_count = 2 },
      "backoff_ms",
      DELAY_MS_MAX + 1,
      DELAY_MS_MAX },
    { OPTION_BACKOFF,
      { .backoff_ms = { 1000, 0 }, .backoff_count = 2 },
      "backoff_ms",
      0,
      DELAY_MS_MAX },
    { OPTION_BACKOFF,
      { .backoff_count = BACKOFF_COUNT_MAX + 1 },
      "backoff_count",
      BACKOFF_COUNT_MAX + 1,
      BACKOFF_COUNT_MAX },
    { OPTION_BACKOFF | OPTION_ATTEMPTS,
      { .backoff_ms = { 1000, 2000 }, .backoff_count = 2, .attempts_max = 2 },
      "backoff_count",
      2,
      1 },
    { OPTION_IN_FLIGHT,
      { .in_flight_max = 0 },
      "max_in_flight",
      0,
      GROUP_IN_FLIGHT_MAX },
    { OPTION_IN_FLIGHT,
      { .in_flight_max = GROUP_IN_FLIGHT_MAX + 1 },
      "max_in_flight",
      GROUP_IN_FLIGHT_MAX + 1,
      GROUP_IN_FLIGHT_MAX },
};

static void check_bad(const struct bad *bad, struct catalog_request request)
{
    request.options = bad->options;
    request.given = bad->given;
    cr_assert_eq(change(request), STATUS_INVALID, "%s", bad->limit);
    cr_assert_str_eq(refusal.limit, bad->limit);
    cr_assert_eq(refusal.used, bad->used, "%s", bad->limit);
    cr_assert_eq(refusal.allowed, bad->allowed, "%s", bad->limit);
    cr_assert_str_eq(refusal.scope, "group g");
}

Test(catalog_groups, bad_options_are_refused_by_their_names)
{
    for (size_t i = 0; i < COUNT_OF(bad_options); i++) {
        check_bad(&bad_options[i], group_request("g", "t", 0));
    }
    cr_assert_null(group_of("g"));
    cr_assert_eq(create_group("g", "t", 0), STATUS_OK);
    for (size_t i = 0; i < COUNT_OF(bad_options); i++) {
        check_bad(&bad_options[i], update_of("g", 0));
    }
    check_defaults(&group_of("g")->options);
}

Test(catalog_groups, what_is_at_its_bound_is_taken)
{
    const struct bad good[] = {
        { OPTION_LEASE, { .lease_ms = LEASE_MS_MIN }, "", 0, 0 },
        { OPTION_LEASE, { .lease_ms = LEASE_MS_MAX }, "", 0, 0 },
        { OPTION_NOTICE, { .notice_ms = LEASE_MS_MAX - 1 }, "", 0, 0 },
        { OPTION_ATTEMPTS, { .attempts_max = ATTEMPTS_MAX }, "", 0, 0 },
        { OPTION_ATTEMPTS, { .attempts_max = 0 }, "", 0, 0 },
        { OPTION_IN_FLIGHT, { .in_flight_max = 1 }, "", 0, 0 },
        { OPTION_BACKOFF,
          { .backoff_ms = { 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
                            DELAY_MS_MAX },
            .backoff_count = BACKOFF_COUNT_MAX },
          "",
          0,
          0 },
        { OPTION_ATTEMPTS, { .attempts_max = BACKOFF_COUNT_MAX + 1 }, "", 0, 0 },
        { OPTION_BACKOFF, { .backoff_count = 0 }, "", 0, 0 },
        { OPTION_ATTEMPTS, { .attempts_max = 1 }, "", 0, 0 },
    };

    cr_assert_eq(create_group("g", "t", 0), STATUS_OK);
    for (size_t i = 0; i < COUNT_OF(good); i++) {
        struct catalog_request request = update_of("g", 0);

        request.options = good[i].options;
        request.given = good[i].given;
        cr_assert_eq(change(request), STATUS_OK, "%zu: %s", i, refusal.text);
    }
    restart();
    cr_assert_eq(group_of("g")->options.notice_ms, LEASE_MS_MAX - 1);
    cr_assert_eq(group_of("g")->options.attempts_max, 1);
}

/* Paused is how it is just now, and no part of what it is. */
Test(catalog_groups, each_option_but_the_pause_makes_another_definition)
{
    cr_assert_eq(create_group("g", "t", 0), STATUS_OK);
    for (unsigned option = 1; option <= OPTION_FILTER; option *= 2) {
        struct catalog_request request = group_request("g", "t", 0);

        request.options = all_options();
        request.given = option;
        cr_assert_eq(change(request), STATUS_EXISTS);
        cr_assert_not_null(strstr(refusal.text, option == OPTION_PAUSED
                                                    ? "the same"
                                                    : "another"),
                           "%u", option);
    }
}

Test(catalog_groups, groups_are_bounded)
{
    struct bytes body = { 0 };
    struct record_fact fact;
    struct catalog_request request = group_request("g", "t", 0);
    char name[24];

    cr_assert_eq(decide(&request, &body), STATUS_OK);
    cr_assert_eq(
        fact_read(slice_of(bytes_begin(&body), bytes_len(&body)), &fact),
        STATUS_OK);
    for (uint32_t i = 1; i < GROUP_COUNT_MAX; i++) {
        int len = snprintf(name, sizeof name, "g%06u", i);

        fact.id = i;
        fact.name = slice_of(name, (size_t)len);
        cr_assert_eq(catalog_apply(catalog, &fact), STATUS_OK);
    }
    bytes_fini(&body);
    cr_assert_eq(create_group("last", "t", 0), STATUS_OK);
    cr_assert_eq(create_group("more", "t", 0), STATUS_TOO_LARGE);
    cr_assert_str_eq(refusal.limit, "group_count");
    cr_assert_eq(refusal.used, GROUP_COUNT_MAX);
    cr_assert_eq(refusal.allowed, GROUP_COUNT_MAX);
}

/* ---- where it begins ---- */

static enum status create_at(const char *topics, enum group_from from,
                             uint64_t at)
{
    struct catalog_request request = group_request("g", topics, 0);

    request.from = from;
    request.from_at = at;
    return change(request);
}

static void make_topics(void)
{
    last_seq = 40;
    cr_assert_eq(create_topic("t", 0), STATUS_OK);
    cr_assert_eq(create_topic("t2", 0), STATUS_OK);
    cr_assert_eq(create_topic("other", 0), STATUS_OK);
}

Test(catalog_groups, a_group_begins_at_a_seq_of_its_topic)
{
    static const struct {
        uint64_t seq;
        uint64_t after;
    } table[] = { { 1, 0 }, { 12, 11 }, { 40, 39 }, { 41, 40 } };

    make_topics();
    for (size_t i = 0; i < COUNT_OF(table); i++) {
        cr_assert_eq(create_at("t", FROM_SEQ, table[i].seq), STATUS_OK);
        restart();
        cr_assert_eq(group_starts_after(group_of("g"), topic_id("t")),
                     table[i].after);
        cr_assert_eq(group_of("g")->from, FROM_SEQ);
        cr_assert_eq(group_of("g")->from_at, table[i].seq);
        cr_assert_eq(change(named(CATALOG_DELETE, CATALOG_GROUP, "g", 0)),
                     STATUS_OK);
    }
    /* What a topic keeps for others only is nothing to it. */
    floor_seq = 20;
    cr_assert_eq(create_at("t", FROM_SEQ, 5), STATUS_OK);
    cr_assert_eq(group_starts_after(group_of("g"), topic_id("t")), 19);
}

Test(catalog_groups, a_seq_is_one_topics)
{
    make_topics();
    cr_assert_eq(create_at("t", FROM_SEQ, 0), STATUS_INVALID);
    cr_assert_eq(refusal.used, 0);
    cr_assert_eq(refusal.allowed, 41);
    cr_assert_eq(create_at("t", FROM_SEQ, 42), STATUS_INVALID);
    cr_assert_str_eq(refusal.limit, "from");
    cr_assert_eq(refusal.used, 42);
    cr_assert_eq(refusal.allowed, 41);
    cr_assert_eq(create_at("t*", FROM_SEQ, 1), STATUS_INVALID);
    cr_assert_str_eq(refusal.limit, "from");
    cr_assert_eq(create_at("t,t2", FROM_SEQ, 1), STATUS_INVALID);
    cr_assert_eq(create_at("none", FROM_SEQ, 1), STATUS_INVALID);
    cr_assert_not_null(strstr(refusal.text, "none"));
    cr_assert_null(group_of("g"));
}

Test(catalog_groups, a_group_begins_at_a_time_in_each_topic)
{
    make_topics();
    cr_assert_eq(create_at("t*", FROM_TIME, 30), STATUS_OK);
    restart();
    cr_assert_eq(group_starts_after(group_of("g"), topic_id("t")), 29);
    cr_assert_eq(group_starts_after(group_of("g"), topic_id("t2")), 29);
    cr_assert_eq(group_starts_after(group_of("g"), topic_id("other")), 0);
    cr_assert_eq(group_of("g")->from_at, 30);
    cr_assert_eq(create_at("t*", FROM_TIME, 31), STATUS_EXISTS);
    cr_assert_not_null(strstr(refusal.text, "another"));
}

/* Clocks differ a little: now and a moment ahead is the latest. */
Test(catalog_groups, a_time_to_come_is_refused)
{
    uint64_t ahead = 77 + UINT64_C(1000) * TIMESTAMP_SKEW_MS_MAX;

    make_topics();
    cr_assert_eq(create_at("t", FROM_TIME, ahead + 1), STATUS_INVALID);
    cr_assert_str_eq(refusal.limit, "from");
    cr_assert_eq(refusal.used, ahead + 1);
    cr_assert_eq(create_at("t", FROM_TIME, ahead), STATUS_OK);
    cr_assert_eq(group_starts_after(group_of("g"), topic_id("t")), 40);
}

Test(catalog_groups, a_time_is_looked_for_in_so_many_topics)
{
    char name[24];

    for (unsigned i = 0; i < FROM_TIME_TOPIC_COUNT_MAX + 1; i++) {
        snprintf(name, sizeof name, "t%u", i);
        cr_assert_eq(create_topic(name, 0), STATUS_OK);
    }
    cr_assert_eq(create_at("*", FROM_TIME, 0), STATUS_INVALID);
    cr_assert_str_eq(refusal.limit, "from");
    cr_assert_eq(refusal.used, FROM_TIME_TOPIC_COUNT_MAX + 1);
    cr_assert_eq(refusal.allowed, FROM_TIME_TOPIC_COUNT_MAX);
    cr_assert_eq(change(named(CATALOG_DELETE, CATALOG_TOPIC, "t0", 0)),
                 STATUS_OK);
    cr_assert_eq(create_at("*", FROM_TIME, 0), STATUS_OK);
}
