/* links: godwit_history */
/* The checker's promises one by one, on a ledger small enough to read. The
 * thousands of changes to large ones are in test/history/mutate.c. */
#include "test/history/history.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

static const char good[] = "1 client all\n"
                           "1 param grace_us 100\n"
                           "1 param drain_us 5000\n"
                           "2 up\n"
                           "3 topic t acme settled 0 0 0\n"
                           "4 group g acme t earliest 3 1000 2\n"
                           "10 attach 1 g acme push\n"
                           "11 send p 1 t k 111\n"
                           "12 send p 2 t k 222\n"
                           "13 ok p 1 1 0\n"
                           "14 ok p 2 2 0\n"
                           "15 got 1 t 1 1 p 1 k 111\n"
                           "16 settle 1 ack t 1 1\n"
                           "17 got 1 t 2 1 p 2 k 222\n"
                           "18 settle 1 ack t 2 2\n"
                           "19 outcome 1 t 1 2 accepted\n"
                           "2000 drain\n"
                           "2001 leave 1\n"
                           "2002 drained\n"
                           "2003 at t 2 1 1\n"
                           "2004 books g t 2 2 0 0 0 0 0 0 0\n"
                           "2005 end\n";

static struct history_figures judge_text(const char *text, size_t len,
                                         bool open)
{
    const struct history_options options = { .open = open };
    struct history *history = history_new(&options);
    struct history_figures figures;

    history_add_text(history, "all", text, len);
    (void)history_check(history);
    figures = *history_figures(history);
    history_free(history);
    return figures;
}

/* What is found when the line that begins with `from` says `to` (which may be
 * several lines, or none); "" changes nothing. With `rest` the ledger goes on
 * behind it as it was. */
static struct history_figures change(const char *from, const char *to,
                                     bool rest, bool open)
{
    const char *at = from[0] == '\0' ? good : strstr(good, from);
    const char *behind = from[0] == '\0' ? at : strchr(at, '\n') + 1;
    char text[8192];
    int len = snprintf(text, sizeof text, "%.*s%s%s", (int)(at - good), good,
                       to, rest ? behind : "");

    cr_assert(len > 0 && (size_t)len < sizeof text);
    return judge_text(text, (size_t)len, open);
}

static struct history_figures judge(const char *from, const char *to)
{
    return change(from, to, true, false);
}

/* Everything from that line on is `to`. */
static struct history_figures judge_end(const char *from, const char *to)
{
    return change(from, to, false, false);
}

static bool speaks(int rule, const char *from, const char *to)
{
    return judge(from, to).faults[rule] > 0;
}

static bool quiet(int rule, const char *from, const char *to)
{
    return !speaks(rule, from, to);
}

TestSuite(history, .timeout = 10);

Test(history, a_good_ledger_is_good)
{
    struct history_figures f = judge("", "");

    cr_assert(eq(u64, f.fault_count, 0));
    cr_assert(eq(u64, f.events, 22));
    cr_assert(eq(u64, f.confirmed, 2));
    cr_assert(eq(u64, f.delivered, 2));
    cr_assert(eq(u64, f.acked, 2));
}

Test(history, a_run_that_goes_on_is_asked_nothing_about_its_end)
{
    cr_assert(judge("2002 drained", "").fault_count > 0);
    cr_assert(eq(u64, change("19 outcome", "", true, true).fault_count, 1));
    cr_assert(eq(u64, change("2004 books", "", true, true).fault_count, 0));
}

Test(history, what_is_no_line_is_a_fault)
{
    cr_assert(speaks(0, "2 up", "2 up\n2 jump\n"));
    cr_assert(speaks(0, "2 up", "2 up\nup\n"));
    cr_assert(speaks(0, "2 up", "2 up\n99999999999999999999999 up\n"));
    cr_assert(speaks(0, "2 up", "2 up\n2  kill\n"));
    cr_assert(speaks(0, "2 up", "2 up 7\n"));
    cr_assert(speaks(0, "13 ok", "13 ok p 1\n"));
    cr_assert(speaks(0, "12 send", "9 send p 2 t k 222\n"));
}

