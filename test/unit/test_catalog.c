/* links: godwit_router godwit_storage godwit_proto */
#include "test/lib/catalog_bed.h"

TestSuite(catalog, .init = set_up, .fini = tear_down, .timeout = 30);

static enum status drop(enum catalog_class class, const char *name,
                        uint32_t asker)
{
    return change(named(CATALOG_DELETE, class, name, asker));
}

Test(catalog, what_was_created_is_found_by_name_and_id)
{
    cr_assert_eq(create_topic("orders", 0), STATUS_OK);
    cr_assert_eq(topic_id("orders"), 1);
    cr_assert_str_eq(catalog_topic_by_id(catalog, 1)->name, "orders");
    cr_assert_null(catalog_topic_by_id(catalog, 2));
    cr_assert_null(catalog_topic(catalog, slice_text("order")));
    cr_assert_null(catalog_topic(catalog, slice_text("orders2")));
    cr_assert_eq(catalog_count(catalog, CATALOG_TOPIC), 1);
    cr_assert_eq(catalog_count(catalog, CATALOG_GROUP), 0);
}

Test(catalog, a_decision_changes_nothing_until_it_is_applied)
{
    struct catalog_request request =
        named(CATALOG_CREATE, CATALOG_TOPIC, "t", 0);
    struct bytes body = { 0 };

    cr_assert_eq(decide(&request, &body), STATUS_OK);
    cr_assert_eq(topic_id("t"), 0);
    cr_assert_eq(commit(&body), STATUS_OK);
    cr_assert_eq(topic_id("t"), 1);
}

Test(catalog, names_are_checked)
{
    static const char *const bad[] = { "",    ".a", "-a",       "a b",
                                       "a/b", "a*", "\xc3\xa4", "a\n" };
    char longest[NAME_LEN_MAX + 1];

    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        cr_assert_eq(create_topic(bad[i], 0), STATUS_INVALID, "%s", bad[i]);
        cr_assert_str_eq(refusal.limit, "name");
    }
    memset(longest, 'n', NAME_LEN_MAX);
    longest[NAME_LEN_MAX] = '\0';
    cr_assert_eq(create_topic(longest, 0), STATUS_OK);
    cr_assert_neq(topic_id(longest), 0);
}

Test(catalog, the_same_once_more_says_whether_it_is_the_same)
{
    struct catalog_request other;

    cr_assert_eq(create_group("g", "a.*,b", 0), STATUS_OK);
    cr_assert_eq(create_group("g", "b,a.*", 0), STATUS_EXISTS);
    cr_assert_not_null(strstr(refusal.text, "the same"));
    cr_assert_str_eq(refusal.scope, "group g");
    cr_assert_eq(create_group("g", "b", 0), STATUS_EXISTS);
    cr_assert_not_null(strstr(refusal.text, "another"));
    other = group_request("g", "a.*,b", 0);
    other.options.lease_ms = LEASE_MS_DEFAULT;
    other.given = OPTION_LEASE;
    cr_assert_eq(change(other), STATUS_EXISTS);
    cr_assert_not_null(strstr(refusal.text, "the same"));
    other = group_request("g", "a.*,b", 0);
    other.options.lease_ms = LEASE_MS_DEFAULT + 1;
    other.given = OPTION_LEASE;
    cr_assert_eq(change(other), STATUS_EXISTS);
    cr_assert_not_null(strstr(refusal.text, "another"));
}

Test(catalog, all_of_a_group_survives_a_restart)
{
    const struct group_fact *group;
    struct catalog_request request;

    cr_assert_eq(create_app("shop", false, "a.*", "a.*", 0), STATUS_OK);
    cr_assert_eq(create_topic("a.one", 1), STATUS_OK);
    cr_assert_eq(create_topic("other", 0), STATUS_OK);
    last_seq = 41;
    request = group_request("g", "a.*", 1);
    request.from = FROM_LATEST;
    request.options.lease_ms = LEASE_MS_MAX;
    request.given = OPTION_LEASE;
    cr_assert_eq(change(request), STATUS_OK);
    restart();
    group = catalog_group(catalog, slice_text("g"));
    cr_assert_not_null(group);
    cr_assert_eq(group->id, 1);
    cr_assert_eq(group->app, 1);
    cr_assert_eq(group->from, FROM_LATEST);
    cr_assert_eq(group->options.lease_ms, LEASE_MS_MAX);
    cr_assert_eq(group->created_us, 77);
    cr_assert(group_takes_topic(group, slice_text("a.one")));
    cr_assert_not(group_takes_topic(group, slice_text("other")));
    cr_assert_eq(group_starts_after(group, topic_id("a.one")), 41);
    cr_assert_eq(group_starts_after(group, topic_id("other")), 0);
    cr_assert_eq(catalog_group_by_id(catalog, 1), group);
}

