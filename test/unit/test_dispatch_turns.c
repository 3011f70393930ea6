/* links: godwit_server godwit_delivery godwit_storage godwit_proto */
/* with: test/storage/harness.c test/lib/tmpdir.c */
#include "test/lib/dispatch_bed.h"

/* Many groups on one worker: whose turn it is, who waits for room, what is due
 * first, and the books of them all. */

TestSuite(dispatch_turns, .init = set_up, .fini = tear_down, .timeout = 60);

enum { MANY = 300, MESSAGES = 10000 };

static const struct group_options none;

static size_t given_to(const char *name)
{
    char word[32];
    size_t count = 0;

    snprintf(word, sizeof word, "%s:", name);
    for (const char *at = out; (at = strstr(at, word)) != NULL; at++) {
        count++;
    }
    return count;
}

/* ---- priority ---- */

static void make_three(void)
{
    make_topic();
    make_group_named("low", (struct group_options) { .priority = PRIORITY_LOW },
                     OPTION_PRIORITY);
    make_group_named("normal", none, 0);
    make_group_named("high",
                     (struct group_options) { .priority = PRIORITY_HIGH },
                     OPTION_PRIORITY);
    read_ring();
    for (unsigned i = 0; i < MESSAGES / 1000; i++) {
        publish(1000);
        read_ring();
    }
}

Test(dispatch_turns, a_high_priority_goes_first_and_leaves_some)
{
    size_t high;
    size_t normal;
    size_t low;

    make_three();
    join_group("low", 65536);
    join_group("normal", 65536);
    join_group("high", 65536);
    pump();
    high = given_to("high");
    normal = given_to("normal");
    low = given_to("low");
    cr_assert_gt(high, 0);
    cr_assert_gt(normal, 0);
    cr_assert_gt(low, 0);
    cr_assert_geq(high, normal);
    cr_assert_geq(normal, low);
    cr_assert(strncmp(out, "high:", 5) == 0);
    cr_assert(dispatch_has_more(d));
}

Test(dispatch_turns, alone_a_low_priority_has_the_whole_turn)
{
    size_t turns = 0;

    make_three();
    join_group("low", 65536);
    while (dispatch_has_more(d) && turns < 100) {
        pump();
        turns++;
    }
    cr_assert_leq(turns, 2 + MESSAGES / 1024);
}

Test(dispatch_turns, a_new_priority_holds_from_the_next_turn_on)
{
    struct catalog_request request = { .op = CATALOG_UPDATE,
                                       .class = CATALOG_GROUP,
                                       .name = "low",
                                       .options.priority = PRIORITY_HIGH,
                                       .given = OPTION_PRIORITY };

    make_three();
    join_group("normal", 65536);
    join_group("low", 65536);
    pump();
    cr_assert(strncmp(out, "normal:", 7) == 0);
    change(&request);
    read_ring();
    pump();
    pump();
    cr_assert(strncmp(out, "low:", 4) == 0);
}

/* ---- room in the in-flight table ---- */

static void settle_in(const char *name, uint64_t first, uint64_t last)
{
    const struct settlement settlement = { .lease = 0,
                                           .topic = TOPIC,
                                           .action = SETTLE_ACK,
                                           .range = { first, last } };

    cr_assert_eq(
        dispatch_settle(d, catalog_group(dispatch_catalog(d), slice_text(name)),
                        &settlement, now_us, NULL, NULL, add_outcome, NULL),
        STATUS_OK);
}

/* One group has filled the table; another gets what the first gives back. */
Test(dispatch_turns, who_found_no_room_is_asked_again)
{
    size_t first = 0;
    size_t other = 0;

    in_flight_bytes = 128 * 1024;
    open_again();
    make_topic();
    make_group_named("first", none, 0);
    make_group_named("other", none, 0);
    read_ring();
    for (unsigned i = 0; i < MESSAGES / 1000; i++) {
        publish(1000);
        read_ring();
    }
    join_group("first", 65536);
    for (unsigned turn = 0; turn < 40; turn++) {
        pump();
        first += given_to("first");
    }
    cr_assert_lt(first, MESSAGES, "the table is too large for this test");
    join_group("other", 65536);
    for (unsigned turn = 0; turn < 40; turn++) {
        pump();
        other += given_to("other");
    }
    cr_assert_lt(other, MESSAGES);
    cr_assert_not(dispatch_has_more(d));
    settle_in("first", 1, first);
    other = 0;
    for (unsigned turn = 0; turn < 40; turn++) {
        pump();
        other += given_to("other");
    }
    cr_assert_gt(other, 0);
}

