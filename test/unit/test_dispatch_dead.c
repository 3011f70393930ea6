/* links: godwit_server godwit_delivery godwit_storage godwit_proto */
/* with: test/storage/harness.c test/lib/tmpdir.c */
#include "test/lib/dispatch_bed.h"

/* Dead letters, seeks and explanations: what the dispatch does with a group,
 * what the log has of it, and what a start makes of that. */

TestSuite(dispatch_dead, .init = set_up, .fini = tear_down, .timeout = 60);

enum { ROOM = 64 };

static const struct group_options two_attempts = { .attempts_max = 2 };

/* The dead as "t:2 t:5", from the first on. */
static const char *dead(void)
{
    struct dispatch_dead list[ROOM];
    const struct topic *from = NULL;
    uint64_t seq = 1;
    size_t count = dispatch_dead(d, group(), &from, &seq, false, list, ROOM);

    cr_assert(from == NULL);
    out[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        say("%s:%lu ", list[i].topic->name, (unsigned long)list[i].seq);
    }
    return out;
}

static void start(unsigned count)
{
    make_topic();
    make_group_with(two_attempts, OPTION_ATTEMPTS);
    publish(count);
    join();
}

/* All of 1..count die, each rejected with a reason. */
static void kill_all(unsigned count)
{
    start(count);
    pump();
    settle(SETTLE_REJECT, 1, count, "no use");
    log_all();
}

static struct redrive_state redriven(void)
{
    struct redrive_state state;

    cr_assert(dispatch_redrive_state(group(), &state));
    return state;
}

static void redrive(const struct redrive_order *order)
{
    cr_assert_eq(dispatch_redrive(d, group(), order, now_us), STATUS_OK);
}

static struct dispatch_explanation explained(uint64_t seq)
{
    struct dispatch_explanation e;

    cr_assert_eq(dispatch_explain(d, group(), topic(), seq, now_us, &e),
                 STATUS_OK);
    return e;
}

static const char *gate_of(uint64_t seq)
{
    return gate_word(explained(seq).standing.gate);
}

/* "acked deleted ": what one that is settled may be. */
static const char *may_be(uint64_t seq)
{
    static char text[128];
    struct dispatch_explanation e = explained(seq);
    size_t len = 0;

    cr_assert_eq(e.standing.gate, GATE_SETTLED);
    text[0] = '\0';
    for (unsigned gate = 0; gate < GATES; gate++) {
        if ((e.may_be & 1U << gate) != 0) {
            len += (size_t)snprintf(text + len, sizeof text - len, "%s ",
                                    gate_word((enum gate)gate));
        }
    }
    return text;
}

/* ---- dying ---- */

Test(dispatch_dead, rejected_ones_are_dead_and_listed)
{
    start(4);
    cr_assert_str_eq(pump(), "1 2 3 4 ");
    cr_assert_str_eq(settle(SETTLE_REJECT, 2, 3, "bad"), "accepted2-3 ");
    cr_assert_str_eq(dead(), "t:2 t:3 ");
    cr_assert_eq(books().dead, 2);
    log_all();
    cr_assert_eq(metrics.died_messages, 2);
}

Test(dispatch_dead, the_last_attempt_kills)
{
    start(1);
    cr_assert_str_eq(pump(), "1 ");
    settle(SETTLE_NACK, 1, 1, "first");
    pass(10000000);
    cr_assert_str_eq(pump(), "1 ");
    settle(SETTLE_NACK, 1, 1, "second");
    log_all();
    cr_assert_str_eq(dead(), "t:1 ");
    cr_assert_str_eq(pump(), "");
}

Test(dispatch_dead, a_start_knows_the_dead)
{
    kill_all(3);
    open_again();
    cr_assert_eq(books().dead, 3);
    join();
    cr_assert_str_eq(pump(), "");
    cr_assert_str_eq(dead(), "t:1 t:2 t:3 ");
}