Test(catalog, all_of_an_app_survives_a_restart)
{
    char before[SECRET_LEN_MAX + 1];
    const struct app *app;

    cr_assert_eq(create_app("shop", false, "a.*,b", "c", 0), STATUS_OK);
    memcpy(before, secret, sizeof before);
    cr_assert_eq(create_app("root", true, NULL, NULL, 0), STATUS_OK);
    restart();
    app = catalog_app(catalog, slice_text("shop"));
    cr_assert_str_eq(app->secret, before);
    cr_assert_not(app->admin);
    cr_assert_eq(app->publish.count, 2);
    cr_assert_str_eq(app->publish.at[0], "a.*");
    cr_assert_str_eq(app->subscribe.at[0], "c");
    cr_assert(catalog_app(catalog, slice_text("root"))->admin);
}

Test(catalog, a_secret_is_the_randomness_in_base64url)
{
    cr_assert_eq(create_app("shop", false, "*", NULL, 0), STATUS_OK);
    cr_assert_str_eq(secret, "MDEyMzQ1Njc4OWFiY2RlZmdoaWprbG0A");
}

static void add_name(void *arg, struct topic *topic)
{
    char *text = arg;
    size_t len = strlen(text);

    snprintf(text + len, 64 - len, "%s ", topic->name);
}

Test(catalog, listings_are_in_the_order_of_names)
{
    static const char *const names[] = { "b", "a", "C", "ab", "a.b", "10" };
    char text[64] = "";

    for (size_t i = 0; i < COUNT_OF(names); i++) {
        cr_assert_eq(create_topic(names[i], 0), STATUS_OK);
    }
    catalog_each_topic(catalog, add_name, text);
    cr_assert_str_eq(text, "10 C a a.b ab b ");
}

/* ---- ids ---- */

Test(catalog, an_id_is_never_given_twice)
{
    cr_assert_eq(create_topic("a", 0), STATUS_OK);
    cr_assert_eq(create_topic("b", 0), STATUS_OK);
    cr_assert_eq(drop(CATALOG_TOPIC, "b", 0), STATUS_OK);
    cr_assert_eq(create_topic("b", 0), STATUS_OK);
    cr_assert_eq(topic_id("b"), 3);
}

Test(catalog, nor_after_a_restart_when_the_newest_was_deleted)
{
    cr_assert_eq(create_topic("a", 0), STATUS_OK);
    cr_assert_eq(create_topic("b", 0), STATUS_OK);
    cr_assert_eq(drop(CATALOG_TOPIC, "b", 0), STATUS_OK);
    restart();
    cr_assert_eq(topic_id("b"), 0);
    cr_assert_eq(catalog_count(catalog, CATALOG_TOPIC), 1);
    cr_assert_eq(create_topic("b", 0), STATUS_OK);
    cr_assert_eq(topic_id("b"), 3);
}

Test(catalog, nor_when_all_were_deleted_newest_first)
{
    cr_assert_eq(create_topic("a", 0), STATUS_OK);
    cr_assert_eq(create_topic("b", 0), STATUS_OK);
    cr_assert_eq(drop(CATALOG_TOPIC, "b", 0), STATUS_OK);
    cr_assert_eq(drop(CATALOG_TOPIC, "a", 0), STATUS_OK);
    restart();
    cr_assert_eq(create_topic("c", 0), STATUS_OK);
    cr_assert_eq(topic_id("c"), 3);
}