Test(history, a_comment_and_a_torn_last_line_are_none)
{
    cr_assert(eq(u64, judge("2 up", "2 up\n# a word\n\n").fault_count, 0));
    cr_assert(eq(u64, judge("2005 end", "2005 end\n2006 ki").fault_count, 0));
}

Test(history, each_publish_has_one_answer)
{
    cr_assert(speaks(0, "14 ok", ""));
    cr_assert(speaks(0, "14 ok", "14 ok p 2 2 0\n14 ok p 2 2 1\n"));
    cr_assert(speaks(2, "14 ok", "14 ok p 2 2 0\n14 ok p 3 2 0\n"));
    cr_assert(speaks(0, "12 send", "12 send p 3 t k 222\n"));
}

Test(history, each_settlement_has_one_answer)
{
    cr_assert(speaks(0, "19 outcome", "19 outcome 1 t 1 1 accepted\n"));
    cr_assert(speaks(0, "19 outcome",
                     "19 outcome 1 t 1 2 accepted\n"
                     "19 outcome 1 t 2 2 accepted\n"));
}

Test(history, a_confirmed_message_that_never_comes_is_lost)
{
    struct history_figures f =
        judge_end("17 got", "18 outcome 1 t 1 1 accepted\n"
                            "2000 drain\n2001 leave 1\n2002 drained\n"
                            "2003 at t 2 1 1\n"
                            "2004 books g t 2 1 0 0 0 0 1 0 0\n2005 end\n");

    cr_assert(eq(u64, f.faults[1], 1));
    cr_assert(eq(u64, f.faults[12], 1)); /* and the broker says so itself */
    cr_assert(eq(u64, f.fault_count, 2));
}

Test(history, an_ack_without_a_known_fate_may_have_counted)
{
    struct history_figures f =
        judge("19 outcome", "19 outcome 1 t 1 2 unsure\n");

    cr_assert(eq(u64, f.fault_count, 0));
    cr_assert(speaks(1, "19 outcome", "19 outcome 1 t 1 2 late\n"));
}

Test(history, a_gap_without_damage_is_a_loss)
{
    cr_assert(speaks(1, "19 outcome",
                     "19 outcome 1 t 1 2 accepted\n"
                     "20 gap 1 t 2 2\n"));
}

Test(history, what_nobody_published_is_invented)
{
    cr_assert(speaks(2, "17 got", "17 got 1 t 2 1 q 2 k 222\n"));
    cr_assert(speaks(2, "17 got", "17 got 1 t 2 1 p 3 k 222\n"));
    cr_assert(speaks(2, "17 got", "17 got 1 t 3 1 p 2 k 222\n"));
    cr_assert(speaks(2, "14 ok", "14 no p 2 4\n"));
    cr_assert(speaks(2, "17 got", "17 got 1 t 1 1 p 2 k 222\n"));
}

Test(history, an_unknown_publish_may_come)
{
    cr_assert(eq(u64, judge("14 ok", "14 unknown p 2\n").fault_count, 0));
}

Test(history, a_body_or_key_that_changed_is_altered)
{
    cr_assert(speaks(3, "17 got", "17 got 1 t 2 1 p 2 k 223\n"));
    cr_assert(speaks(3, "17 got", "17 got 1 t 2 1 p 2 j 222\n"));
}

Test(history, publish_order_is_kept)
{
    struct history_figures f =
        judge_end("15 got", "15 got 1 t 2 1 p 2 k 222\n"
                            "16 got 1 t 1 1 p 1 k 111\n"
                            "18 settle 1 ack t 1 2\n"
                            "19 outcome 1 t 1 2 accepted\n"
                            "2000 drain\n2001 leave 1\n2002 drained\n"
                            "2003 at t 2 1 1\n"
                            "2004 books g t 2 2 0 0 0 0 0 0 0\n2005 end\n");

    cr_assert(eq(u64, f.faults[4], 1));
    cr_assert(eq(u64, f.fault_count, 1));
    cr_assert(speaks(4, "13 ok", "13 ok p 1 2 0\n13 ok p 2 1 0\n"));
}