Test(dispatch_dead, a_list_goes_on_where_it_ended)
{
    struct dispatch_dead list[2];
    const struct topic *from = NULL;
    uint64_t seq = 1;

    kill_all(5);
    cr_assert_eq(dispatch_dead(d, group(), &from, &seq, false, list, 2), 2);
    cr_assert(from == topic() && seq == 3);
    cr_assert_eq(dispatch_dead(d, group(), &from, &seq, false, list, 2), 2);
    cr_assert(from == topic() && seq == 5);
    cr_assert_eq(dispatch_dead(d, group(), &from, &seq, true, list, 2), 1);
    cr_assert(from == NULL);
    cr_assert_eq(list[0].seq, 5);
    cr_assert_str_eq(list[0].last.reason, "no use");
    cr_assert_eq(list[0].last.cause, CAUSE_REJECT);
}

/* ---- history ---- */

Test(dispatch_dead, failures_are_remembered_before_a_checkpoint_has_them)
{
    struct dispatch_explanation e;

    start(1);
    pump();
    settle(SETTLE_NACK, 1, 1, "first");
    log_all();
    pass(10000000);
    pump();
    settle(SETTLE_NACK, 1, 1, "second");
    log_all();
    e = explained(1);
    cr_assert_str_eq(gate_word(e.standing.gate), "dead");
    cr_assert_eq(e.history_count, 2);
    cr_assert_str_eq(e.history[0].reason, "first");
    cr_assert_eq(e.history[0].attempt, 1);
    cr_assert_not(e.history[0].dead);
    cr_assert_str_eq(e.history[1].reason, "second");
    cr_assert(e.history[1].dead);
    cr_assert_eq(e.history[1].holder, 7);
    cr_assert_eq(e.history[1].time_us, wall_us);
}

/* As often as it happened, whether a checkpoint has it or not. */
Test(dispatch_dead, a_failure_is_told_once)
{
    start(1);
    pump();
    settle(SETTLE_NACK, 1, 1, "first");
    log_all();
    cr_assert_eq(explained(1).history_count, 1);
    cr_assert_eq(store_checkpoint(h.store, &h.err), STATUS_OK);
    cr_assert_eq(explained(1).history_count, 1);
    cr_assert_str_eq(explained(1).history[0].reason, "first");
    open_again();
    cr_assert_eq(explained(1).history_count, 1);
    cr_assert_eq(explained(1).history[0].cause, CAUSE_NACK);
}

/* Dies of two nacks, and is nacked once more after a redrive. */
static void fail_alike(void)
{
    for (int i = 0; i < 3; i++) {
        cr_assert_str_eq(pump(), "1 ");
        settle(SETTLE_NACK, 1, 1, i == 2 ? "again" : "at first");
        log_all();
        if (i == 1) {
            redrive(&(struct redrive_order) { .cap = 0 });
        }
        pass(10000000);
    }
}

/* Attempts begin at 1 again: the third failure looks as the first. */
Test(dispatch_dead, a_failure_after_a_redrive_is_not_taken_for_an_old_one)
{
    struct dispatch_explanation e;

    start(1);
    fail_alike();
    e = explained(1);
    cr_assert_eq(e.history_count, 3);
    cr_assert_eq(e.history[0].attempt, 1);
    cr_assert_eq(e.history[2].attempt, 1);
    cr_assert_str_eq(e.history[2].reason, "again");
    cr_assert_eq(store_checkpoint(h.store, &h.err), STATUS_OK);
    cr_assert_eq(explained(1).history_count, 3);
}

/* With one attempt each, all failures look alike; the checkpoint has some. */
Test(dispatch_dead, failures_that_look_alike_are_told_once_each)
{
    make_topic();
    make_group_with((struct group_options) { .attempts_max = 1 },
                    OPTION_ATTEMPTS);
    publish(1);
    join();
    for (size_t count = 1; count <= HISTORY_MAX + 2; count++) {
        size_t told = count < HISTORY_MAX ? count : HISTORY_MAX;

        cr_assert_str_eq(pump(), "1 ");
        settle(SETTLE_NACK, 1, 1, "no");
        log_all();
        cr_assert_eq(explained(1).history_count, told, "failure %zu", count);
        cr_assert_eq(explained(1).history[told - 1].time_us, wall_us);
        if (count % 3 == 0) {
            cr_assert_eq(store_checkpoint(h.store, &h.err), STATUS_OK);
            cr_assert_eq(explained(1).history_count, told);
        }
        redrive(&(struct redrive_order) { .cap = 0 });
        pass(10000000);
    }
}

/* ---- since when ---- */