/* ---- what is due ---- */

static void name_of(char *to, unsigned i)
{
    snprintf(to, 16, "g%03u", i);
}

static void make_many(void)
{
    static char names[MANY][16];

    make_topic();
    for (unsigned i = 0; i < MANY; i++) {
        name_of(names[i], i);
        make_group_named(names[i], none, 0);
        if (i % 32 == 31) {
            read_ring();
        }
    }
    read_ring();
    publish(1);
    read_ring();
    for (unsigned i = 0; i < MANY; i++) {
        join_group(names[i], 10);
    }
}

static void nack_in(const char *name, uint64_t delay_us)
{
    const struct settlement settlement = { .lease = 0,
                                           .topic = TOPIC,
                                           .action = SETTLE_NACK,
                                           .range = { 1, 1 },
                                           .delay_us = delay_us };

    cr_assert_eq(
        dispatch_settle(d, catalog_group(dispatch_catalog(d), slice_text(name)),
                        &settlement, now_us, NULL, NULL, add_outcome, NULL),
        STATUS_OK);
}

/* Delays in an order that has nothing to do with that of the groups. */
Test(dispatch_turns, many_groups_come_when_each_is_due)
{
    char name[16];

    make_many();
    pump();
    for (unsigned i = 0; i < MANY; i++) {
        name_of(name, i);
        nack_in(name, 2000000 + (i * 7919 % MANY) * 100000);
    }
    for (unsigned step = 0; step < MANY; step++) {
        uint64_t due = dispatch_due_us(d);

        pump();
        cr_assert_str_eq(out, "", "step %u", step);
        /* The heap may ask too early, never too late. */
        while (out[0] == '\0') {
            cr_assert_neq(due, UINT64_MAX, "step %u", step);
            cr_assert_leq(due, 1000000 + 2000000 + step * 100000 + 60000,
                          "step %u", step);
            if (due > now_us) {
                pass(due - now_us);
            } else {
                pass(1000);
            }
            pump();
            due = dispatch_due_us(d);
        }
        name_of(name, 0);
        for (unsigned i = 0; i < MANY; i++) {
            if (i * 7919 % MANY == step) {
                name_of(name, i);
            }
        }
        cr_assert_eq(given_to(name), 1, "step %u: %s", step, out);
    }
}

static void delete_group(const char *name)
{
    struct catalog_request request = { .op = CATALOG_DELETE,
                                       .class = CATALOG_GROUP };

    snprintf(request.name, sizeof request.name, "%s", name);
    change(&request);
    read_ring();
}

Test(dispatch_turns, groups_go_while_they_wait)
{
    char name[16];
    size_t count = 0;

    make_many();
    pump();
    for (unsigned i = 0; i < MANY; i++) {
        name_of(name, i);
        nack_in(name, 2000000 + (i * 7919 % MANY) * 100000);
    }
    for (unsigned i = 0; i < MANY; i += 3) {
        name_of(name, i);
        delete_group(name);
    }
    for (unsigned step = 0; step < 25 + MANY; step++) {
        pass(100000);
        pump();
        for (const char *at = out; *at != '\0'; at++) {
            count += *at == ' ';
        }
    }
    cr_assert_eq(count, MANY - MANY / 3);
}

/* ---- the books of all ---- */

static size_t check_books(void)
{
    size_t differences = 0;
    bool more = true;

    while (more) {
        differences += dispatch_check_books(d, now_us, &more);
    }
    return differences;
}

Test(dispatch_turns, the_books_of_all_groups_are_summed)
{
    make_many();
    pump();
    settle_in("g000", 1, 1);
    settle_in("g001", 1, 1);
    nack_in("g002", 5000000);
    cr_assert_eq(check_books(), 0);
    cr_assert_eq(metrics.books.acked, 2);
    cr_assert_eq(metrics.books.delayed, 1);
    cr_assert_eq(metrics.books.in_flight, MANY - 3);
    delete_group("g003");
    cr_assert_eq(check_books(), 0);
    cr_assert_eq(metrics.books.in_flight, MANY - 4);
}

/* Rounds of the books audit one group after the other, whoever goes. */
Test(dispatch_turns, rounds_go_on_when_groups_go)
{
    char name[16];

    make_many();
    pump();
    for (unsigned i = 0; i < MANY; i++) {
        cr_assert_eq(check_books(), 0);
        name_of(name, (i * 7) % MANY);
        if (i < 40) {
            delete_group(name);
        }
    }
    cr_assert_eq(metrics.books.in_flight, MANY - 40);
}