/* A replica hears of numbers in facts it cannot use, too. */
Test(catalog, nor_when_only_the_fact_of_a_deletion_is_known)
{
    const struct record_fact fact = { .class = CATALOG_TOPIC,
                                      .id = 7,
                                      .deleted = true,
                                      .name = slice_text("gone") };

    cr_assert_eq(catalog_apply(catalog, &fact), STATUS_OK);
    cr_assert_eq(create_topic("t", 0), STATUS_OK);
    cr_assert_eq(topic_id("t"), 8);
}

Test(catalog, the_last_id_only_rises_and_has_an_end)
{
    catalog_set_last_id(catalog, CATALOG_TOPIC, UINT32_MAX - 1);
    catalog_set_last_id(catalog, CATALOG_TOPIC, 5);
    cr_assert_eq(create_topic("last", 0), STATUS_OK);
    cr_assert_eq(topic_id("last"), UINT32_MAX);
    cr_assert_eq(create_topic("more", 0), STATUS_TOO_LARGE);
    cr_assert_str_eq(refusal.limit, "id");
    cr_assert_eq(create_group("g", "last", 0), STATUS_OK);
}

/* Random creations, deletions and restarts against the one rule. */
Test(catalog, ids_only_rise_whatever_happens)
{
    uint32_t highest = 0;
    uint32_t seed = 12345;
    char name[24];

    for (int i = 0; i < 3000; i++) {
        seed = seed * 1664525 + 1013904223;
        snprintf(name, sizeof name, "t%u", (seed >> 8) % 6);
        switch ((seed >> 16) % 8) {
        case 0:
            restart();
            break;
        case 1:
        case 2:
        case 3:
        case 4:
            (void)drop(CATALOG_TOPIC, name, 0);
            break;
        default:
            if (create_topic(name, 0) == STATUS_OK) {
                cr_assert_gt(topic_id(name), highest);
                highest = topic_id(name);
            }
        }
    }
    cr_assert_gt(highest, 500);
    cr_assert_leq(kept_count, 6);
}

/* ---- who may ---- */

Test(catalog, grants_decide_who_creates_what)
{
    cr_assert_eq(create_app("shop", false, "a.*", "b.*,c", 0), STATUS_OK);
    cr_assert_eq(create_topic("a.x", 1), STATUS_OK);
    cr_assert_eq(create_topic("b.x", 1), STATUS_FORBIDDEN);
    cr_assert_str_eq(refusal.limit, "grant");
    cr_assert_eq(create_group("g1", "b.*", 1), STATUS_OK);
    cr_assert_eq(create_group("g2", "b.x*,c", 1), STATUS_OK);
    cr_assert_eq(create_group("g3", "b.*,a.x", 1), STATUS_FORBIDDEN);
    cr_assert_str_eq(refusal.limit, "grant");
    cr_assert_not_null(strstr(refusal.text, "a.x"));
    cr_assert_eq(create_group("g4", "*", 1), STATUS_FORBIDDEN);
    cr_assert_eq(create_group("g5", "b*", 1), STATUS_FORBIDDEN);
    cr_assert_eq(create_app("more", false, "a.*", NULL, 1), STATUS_FORBIDDEN);
    cr_assert_str_eq(refusal.limit, "admin");
    /* Not the missing grant: that one may not know what is asked of apps. */
    cr_assert_eq(create_app("more", false, NULL, NULL, 1), STATUS_FORBIDDEN);
}

Test(catalog, an_admin_may_everything)
{
    cr_assert_eq(create_app("root", true, NULL, NULL, 0), STATUS_OK);
    cr_assert_eq(create_topic("any", 1), STATUS_OK);
    cr_assert_eq(create_group("g", "*", 1), STATUS_OK);
    cr_assert_eq(create_app("shop", false, "*", NULL, 1), STATUS_OK);
    cr_assert(app_may_publish(catalog_app_by_id(catalog, 1), slice_text("x")));
    cr_assert(
        app_may_subscribe(catalog_app_by_id(catalog, 1), slice_text("*")));
}