Test(dispatch_dead, no_message_is_held_since_before_it_was_stored)
{
    uint64_t stored_us;

    make_topic();
    make_group();
    read_ring();
    pump(); /* nobody is there from now on */
    pass(10000000);
    stored_us = wall_us;
    publish(1);
    read_ring();
    pump();
    cr_assert_str_eq(gate_of(1), "no_subscriber");
    cr_assert_eq(explained(1).standing.since_us, stored_us);
}

/* ---- redrive ---- */

Test(dispatch_dead, redriven_ones_come_again)
{
    kill_all(3);
    redrive(&(struct redrive_order) { .cap = 0 });
    cr_assert_eq(redriven().redriven, 3);
    cr_assert_not(redriven().running);
    pass(20000);
    cr_assert_str_eq(pump(), "1 2 3 ");
    cr_assert_eq(books().dead, 0);
    log_all();
    cr_assert_eq(metrics.redriven_messages, 3);
    cr_assert_str_eq(settle(SETTLE_ACK, 1, 3, ""), "accepted1-3 ");
    log_all();
    open_again();
    cr_assert_eq(books().acked, 3);
}

Test(dispatch_dead, a_dry_run_changes_nothing)
{
    kill_all(3);
    redrive(&(struct redrive_order) { .dry_run = true });
    cr_assert_eq(redriven().matched, 3);
    cr_assert_eq(redriven().redriven, 0);
    cr_assert_eq(books().dead, 3);
}

Test(dispatch_dead, a_redrive_of_some_ranges_with_a_cap)
{
    struct redrive_order order = { .topic = NULL, .cap = 2 };

    kill_all(8);
    order.topic = topic();
    cr_assert_eq(seqset_add(&order.ranges, 2, 3, NULL), STATUS_OK);
    cr_assert_eq(seqset_add(&order.ranges, 6, 9, NULL), STATUS_OK);
    redrive(&order);
    cr_assert_eq(redriven().redriven, 2);
    cr_assert_str_eq(dead(), "t:1 t:4 t:5 t:6 t:7 t:8 ");
    order = (struct redrive_order) { .topic = topic() };
    cr_assert_eq(seqset_add(&order.ranges, 6, 9, NULL), STATUS_OK);
    redrive(&order);
    cr_assert_str_eq(dead(), "t:1 t:4 t:5 ");
}

Test(dispatch_dead, a_rate_is_kept)
{
    kill_all(10);
    redrive(&(struct redrive_order) { .rate = 4 });
    cr_assert_eq(redriven().redriven, 1);
    for (unsigned i = 0; i < 8; i++) {
        pass(125000);
    }
    cr_assert_eq(redriven().redriven, 5);
    cr_assert(redriven().running);
    cr_assert_eq(dispatch_redrive(d, group(),
                                  &(struct redrive_order) { .cap = 1 }, now_us),
                 STATUS_BUSY);
    dispatch_redrive_stop(d, group());
    pass(10000000);
    cr_assert_eq(redriven().redriven, 5);
    cr_assert(redriven().stopped);
}

Test(dispatch_dead, a_redrive_by_cause)
{
    start(2);
    pump();
    settle(SETTLE_REJECT, 1, 1, "");
    settle(SETTLE_NACK, 2, 2, "");
    log_all();
    pass(10000000);
    pump();
    settle(SETTLE_NACK, 2, 2, "");
    log_all();
    redrive(&(struct redrive_order) { .cause = CAUSE_NACK });
    cr_assert_str_eq(dead(), "t:1 ");
}

Test(dispatch_dead, a_redrive_by_filter)
{
    struct refusal refusal;
    struct redrive_order order = { .cap = 0 };

    make_topic();
    make_group_with(two_attempts, OPTION_ATTEMPTS);
    publish_message(&(struct wire_message) { .tag = slice_text("a") });
    publish_message(&(struct wire_message) { .tag = slice_text("b") });
    publish_message(&(struct wire_message) { .tag = slice_text("a") });
    join();
    pump();
    settle(SETTLE_REJECT, 1, 3, "");
    cr_assert_eq(
        filter_compile(&order.filter, slice_text("tag == \"a\""), &refusal),
        STATUS_OK, "%s", refusal.text);
    redrive(&order);
    cr_assert_eq(redriven().matched, 2);
    cr_assert_str_eq(dead(), "t:2 ");
}