Test(history, a_lease_runs_to_its_end)
{
    cr_assert(speaks(5, "16 settle",
                     "16 got 1 t 1 2 p 1 k 111\n"
                     "16 settle 1 ack t 1 1\n"));
    cr_assert(quiet(5, "16 settle",
                    "16 settle 1 nack t 1 1\n"
                    "16 got 1 t 1 2 p 1 k 111\n"
                    "16 settle 1 ack t 1 1\n"));
}

Test(history, attempts_count_and_have_a_bound)
{
    cr_assert(speaks(5, "15 got", "15 got 1 t 1 0 p 1 k 111\n"));
    cr_assert(speaks(5, "15 got", "15 got 1 t 1 3 p 1 k 111\n"));
    cr_assert(speaks(5, "16 settle",
                     "16 settle 1 nack t 1 1\n"
                     "16 got 1 t 1 1 p 1 k 111\n"
                     "16 settle 1 ack t 1 1\n"));
}

Test(history, who_leaves_in_order_gives_back_uncounted)
{
    cr_assert(quiet(5, "16 settle",
                    "16 leave 1\n16 attach 2 g acme push\n"
                    "16 got 2 t 1 1 p 1 k 111\n"));
    cr_assert(speaks(5, "16 settle",
                     "16 attach 2 g acme push\n"
                     "16 got 2 t 1 1 p 1 k 111\n"));
}

Test(history, after_an_accepted_ack_nothing_comes)
{
    cr_assert(speaks(6, "19 outcome",
                     "19 outcome 1 t 1 2 accepted\n"
                     "20 got 1 t 1 2 p 1 k 111\n"));
    cr_assert(speaks(6, "19 outcome",
                     "19 outcome 1 t 1 2 accepted\n"
                     "20 kill\n21 up\n21 lost 1\n"
                     "22 attach 2 g acme push\n"
                     "23 got 2 t 1 1 p 1 k 111\n"));
}

Test(history, an_unconfirmed_ack_may_come_again_after_a_kill)
{
    struct history_figures f =
        judge_end("19 outcome", "19 kill\n20 lost 1\n21 up\n"
                                "22 attach 2 g acme push\n"
                                "23 got 2 t 1 1 p 1 k 111\n"
                                "24 settle 2 ack t 1 1\n"
                                "24 got 2 t 2 1 p 2 k 222\n"
                                "24 settle 2 ack t 2 2\n"
                                "25 outcome 2 t 1 2 unknown\n"
                                "25 outcome 2 t 1 2 accepted\n"
                                "2000 drain\n2001 leave 2\n2002 drained\n"
                                "2003 at t 2 1 1\n"
                                "2004 books g t 2 2 0 0 0 0 0 0 0\n2005 end\n");

    cr_assert(eq(u64, f.redelivered, 2));
    cr_assert(eq(u64, f.fault_count, 0));
}

Test(history, two_members_do_not_hold_one_message)
{
    cr_assert(speaks(7, "16 settle",
                     "16 attach 2 g acme push\n"
                     "16 got 2 t 1 2 p 1 k 111\n"
                     "16 settle 2 ack t 1 1\n"));
}

Test(history, the_books_are_those_of_the_clients)
{
    cr_assert(speaks(8, "2004 books", "2004 books g t 2 1 0 0 0 0 0 0 0\n"));
    cr_assert(speaks(8, "2004 books", "2004 books g t 2 1 1 0 0 0 0 0 0\n"));
    cr_assert(speaks(8, "2004 books", "2004 books g t 1 1 0 0 0 0 0 0 0\n"));
    cr_assert(speaks(8, "2004 books", ""));
    cr_assert(speaks(12, "2004 books", "2004 books g t 2 1 0 0 0 0 1 0 0\n"));
}

static struct history_figures judge_dead(const char *dead)
{
    char text[2048];
    int len = snprintf(text, sizeof text,
                       "17 got 1 t 2 1 p 2 k 222\n18 settle 1 nack t 2 2\n"
                       "18 got 1 t 2 2 p 2 k 222\n18 settle 1 nack t 2 2\n"
                       "18 outcome 1 t 1 2 accepted\n"
                       "18 outcome 1 t 2 2 accepted\n"
                       "2000 drain\n2001 leave 1\n2002 drained\n"
                       "2003 at t 2 1 1\n%s"
                       "2004 books g t 2 1 1 0 0 0 0 0 0\n2005 end\n",
                       dead);