Test(catalog, owners_and_admins_delete)
{
    cr_assert_eq(create_app("root", true, NULL, NULL, 0), STATUS_OK);
    cr_assert_eq(create_app("shop", false, "*", "*", 0), STATUS_OK);
    cr_assert_eq(create_app("else", false, "*", "*", 0), STATUS_OK);
    cr_assert_eq(create_topic("t", app_id("shop")), STATUS_OK);
    cr_assert_eq(create_group("g", "t", app_id("shop")), STATUS_OK);
    cr_assert_eq(drop(CATALOG_TOPIC, "t", app_id("else")), STATUS_FORBIDDEN);
    cr_assert_str_eq(refusal.limit, "owner");
    cr_assert_eq(drop(CATALOG_GROUP, "g", app_id("else")), STATUS_FORBIDDEN);
    cr_assert_eq(drop(CATALOG_APP, "else", app_id("else")), STATUS_FORBIDDEN);
    cr_assert_eq(drop(CATALOG_TOPIC, "t", app_id("shop")), STATUS_OK);
    cr_assert_eq(drop(CATALOG_GROUP, "g", app_id("root")), STATUS_OK);
    cr_assert_eq(drop(CATALOG_APP, "else", app_id("root")), STATUS_OK);
    cr_assert_eq(drop(CATALOG_TOPIC, "t", app_id("root")), STATUS_NOT_FOUND);
    cr_assert_not_null(strstr(refusal.text, "no topic named t"));
}

Test(catalog, the_last_admin_stays)
{
    cr_assert_eq(create_app("one", true, NULL, NULL, 0), STATUS_OK);
    cr_assert_eq(drop(CATALOG_APP, "one", 1), STATUS_FORBIDDEN);
    cr_assert_str_eq(refusal.limit, "last_admin");
    cr_assert_eq(create_app("two", true, NULL, NULL, 1), STATUS_OK);
    cr_assert_eq(drop(CATALOG_APP, "one", 1), STATUS_OK);
    cr_assert_eq(drop(CATALOG_APP, "two", 2), STATUS_FORBIDDEN);
    cr_assert_null(catalog_app(catalog, slice_text("one")));
}

Test(catalog, a_deleted_app_asks_in_vain)
{
    cr_assert_eq(create_topic("t", 9), STATUS_UNAUTHENTICATED);
    cr_assert_eq(drop(CATALOG_TOPIC, "t", 9), STATUS_UNAUTHENTICATED);
}

/* ---- numbers ---- */

Test(catalog, leases_have_bounds)
{
    static const struct {
        uint64_t lease_ms;
        enum status want;
    } table[] = { { LEASE_MS_MIN - 1, STATUS_INVALID },
                  { LEASE_MS_MIN, STATUS_OK },
                  { LEASE_MS_MAX, STATUS_OK },
                  { (uint64_t)LEASE_MS_MAX + 1, STATUS_INVALID },
                  { UINT64_MAX, STATUS_INVALID },
                  { 0, STATUS_INVALID } };
    char name[24];

    for (size_t i = 0; i < COUNT_OF(table); i++) {
        struct catalog_request request;

        snprintf(name, sizeof name, "g%zu", i);
        request = group_request(name, "t", 0);
        request.options.lease_ms = table[i].lease_ms;
        request.given = OPTION_LEASE;
        cr_assert_eq(change(request), table[i].want, "%zu", i);
        if (table[i].want != STATUS_OK) {
            cr_assert_eq(refusal.used, table[i].lease_ms);
        }
    }
    cr_assert_eq(create_group("none", "t", 0), STATUS_OK);
    cr_assert_eq(catalog_group(catalog, slice_text("none"))->options.lease_ms,
                 LEASE_MS_DEFAULT);
}

static struct patterns many(size_t count)
{
    struct patterns patterns = { 0 };
    struct refusal r;
    char text[24];

    for (size_t i = 0; i < count; i++) {
        snprintf(text, sizeof text, "p%zu", i);
        cr_assert_eq(patterns_add(&patterns, slice_text(text), &r), STATUS_OK);
    }
    return patterns;
}

