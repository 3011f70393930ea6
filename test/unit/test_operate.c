/* links: $<LINK_GROUP:RESCAN,godwit_server,godwit_session,godwit_door> */
/* with: test/storage/harness.c test/lib/tmpdir.c */
#include "broker/session/inside.h"
#include "test/lib/dispatch_bed.h"

/* What operators are answered, over a real dispatch and store: a session whose
 * door is this file, on a worker that has no loop. */

enum { APP = 1, ID = 9 };

static struct workers all;
static struct worker w;
static struct session *session;
static char told[1024]; /* the answers so far, "orders@4 " for each seek */

static void tell(const char *format, ...) PRINTF_LIKE(1, 2);
static void tell(const char *format, ...)
{
    size_t len = strlen(told);
    va_list args;

    va_start(args, format);
    (void)vsnprintf(told + len, sizeof told - len, format, args);
    va_end(args);
}

static void on_operated(struct session *s, const struct operation_done *done)
{
    cr_assert_eq(s, session);
    cr_assert_eq(done->id, ID);
    for (size_t i = 0; i < done->seek_count; i++) {
        tell("%s@%lu ", done->seeks[i].topic,
             (unsigned long)done->seeks[i].seq);
    }
}

static void on_refused(struct session *s, uint64_t id, uint64_t count,
                       const struct refusal *refusal)
{
    cr_assert_eq(s, session);
    cr_assert_eq(id, ID);
    cr_assert_eq(count, 1);
    tell("refused:%s ", refusal->limit);
}

static const struct door door = { .name = "test",
                                  .refused = on_refused,
                                  .operated = on_operated };

static void make_app(void)
{
    struct catalog_request request = { .op = CATALOG_CREATE,
                                       .class = CATALOG_APP,
                                       .name = "operator",
                                       .admin = true };

    change(&request);
}

static void set_up_session(void)
{
    set_up();
    all = (struct workers) { .count = 1, .store = h.store, .commits = ring };
    w = (struct worker) { .all = &all,
                          .submission = submission,
                          .metrics = &metrics,
                          .dispatch = d };
    w.unplaced_end = &w.unplaced;
    w.operating_end = &w.operating;
    session = calloc(1, sizeof *session);
    cr_assert(session != NULL);
    *session = (struct session) {
        .worker = &w, .conn = (struct conn *)session, .door = &door, .app = APP
    };
    make_app();
    make_topic();
    make_group();
}

static void tear_down_session(void)
{
    free(session);
    pending_fini(&w.pending);
    tear_down();
}

TestSuite(operate, .init = set_up_session, .fini = tear_down_session,
          .timeout = 60);

static void seek_to(uint64_t seq)
{
    struct operation operation = { .kind = OPERATION_SEEK,
                                   .topic = slice_text("t"),
                                   .to = SEEK_SEQ,
                                   .seek = seq };

    session_operate(session, ID, slice_text("g"), &operation);
}

/* The end of a turn: what was done is written, and waits for the sync. */
static void end_turn(void)
{
    uint64_t begin = submission_written(submission);

    cr_assert(dispatch_log(d, submission, now_us, wall_us));
    session_place_operations(&w, begin);
}

/* It is durable: what is told then. */
static const char *answers(void)
{
    store_submitted();
    pending_answer(&w, submission_durable(submission));
    return told;
}

Test(operate, a_seek_is_answered_when_it_is_durable)
{
    publish(6);
    join();
    seek_to(3);
    end_turn();
    pending_answer(&w, submission_durable(submission));
    cr_assert_str_eq(told, "");
    cr_assert_str_eq(answers(), "t@3 ");
}

/* The journal puts the trim first, and then the seek begins behind it: the
 * worker hears of both together. */
Test(operate, a_seek_that_a_trim_overtook_is_answered_as_it_is_durable)
{
    publish(6);
    join();
    seek_to(2);
    end_turn();
    trim(2, 5);
    cr_assert_str_eq(answers(), "t@5 ");
    open_again();
    join();
    cr_assert_str_eq(pump(), "5 6 ");
}

Test(operate, a_trim_below_moves_no_answer)
{
    publish(6);
    join();
    seek_to(6);
    end_turn();
    trim(2, 5);
    cr_assert_str_eq(answers(), "t@6 ");
}

Test(operate, a_seek_in_a_topic_that_goes_meanwhile_is_answered)
{
    struct catalog_request request = { .op = CATALOG_DELETE,
                                       .class = CATALOG_TOPIC,
                                       .name = "t" };

    publish(6);
    join();
    seek_to(2);
    end_turn();
    change(&request);
    cr_assert_str_eq(answers(), "t@2 ");
}