Test(dispatch_dead, what_nobody_was_given_since_can_be_undone)
{
    uint64_t undone = 0;

    kill_all(4);
    cr_assert_eq(dispatch_redrive_undo(d, group(), NULL, &undone),
                 STATUS_NOT_FOUND);
    redrive(&(struct redrive_order) { .cap = 3 });
    log_all();
    cr_assert_eq(dispatch_redrive_undo(d, group(), NULL, &undone), STATUS_OK);
    cr_assert_eq(undone, 3);
    cr_assert_str_eq(dead(), "t:1 t:2 t:3 t:4 ");
    log_all();
    open_again();
    cr_assert_eq(books().dead, 4);
}

Test(dispatch_dead, an_undo_in_bits_goes_on_where_it_stopped)
{
    const struct redrive_order order = { .cap = 0 };
    uint64_t undone = 0;
    uint64_t sum = 0;
    enum status status;
    int bits = 0;

    kill_all(6);
    redrive(&order);
    pass(20000);
    do {
        size_t budget = 3; /* a stretch and two messages */

        status = dispatch_redrive_undo(d, group(), &budget, &undone);
        cr_assert(undone <= 2);
        sum += undone;
        bits++;
        if (status == STATUS_AGAIN) {
            struct redrive_order another = { .cap = 0 };

            cr_assert_eq(dispatch_redrive(d, group(), &another, now_us),
                         STATUS_BUSY);
        }
    } while (status == STATUS_AGAIN);
    cr_assert_eq(status, STATUS_OK);
    cr_assert_eq(sum, 6);
    cr_assert_geq(bits, 3);
    cr_assert_eq(redriven().undone, 6);
    cr_assert_str_eq(dead(), "t:1 t:2 t:3 t:4 t:5 t:6 ");
    redrive(&order); /* it is over */
}

Test(dispatch_dead, what_was_given_is_not_undone)
{
    uint64_t undone = 7;

    kill_all(2);
    redrive(&(struct redrive_order) { .cap = 0 });
    pass(20000);
    cr_assert_str_eq(pump(), "1 2 ");
    cr_assert_eq(dispatch_redrive_undo(d, group(), NULL, &undone), STATUS_OK);
    cr_assert_eq(undone, 0);
    cr_assert_eq(books().in_flight, 2);
}

Test(dispatch_dead, discarded_ones_are_gone_for_good)
{
    uint64_t count = 0;
    uint64_t next;

    kill_all(4);
    cr_assert_eq(dispatch_discard(d, group(), TOPIC,
                                  (struct seq_range) { 2, 3 }, NULL, &next,
                                  &count),
                 STATUS_OK);
    cr_assert_eq(count, 2);
    cr_assert_str_eq(dead(), "t:1 t:4 ");
    cr_assert_eq(books().deleted, 2);
    log_all();
    open_again();
    cr_assert_eq(books().deleted, 2);
    cr_assert_eq(books().dead, 2);
}

/* ---- seek ---- */

static uint64_t sought(uint64_t seq)
{
    uint64_t begins = 0;

    cr_assert_eq(dispatch_seek(d, group(), topic(), seq, &begins), STATUS_OK);
    return begins;
}

Test(dispatch_dead, a_seek_back_gives_all_again)
{
    start(4);
    cr_assert_str_eq(pump(), "1 2 3 4 ");
    settle(SETTLE_ACK, 1, 4, "");
    cr_assert_eq(sought(3), 3);
    cr_assert_str_eq(pump(), "3 4 ");
    log_all();
    open_again();
    join();
    cr_assert_str_eq(pump(), "3 4 ");
}

Test(dispatch_dead, a_seek_to_the_very_beginning_survives_a_start)
{
    start(2);
    pump();
    settle(SETTLE_ACK, 1, 2, "");
    log_all();
    cr_assert_eq(sought(1), 1);
    log_all();
    open_again();
    join();
    cr_assert_str_eq(pump(), "1 2 ");
}