Test(catalog, patterns_of_a_group_are_bounded)
{
    struct catalog_request request = group_request("g", NULL, 0);

    cr_assert_eq(change(request), STATUS_INVALID);
    cr_assert_str_eq(refusal.limit, "group_patterns");
    request = group_request("g", NULL, 0);
    request.topics = many(GROUP_PATTERN_COUNT_MAX + 1);
    cr_assert_eq(change(request), STATUS_TOO_LARGE);
    cr_assert_eq(refusal.used, GROUP_PATTERN_COUNT_MAX + 1);
    cr_assert_eq(refusal.allowed, GROUP_PATTERN_COUNT_MAX);
    request = group_request("g", NULL, 0);
    request.topics = many(GROUP_PATTERN_COUNT_MAX);
    cr_assert_eq(change(request), STATUS_OK);
    restart();
    cr_assert_eq(catalog_group(catalog, slice_text("g"))->topics.count,
                 GROUP_PATTERN_COUNT_MAX);
}

Test(catalog, a_group_begins_somewhere)
{
    struct catalog_request request = group_request("g", "t", 0);

    request.from = (enum group_from)5;
    cr_assert_eq(change(request), STATUS_INVALID);
    cr_assert_str_eq(refusal.limit, "from");
}

Test(catalog, grants_of_an_app_are_bounded)
{
    struct catalog_request request =
        named(CATALOG_CREATE, CATALOG_APP, "shop", 0);
    struct refusal r;
    struct patterns full = many(APP_GRANT_COUNT_MAX);

    cr_assert_eq(change(request), STATUS_INVALID);
    cr_assert_str_eq(refusal.limit, "app_grants");
    cr_assert_eq(patterns_add(&full, slice_text("more"), &r), STATUS_TOO_LARGE);
    cr_assert_eq(r.used, APP_GRANT_COUNT_MAX + 1);
    cr_assert_eq(r.allowed, APP_GRANT_COUNT_MAX);
    cr_assert_eq(patterns_add(&full, slice_text("p0"), &r), STATUS_OK);
    request.publish = full;
    cr_assert_eq(change(request), STATUS_OK);
    restart();
    cr_assert_eq(catalog_app(catalog, slice_text("shop"))->publish.count,
                 APP_GRANT_COUNT_MAX);
}

Test(catalog, patterns_are_taken_apart_at_commas_and_checked)
{
    static const char *const bad[] = { "",   "a,",  ",a",  "a,,b",
                                       ".a", "a b", "a,-b" };
    struct patterns patterns = { 0 };
    struct refusal r;
    char longest[PATTERN_LEN_MAX + 2];

    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        cr_assert_eq(patterns_add(&patterns, slice_text(bad[i]), &r),
                     STATUS_INVALID, "%s", bad[i]);
    }
    patterns_fini(&patterns);
    cr_assert_eq(patterns_add(&patterns, slice_text("x*,y"), &r), STATUS_OK);
    cr_assert_eq(patterns.count, 2);
    cr_assert(patterns_match(&patterns, slice_text("xyz")));
    cr_assert_not(patterns_match(&patterns, slice_text("z")));
    memset(longest, 'p', sizeof longest);
    cr_assert_eq(
        patterns_add(&patterns, slice_of(longest, PATTERN_LEN_MAX), &r),
        STATUS_OK);
    cr_assert_eq(
        patterns_add(&patterns, slice_of(longest, PATTERN_LEN_MAX + 1), &r),
        STATUS_INVALID);
    cr_assert_eq(r.used, PATTERN_LEN_MAX + 1);
    patterns_fini(&patterns);
}

/* ---- facts that make no sense ---- */

static enum status apply(enum catalog_class class, uint32_t id,
                         const char *name, const void *value, size_t len)
{
    struct record_fact fact = { .class = class,
                                .id = id,
                                .name = slice_text(name),
                                .value = slice_of(value, len) };

    return catalog_apply(catalog, &fact);
}