    cr_assert(len > 0 && (size_t)len < sizeof text);
    return judge_end("17 got", text);
}

Test(history, a_dead_message_is_dead_once_and_intact)
{
    static const char *const wrong[] = {
        "2003 dead g t 2 2 - p 2 k 222\n",
        "2003 dead g t 2 1 nacked p 2 k 222\n",
        "2003 dead g t 2 2 nacked p 2 k 223\n",
        "2003 dead g t 2 2 nacked p 2 j 222\n",
        "2003 dead g t 1 2 nacked p 1 k 111\n",
        ("2003 dead g t 2 2 nacked p 2 k 222\n"
         "2003 dead g t 2 2 nacked p 2 k 222\n"),
    };

    cr_assert(eq(u64,
                 judge_dead("2003 dead g t 2 2 nacked p 2 k 222\n").fault_count,
                 0));
    cr_assert(eq(u64, judge_dead("").faults[1], 1));
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        cr_assert(judge_dead(wrong[i]).faults[9] > 0, "case %zu", i);
    }
}

Test(history, positions_only_rise)
{
    cr_assert(speaks(10, "2000 drain", "1999 at t 2 2 2\n2000 drain\n"));
    cr_assert(quiet(10, "2000 drain", "1999 at t 1 1 1\n2000 drain\n"));
}

Test(history, no_tenant_sees_another_s_message)
{
    cr_assert(speaks(11, "10 attach", "10 attach 1 g emca push\n"));
}

Test(history, it_drains_in_time)
{
    static const char *const ends[] = { "7000", "7001" }; /* 5000 are allowed */

    for (int late = 0; late < 2; late++) {
        char text[512];
        (void)snprintf(text, sizeof text,
                       "2001 leave 1\n%s drained\n%s at t 2 1 1\n"
                       "%s books g t 2 2 0 0 0 0 0 0 0\n%s end\n",
                       ends[late], ends[late], ends[late], ends[late]);
        cr_assert(
            eq(u64, judge_end("2001 leave", text).fault_count, (uint64_t)late));
    }
    cr_assert(speaks(12, "2002 drained", ""));
}

Test(history, a_connection_is_not_lost_without_a_reason)
{
    cr_assert(speaks(0, "2001 leave", "2001 lost 1\n"));
    cr_assert(quiet(0, "2001 leave", "2000 cut\n2001 lost 1\n"));
}

Test(history, ledgers_are_read_in_order_of_time)
{
    const struct history_options options = { .out = NULL };
    struct history *history = history_new(&options);
    static const char driver[] = "1 client d\n2 up\n3 topic t - settled 0 0 0\n"
                                 "4 group g - t earliest 3 1000 0\n20 drain\n"
                                 "30 drained\n31 at t 1 1 1\n"
                                 "32 books g t 1 1 0 0 0 0 0 0 0\n33 end\n";
    static const char taker[] = "5 client s\n6 attach 1 g - push\n"
                                "12 got 1 t 1 1 p 1 - 7\n"
                                "13 settle 1 ack t 1 1\n"
                                "14 outcome 1 t 1 1 accepted\n25 leave 1\n"
                                "26 end\n";
    static const char maker[] = "5 client p\n10 send p 1 t - 7\n"
                                "15 ok p 1 1 0\n21 end\n";

    /* The first file has the last events. */
    history_add_text(history, "taker", taker, sizeof taker - 1);
    history_add_text(history, "maker", maker, sizeof maker - 1);
    history_add_text(history, "driver", driver, sizeof driver - 1);
    cr_assert(history_check(history));
    history_free(history);
}

Test(history, nothing_comes_before_its_time)
{
    cr_assert(speaks(13, "12 send", "12 send p 2 t k 222 18\n"));
    cr_assert(quiet(13, "12 send", "12 send p 2 t k 222 17\n"));
    cr_assert(speaks(0, "12 send", "12 send p 2 t k 222 soon\n"));
}

#define ORDERED "4 group g acme t earliest 3 1000 2 ordered\n"