/* Where the group began says nothing any more. */
Test(dispatch_dead, a_seek_before_where_the_group_began_survives_a_start)
{
    struct catalog_request request = { .op = CATALOG_CREATE,
                                       .class = CATALOG_GROUP,
                                       .name = "g",
                                       .from = FROM_LATEST };
    struct refusal refusal;

    make_topic();
    publish(3);
    latest_seq = 3;
    cr_assert_eq(patterns_add(&request.topics, slice_text("t"), &refusal),
                 STATUS_OK);
    change(&request);
    join();
    cr_assert_str_eq(pump(), "");
    cr_assert_str_eq(gate_of(2), "not_taken");
    cr_assert_eq(sought(1), 1);
    log_all();
    open_again();
    join();
    cr_assert_str_eq(pump(), "1 2 3 ");
}

Test(dispatch_dead, a_seek_before_the_first_kept_begins_there)
{
    start(6);
    trim(2, 4);
    read_ring();
    cr_assert_eq(sought(1), 4);
    cr_assert_str_eq(pump(), "4 5 6 ");
}

Test(dispatch_dead, a_seek_to_the_end_and_beyond)
{
    uint64_t begins = 0;

    start(3);
    cr_assert_eq(sought(4), 4);
    cr_assert_str_eq(pump(), "");
    cr_assert_eq(dispatch_seek(d, group(), topic(), 5, &begins),
                 STATUS_INVALID);
    publish(1);
    read_ring();
    cr_assert_str_eq(pump(), "4 ");
}

Test(dispatch_dead, a_seek_leaves_the_dead_below_and_frees_those_above)
{
    kill_all(4);
    cr_assert_eq(sought(3), 3);
    cr_assert_str_eq(dead(), "t:1 t:2 ");
    cr_assert_str_eq(pump(), "3 4 ");
    log_all();
    open_again();
    cr_assert_eq(books().dead, 2);
    join();
    cr_assert_str_eq(pump(), "3 4 ");
}

/* The keeper heard of the seek too late: what it deleted is no damage. */
Test(dispatch_dead, a_trim_that_meets_a_seek)
{
    make_topic();
    add_ack(&h, GROUP + 7, TOPIC, 1, 4);
    put_on_ring(false);
    open_again();
    make_group_with(two_attempts, OPTION_ATTEMPTS);
    publish(2); /* 5 and 6: 1 to 4 are gone, as a trim leaves it */
    join();
    cr_assert_eq(sought(2), 2);
    trim(1, 5);
    read_ring();
    cr_assert_str_eq(pump(), "5 6 ");
    cr_assert_eq(books().gap, 0);
}

Test(dispatch_dead, what_is_missing_long_after_a_seek_is_lost)
{
    make_topic();
    add_ack(&h, GROUP + 7, TOPIC, 1, 4);
    put_on_ring(false);
    open_again();
    make_group_with(two_attempts, OPTION_ATTEMPTS);
    publish(2);
    join();
    cr_assert_eq(sought(2), 2);
    log_all();
    trim(1, 5);
    read_ring();
    cr_assert_str_eq(pump(), "gap2-4 5 6 ");
}

/* Of 1 to 4, all below the floor, only this one is there. */
static void keep_only_third(void)
{
    make_topic();
    add_ack(&h, GROUP + 7, TOPIC, 1, 2);
    put_on_ring(false);
    open_again();
    publish(1);
    add_ack(&h, GROUP + 7, TOPIC, 4, 4);
    put_on_ring(false);
    open_again();
    make_group_with(two_attempts, OPTION_ATTEMPTS);
    publish(2);
    join();
}

Test(dispatch_dead, what_is_there_between_what_a_trim_took_is_given)
{
    keep_only_third();
    cr_assert_eq(sought(1), 1);
    trim(1, 5);
    read_ring();
    cr_assert_str_eq(pump(), "3 5 6 ");
    cr_assert_eq(books().gap, 0);
    cr_assert_eq(books().acked, 3);
}

/* A message that failed once was there: it is lost, and those around it are
 * not for that. */
Test(dispatch_dead, what_was_there_once_is_lost_and_says_nothing_of_others)
{
    make_topic();
    make_group_with(two_attempts, OPTION_ATTEMPTS);
    read_ring();
    add_ack(&h, GROUP + 7, TOPIC, 1, 4);
    put_on_ring(false);
    open_again();
    add_seek(&h, GROUP, TOPIC, 0);
    add_failed(
        &h, GROUP, TOPIC,
        (struct failure) { .seq = 2, .attempts = 1, .cause = CAUSE_NACK });
    put_on_ring(false);
    trim(1, 5);
    open_again();
    publish(2);
    join();
    pass(1000000);
    cr_assert_str_eq(pump(), "gap2-2 5 6 ");
    cr_assert_eq(books().gap, 1);
    cr_assert_eq(books().acked, 3);
}