Test(catalog, facts_are_not_believed)
{
    static const uint8_t topic[16] = { 1 };

    cr_assert_eq(apply(CATALOG_TOPIC, 0, "t", topic, 16), STATUS_CORRUPT);
    cr_assert_eq(apply(CATALOG_TOPIC, 1, "", topic, 16), STATUS_CORRUPT);
    cr_assert_eq(apply(CATALOG_TOPIC, 1, "a b", topic, 16), STATUS_CORRUPT);
    cr_assert_eq(apply((enum catalog_class)9, 1, "t", topic, 16),
                 STATUS_CORRUPT);
    cr_assert_eq(apply(CATALOG_TOPIC, 1, "t", topic, 15), STATUS_CORRUPT);
    cr_assert_eq(apply(CATALOG_TOPIC, 1, "t", topic, 0), STATUS_CORRUPT);
    cr_assert_eq(apply(CATALOG_TOPIC, 1, "t", "\3\0", 2), STATUS_NEWER);
    cr_assert_eq(apply(CATALOG_TOPIC, 5, "t", topic, 16), STATUS_OK);
    cr_assert_eq(apply(CATALOG_TOPIC, 5, "t", topic, 16), STATUS_OK);
    cr_assert_eq(apply(CATALOG_TOPIC, 5, "u", topic, 16), STATUS_CORRUPT);
    cr_assert_eq(apply(CATALOG_TOPIC, 6, "t", topic, 16), STATUS_CORRUPT);
    cr_assert_eq(catalog_count(catalog, CATALOG_TOPIC), 1);
}

/* Every way to cut a value short is noticed, and none reads past its end (the
 * copy is exactly as long, for the address sanitizer). */
Test(catalog, cut_values_are_corrupt)
{
    struct catalog_request request = group_request("g", "a.*,b", 0);

    last_seq = 3;
    cr_assert_eq(create_topic("b", 0), STATUS_OK);
    request.options.filter = strdup("a == 'b'");
    request.options.backoff_count = 2;
    request.options.backoff_ms[0] = request.options.backoff_ms[1] = 5;
    request.given = OPTION_FILTER | OPTION_BACKOFF;
    request.from = FROM_LATEST;
    cr_assert_eq(change(request), STATUS_OK);
    cr_assert_eq(create_app("shop", false, "x,y", "z", 0), STATUS_OK);
    for (size_t i = 0; i < kept_count; i++) {
        for (size_t len = 0; len < kept[i].value_len; len++) {
            uint8_t *copy = malloc(len + 1);

            memcpy(copy, kept[i].value, len);
            cr_assert_eq(apply(kept[i].class, 100, "new", copy, len),
                         STATUS_CORRUPT, "class %d at %zu", (int)kept[i].class,
                         len);
            free(copy);
        }
    }
    cr_assert_eq(kept_count, 3);
}

/* Any single wrong byte gives an entry within the bounds, or none. */
Test(catalog, flipped_values_do_no_harm)
{
    struct catalog_request request = group_request("g", "a.*,b", 0);

    last_seq = 3;
    cr_assert_eq(create_topic("b", 0), STATUS_OK);
    request.options.filter = strdup("a == 'b'");
    request.options.backoff_count = 2;
    request.options.backoff_ms[0] = request.options.backoff_ms[1] = 5;
    request.given = OPTION_FILTER | OPTION_BACKOFF;
    request.from = FROM_LATEST;
    cr_assert_eq(change(request), STATUS_OK);
    for (size_t at = 0; at < kept[1].value_len; at++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            uint8_t copy[256];
            struct record_fact gone = { .class = CATALOG_GROUP,
                                        .id = 100,
                                        .deleted = true,
                                        .name = slice_text("new") };

            memcpy(copy, kept[1].value, kept[1].value_len);
            copy[at] ^= (uint8_t)(1U << bit);
            if (apply(CATALOG_GROUP, 100, "new", copy, kept[1].value_len)
                == STATUS_OK) {
                const struct group_fact *group =
                    catalog_group_by_id(catalog, 100);

                if (group != NULL) {
                    cr_assert_leq(group->topics.count, GROUP_PATTERN_COUNT_MAX);
                    cr_assert_leq(group->options.lease_ms, LEASE_MS_MAX);
                    cr_assert_leq(group->options.backoff_count,
                                  BACKOFF_COUNT_MAX);
                    cr_assert_eq(group->options.filter == NULL,
                                 group->filter == NULL);
                }
            }
            cr_assert_eq(catalog_apply(catalog, &gone), STATUS_OK);
        }
    }
}

/* ---- watching ---- */

static char seen[256];

static void saw(const char *what, const char *name, bool found)
{
    size_t len = strlen(seen);

    snprintf(seen + len, sizeof seen - len, "%s %s %s;", what, name,
             found ? "there" : "away");
}