/* The good ledger with an ordered group and what comes from the delivery on. */
static struct history_figures judge_ordered(const char *rest)
{
    const char *from = strstr(good, "4 group");
    const char *behind = strchr(from, '\n') + 1;
    const char *got = strstr(good, "15 got");
    char text[4096];
    int len =
        snprintf(text, sizeof text, "%.*s" ORDERED "%.*s%s", (int)(from - good),
                 good, (int)(got - behind), behind, rest);

    cr_assert(len > 0 && (size_t)len < sizeof text);
    return judge_text(text, (size_t)len, false);
}

#define END_OF_ORDERED                                                         \
    "2000 drain\n2001 leave 1\n2002 drained\n2003 at t 2 1 1\n"

Test(history, a_key_waits_for_its_predecessor)
{
    static const char good_end[] =
        "17 got 1 t 2 1 p 2 k 222\n18 settle 1 ack t 2 2\n"
        "19 outcome 1 t 1 2 accepted\n" END_OF_ORDERED
        "2004 books g t 2 2 0 0 0 0 0 0 0\n2005 end\n";
    char text[1024];

    (void)snprintf(text, sizeof text, "%s%s",
                   "15 got 1 t 1 1 p 1 k 111\n16 settle 1 ack t 1 1\n",
                   good_end);
    cr_assert(eq(u64, judge_ordered(text).fault_count, 0));
    (void)snprintf(text, sizeof text, "%s",
                   "15 got 1 t 1 1 p 1 k 111\n17 got 1 t 2 1 p 2 k 222\n"
                   "18 settle 1 ack t 1 2\n"
                   "19 outcome 1 t 1 2 accepted\n" END_OF_ORDERED
                   "2004 books g t 2 2 0 0 0 0 0 0 0\n2005 end\n");
    cr_assert(eq(u64, judge_ordered(text).faults[4], 1));
    cr_assert(eq(u64, judge_ordered(text).fault_count, 1));
}

Test(history, the_dead_let_their_key_go_on)
{
    struct history_figures f =
        judge_ordered("15 got 1 t 1 1 p 1 k 111\n15 settle 1 nack t 1 1\n"
                      "16 got 1 t 1 2 p 1 k 111\n16 settle 1 nack t 1 1\n"
                      "17 got 1 t 2 1 p 2 k 222\n18 settle 1 ack t 2 2\n"
                      "19 outcome 1 t 1 1 accepted\n"
                      "19 outcome 1 t 1 1 accepted\n"
                      "19 outcome 1 t 2 2 accepted\n" END_OF_ORDERED
                      "2003 dead g t 1 2 nack p 1 k 111\n"
                      "2004 books g t 2 1 1 0 0 0 0 0 0\n2005 end\n");

    cr_assert(eq(u64, f.fault_count, 0));
}

static struct history_figures judge_rejected(const char *again,
                                             const char *dead, int acked)
{
    char text[2048];
    int len = snprintf(text, sizeof text,
                       "17 got 1 t 2 1 p 2 k 222\n18 settle 1 reject t 2 2\n"
                       "18 outcome 1 t 1 1 accepted\n"
                       "18 outcome 1 t 2 2 accepted\n%s"
                       "2000 drain\n2001 leave 1\n2002 drained\n"
                       "2003 at t 2 1 1\n%s"
                       "2004 books g t 2 %d %d 0 0 0 0 0 0\n2005 end\n",
                       again, dead, acked, 2 - acked);

    cr_assert(len > 0 && (size_t)len < sizeof text);
    return judge_end("17 got", text);
}

Test(history, what_was_rejected_is_dead_until_it_is_redriven)
{
    static const char again[] = "300 got 1 t 2 1 p 2 k 222\n"
                                "301 settle 1 ack t 2 2\n"
                                "302 outcome 1 t 2 2 accepted\n";
    static const char dead[] = "2003 dead g t 2 1 reject p 2 k 222\n";
    char redriven[256];

    (void)snprintf(redriven, sizeof redriven, "200 redrive g t 2 2\n%s", again);
    cr_assert(eq(u64, judge_rejected("", dead, 1).fault_count, 0));
    cr_assert(eq(u64, judge_rejected(redriven, "", 2).fault_count, 0));
    cr_assert(judge_rejected(again, "", 2).faults[9] > 0);
    cr_assert(judge_rejected("", "", 1).fault_count > 0);
}