/* ---- explain ---- */

Test(dispatch_dead, each_gate_has_its_word)
{
    start(4);
    cr_assert_str_eq(pump(), "1 2 3 4 ");
    settle(SETTLE_ACK, 1, 1, "");
    settle(SETTLE_NACK, 2, 2, "");
    settle(SETTLE_REJECT, 3, 3, "");
    cr_assert_str_eq(gate_of(1), "acked");
    cr_assert_str_eq(gate_of(2), "backoff");
    cr_assert_str_eq(gate_of(3), "dead");
    cr_assert_str_eq(gate_of(4), "leased");
    cr_assert_eq(explained(4).standing.holder, 7);
    cr_assert_eq(explained(4).standing.until_us, wall_us + 30 * 1000000);
    cr_assert_str_eq(gate_of(5), "not_durable");
    trim(2, 2);
    read_ring();
    cr_assert_str_eq(gate_of(1), "deleted");
}

Test(dispatch_dead, nobody_is_there)
{
    make_topic();
    make_group();
    publish(1);
    read_ring();
    cr_assert_str_eq(gate_of(1), "no_subscriber");
}

Test(dispatch_dead, a_paused_group)
{
    struct standing standing;

    make_topic();
    make_group_with((struct group_options) { .paused = true }, OPTION_PAUSED);
    publish(1);
    join();
    cr_assert_str_eq(pump(), "");
    cr_assert_str_eq(gate_of(1), "paused");
    cr_assert(dispatch_held_by(d, group(), now_us, &standing));
    cr_assert_eq(standing.gate, GATE_PAUSED);
    change_group((struct group_options) { .paused = false }, OPTION_PAUSED);
    cr_assert_str_eq(pump(), "1 ");
}

Test(dispatch_dead, a_message_that_never_was)
{
    struct dispatch_explanation e;

    start(1);
    cr_assert_eq(dispatch_explain(d, group(), topic(), 0, now_us, &e),
                 STATUS_NOT_FOUND);
}

static void discard(uint64_t first, uint64_t last)
{
    uint64_t count = 0;
    uint64_t next;

    cr_assert_eq(dispatch_discard(d, group(), TOPIC,
                                  (struct seq_range) { first, last }, NULL,
                                  &next, &count),
                 STATUS_OK);
    cr_assert_eq(count, last - first + 1);
    log_all();
}

Test(dispatch_dead, a_discarded_one_is_deleted_as_in_the_books)
{
    kill_all(2);
    discard(1, 1);
    cr_assert_eq(books().deleted, 1);
    cr_assert_str_eq(gate_of(1), "deleted");
    cr_assert_str_eq(gate_of(2), "dead");
    open_again();
    cr_assert_str_eq(gate_of(1), "deleted");
}

/* What was redriven has died before, too. */
Test(dispatch_dead, what_died_once_may_be_acked_or_discarded)
{
    kill_all(3);
    redrive(&(struct redrive_order) { .cap = 1 });
    cr_assert_str_eq(pump(), "1 ");
    settle(SETTLE_ACK, 1, 1, "");
    log_all();
    cr_assert_str_eq(gate_of(1), "acked", "nothing was discarded");
    discard(2, 2);
    cr_assert_str_eq(may_be(1), "acked deleted ");
    cr_assert_str_eq(may_be(2), "acked deleted ");
    publish(3);
    read_ring();
    cr_assert_str_eq(pump(), "4 5 6 ");
    settle(SETTLE_NACK, 4, 4, "once");
    log_all();
    pass(10000000);
    cr_assert_str_eq(pump(), "4 ");
    settle(SETTLE_ACK, 4, 5, "");
    cr_assert_str_eq(gate_of(5), "acked", "all that was discarded is below");
    discard(3, 3);
    settle(SETTLE_REJECT, 6, 6, "");
    discard(6, 6);
    cr_assert_str_eq(gate_of(4), "acked", "its last failure was not its death");
    cr_assert_str_eq(may_be(5), "acked deleted ");
}