static void on_topic_added(void *arg, struct topic *topic)
{
    (void)arg;
    cr_assert_null(topic->user);
    topic->user = seen;
    saw("+topic", topic->name, topic_id(topic->name) != 0);
}

static void on_topic_gone(void *arg, struct topic *topic)
{
    (void)arg;
    cr_assert_eq(topic->user, seen);
    saw("-topic", topic->name, topic_id(topic->name) != 0);
}

static void on_group_added(void *arg, struct group_fact *group)
{
    (void)arg;
    saw("+group", group->name, true);
}

static void on_group_gone(void *arg, struct group_fact *group)
{
    (void)arg;
    saw("-group", group->name, true);
}

static void on_app_gone(void *arg, const struct app *app)
{
    (void)arg;
    saw("-app", app->name, true);
}

Test(catalog, a_watcher_hears_of_each_change_once)
{
    static const struct catalog_watch watch = { .topic_added = on_topic_added,
                                                .topic_gone = on_topic_gone,
                                                .group_added = on_group_added,
                                                .group_gone = on_group_gone,
                                                .app_gone = on_app_gone };

    catalog_set_watch(catalog, &watch);
    cr_assert_eq(create_topic("t", 0), STATUS_OK);
    cr_assert_eq(create_topic("u", 0), STATUS_OK);
    cr_assert_eq(create_group("g", "t", 0), STATUS_OK);
    cr_assert_eq(create_app("shop", false, "t", NULL, 0), STATUS_OK);
    cr_assert_eq(drop(CATALOG_TOPIC, "t", 0), STATUS_OK);
    cr_assert_eq(drop(CATALOG_GROUP, "g", 0), STATUS_OK);
    cr_assert_eq(drop(CATALOG_APP, "shop", 0), STATUS_OK);
    cr_assert_str_eq(seen, "+topic t there;+topic u there;+group g there;"
                           "-topic t there;-group g there;-app shop there;");
    cr_assert_eq(topic_id("t"), 0);
}

Test(catalog, topics_are_bounded)
{
    struct record_fact fact = { .class = CATALOG_TOPIC };
    static const uint8_t value[16] = { 1 };
    char name[24];

    for (uint32_t i = 1; i < TOPIC_COUNT_MAX; i++) {
        int len = snprintf(name, sizeof name, "t%06u", i);

        fact.id = i;
        fact.name = slice_of(name, (size_t)len);
        fact.value = slice_of(value, sizeof value);
        cr_assert_eq(catalog_apply(catalog, &fact), STATUS_OK);
    }
    cr_assert_eq(create_topic("last", 0), STATUS_OK);
    cr_assert_eq(create_topic("one-more", 0), STATUS_TOO_LARGE);
    cr_assert_str_eq(refusal.limit, "topic_count");
    cr_assert_eq(refusal.used, TOPIC_COUNT_MAX);
    cr_assert_eq(refusal.allowed, TOPIC_COUNT_MAX);
    cr_assert_eq(topic_id("t040000"), 40000);
}

Test(catalog, lanes_have_a_bound)
{
    cr_assert_eq(create_topic("a", 0), STATUS_OK);
    cr_assert_eq(create_topic("b", 0), STATUS_OK);
    lane_count = LANE_COUNT_MAX - 2;
    cr_assert_eq(create_group("all", "*", 0), STATUS_OK);
    cr_assert_eq(create_topic("last", 0), STATUS_OK);
    lane_count = LANE_COUNT_MAX - 1;
    cr_assert_eq(create_group("too-many", "*", 0), STATUS_TOO_LARGE);
    cr_assert_str_eq(refusal.limit, "lane_count");
    cr_assert_eq(refusal.used, LANE_COUNT_MAX + 2);
    cr_assert_eq(refusal.allowed, LANE_COUNT_MAX);
    cr_assert_eq(create_group("one", "a", 0), STATUS_OK);
    lane_count = LANE_COUNT_MAX;
    cr_assert_eq(create_topic("more", 0), STATUS_TOO_LARGE);
    cr_assert_str_eq(refusal.limit, "lane_count");
    cr_assert_eq(refusal.used, LANE_COUNT_MAX + 1);
    cr_assert_eq(create_group("of-none", "x", 0), STATUS_OK);
}
