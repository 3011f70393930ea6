#include "test/storage/power_check.h"

#include "proto/check.h"
#include "storage/internal.h"
#include "test/lib/calls.h"
#include "test/lib/tmpdir.h"
#include "test/storage/power_bugs.h"

#include <dirent.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* What a start may read besides the log's tail: the snapshot and so on, and the
 * segments that are new, prepared or written only in part. */
enum { READ_BESIDES_MAX = 32 * 1024, SEGMENTS_BESIDES = 4 };

/* One image, or what became of it. */
struct trial {
    struct power *power;
    const struct life *life;
    struct harness h;
    uint64_t *state;
    size_t confirmed; /* batches that must be there, */
    size_t tried;     /* and that may be */
    bool keydir_gone;
    unsigned forgotten; /* producers */
    uint64_t read_bytes;
    struct model now; /* what the image turned out to hold */
    char has[MODEL_TEXT_LEN];
    char expected[MODEL_TEXT_LEN];
};

static const char *const bug_names[POWER_BUGS] = {
    [BUG_NONE] = "none",
    [BUG_CONFIRM_EARLY] = "confirm-early",
    [BUG_CHECKPOINT_EARLY] = "checkpoint-early",
    [BUG_NO_SYNC] = "no-sync",
    [BUG_NO_DIR_SYNC] = "no-dir-sync",
    [BUG_STOP_AT_BAD] = "stop-at-bad",
    [BUG_RESURRECT] = "resurrect",
    [BUG_LMDB_NO_SYNC] = "lmdb-no-sync",
    [BUG_NO_SNAPSHOT] = "no-snapshot",
    [BUG_REUSE_UNCHECKED] = "reuse-unchecked",
    [BUG_CONFIRM_FAILED] = "confirm-failed",
    [BUG_SPLIT_CHAIN] = "split-chain",
};

enum power_bug power_bug_named(const char *name)
{
    for (int i = 0; name != NULL && i < POWER_BUGS; i++) {
        if (strcmp(bug_names[i], name) == 0) {
            return (enum power_bug)i;
        }
    }
    return BUG_NONE;
}

__attribute__((format(printf, 2, 3))) static void
violated(struct trial *t, const char *format, ...)
{
    struct power *power = t->power;
    va_list args;

    va_start(args, format);
    if (power->violations++ == 0) {
        vsnprintf(power->what, sizeof power->what, format, args);
    }
    va_end(args);
}

/* ---- opening ---- */

static void count_read(void *arg, const struct call *call)
{
    struct trial *t = arg;

    if (call->kind == CALL_READ) {
        t->read_bytes += call->len;
    }
}

static bool open_trial(struct trial *t)
{
    struct calls_observer observer = { .after = count_read, .arg = t };
    enum status status;

    t->read_bytes = 0;
    t->power->opened++;
    calls_watch(t->h.dir, &observer);
    power_bug_set(t->life->bug);
    status = harness_open(&t->h);
    calls_watch(NULL, NULL);
    if (status != STATUS_OK) {
        violated(t, "does not open: %s: %.200s", status_word(status),
                 t->h.err.text);
    }
    return status == STATUS_OK;
}

static void close_trial(struct trial *t, bool clean)
{
    if (!clean && t->h.store != NULL) {
        store_freeze(t->h.store); /* as kill -9 leaves it */
    }
    harness_close(&t->h);
    power_bug_set(BUG_NONE);
}

/* ---- what it holds ---- */

/* The first line that differs. */
static void differs(struct trial *t, const char *when)
{
    const char *a = t->has;
    const char *b = t->expected;

    for (;;) {
        size_t a_len = strcspn(a, "\n");
        size_t b_len = strcspn(b, "\n");
        if (a_len != b_len || memcmp(a, b, a_len) != 0 || *a == '\0') {
            violated(t, "%s: is \"%.*s\", expected \"%.*s\"", when,
                     (int)(a_len < 300 ? a_len : 300), a,
                     (int)(b_len < 300 ? b_len : 300), b);
            return;
        }
        a += a_len + (a[a_len] != '\0');
        b += b_len + (b[b_len] != '\0');
    }
}

static void apply_batch(struct model *model, const struct life *life,
                        size_t batch)
{
    size_t from = batch == 0 ? 0 : life->batches[batch - 1].event_stop;

    for (size_t i = from; i < life->batches[batch].event_stop; i++) {
        model_apply(model, &life->events[i]);
    }
}

/* Would the log end within a chain if it ended with that many batches? */
static bool splits_chain(const struct life *life, size_t batches)
{
    size_t stop = batches == 0 ? 0 : life->batches[batches - 1].event_stop;

    return stop > 0 && stop < life->event_count && life->events[stop].chain != 0
           && life->events[stop].chain == life->events[stop - 1].chain;
}

/* The store must be what some number of batches adds up to: at least those that
 * were confirmed, at most those that were tried. */
static bool find_state(struct trial *t)
{
    model_init(&t->now);
    for (size_t i = 0; i < t->confirmed; i++) {
        apply_batch(&t->now, t->life, i);
    }
    store_text(&t->h, t->has);
    for (size_t i = t->confirmed;; i++) {
        model_text(&t->now, t->expected);
        /* One who is dead and fails again changes its history alone. */
        if (strcmp(t->has, t->expected) == 0
            && (i >= t->tried || histories_differ(&t->h, &t->now)[0] == '\0')) {
            if (splits_chain(t->life, i)) {
                violated(t, "half of a chain is there");
            }
            return true;
        }
        if (i >= t->tried) {
            break;
        }
        apply_batch(&t->now, t->life, i);
    }
    model_init(&t->now);
    for (size_t i = 0; i < t->confirmed; i++) {
        apply_batch(&t->now, t->life, i);
    }
    model_text(&t->now, t->expected);
    differs(t, "nothing that was ever true");
    return false;
}

static void check_message(struct trial *t, struct store_cursor *cursor,
                          uint32_t topic, uint64_t seq)
{
    char body[MODEL_BODY_LEN];
    struct record record;
    size_t len = model_body(topic, t->now.topics[topic].salts[seq], body);
    enum status status =
        store_view_message(t->h.view, cursor, topic, seq, &record, NULL);

    if (status == STATUS_OK) {
        if (record.body.len != len || memcmp(record.body.at, body, len) != 0
            || record.seq != seq) {
            violated(t, "topic %u seq %" PRIu64 " is not as it was written",
                     topic, seq);
        }
    } else if (status != STATUS_NOT_FOUND
               || !(model_is_gone(&t->now, topic, seq)
                    || model_may_go(&t->now, topic, seq))) {
        violated(t, "topic %u seq %" PRIu64 " is lost: %s", topic, seq,
                 status_word(status));
    }
}

static void check_messages(struct trial *t)
{
    const char *history = histories_differ(&t->h, &t->now);

    if (history[0] != '\0') {
        violated(t, "history of %s", history);
    }
    for (uint32_t topic = 1; topic < MODEL_TOPICS; topic++) {
        struct store_cursor cursor = { 0 };
        uint64_t last = t->now.topics[topic].last;
        struct record record;
        for (uint64_t seq = 1; seq <= last; seq++) {
            check_message(t, &cursor, topic, seq);
        }
        if (store_view_message(t->h.view, &cursor, topic, last + 1, &record,
                               NULL)
            != STATUS_NOT_FOUND) {
            violated(t, "topic %u seq %" PRIu64 " is invented", topic,
                     last + 1);
        }
    }
}

static uint64_t count_segments(const struct trial *t)
{
    char path[600];
    uint64_t count = 0;
    DIR *dir;
    struct dirent *entry;

    snprintf(path, sizeof path, "%s/log", t->h.dir);
    dir = opendir(path);
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        count += entry->d_name[0] != '.';
    }
    if (dir != NULL) {
        closedir(dir);
    }
    return count;
}

/* What a start may read: the heads of all segments, and twice (once to find the
 * end) those that hold what the last checkpoint did not cover. */
static uint64_t may_read(const struct trial *t, uint64_t uncovered)
{
    uint64_t len = t->h.config.segment_len;
    uint64_t segments = uncovered / len + SEGMENTS_BESIDES;

    return count_segments(t) * 2 * BLOCK_LEN + segments * 2 * len
           + READ_BESIDES_MAX;
}

/* Not more is done than the checkpoint left to do. */
static void check_work(struct trial *t, size_t cut)
{
    const struct life *life = t->life;
    const struct store_recovery *r = &t->h.recovery;
    uint64_t covered = 0;
    uint64_t all = t->tried == 0 ? 0 : life->batches[t->tried - 1].bytes;

    t->power->rebuilt += r->keydir_rebuilt && !t->keydir_gone;
    if (r->damaged_batches != 0 || r->damaged_bytes != 0
        || r->missing_segments != 0) {
        violated(t,
                 "a cut is taken for damage: %" PRIu64 " batches, %" PRIu64
                 " bytes, %" PRIu64 " segments",
                 r->damaged_batches, r->damaged_bytes, r->missing_segments);
    }
    for (size_t i = 0; i < life->checkpoint_count; i++) {
        if (life->checkpoints[i].at <= cut) {
            covered = life->checkpoints[i].bytes;
        }
    }
    if (r->keydir_rebuilt || t->keydir_gone) {
        return;
    }
    if (r->replayed_bytes > all - covered) {
        violated(t, "%" PRIu64 " bytes replayed of %" PRIu64, r->replayed_bytes,
                 all - covered);
    }
    if (t->read_bytes > may_read(t, all - covered)) {
        violated(t, "%" PRIu64 " bytes read, where %" PRIu64 " would do",
                 t->read_bytes, may_read(t, all - covered));
    }
}

/* ---- it goes on ---- */

static bool commit(struct trial *t)
{
    size_t len = t->h.len;

    if (harness_commit(&t->h) != STATUS_OK) {
        violated(t, "does not go on: %.200s", t->h.err.text);
        return false;
    }
    return len > 0;
}

/* What was sent again is stored again: its producer was not noted. */
static bool is_forgotten(struct trial *t, const struct event *event)
{
    if ((record_flags_at(t->h.buffer) & RECORD_DUPLICATE) != 0
        || record_seq_at(t->h.buffer) != event->first
        || t->forgotten >= t->life->may_forget) {
        return false;
    }
    t->forgotten++;
    return true;
}

/* The number that each producer sent last is known; a new one is not. */
static void send_again(struct trial *t, uint32_t producer)
{
    uint32_t topic = t->now.number_topics[producer];
    struct event event = { .kind = EVENT_MESSAGE,
                           .topic = topic,
                           .first = t->now.topics[topic].last + 1,
                           .salt = 7,
                           .producer = producer,
                           .number = t->now.numbers[producer] };
    char body[MODEL_BODY_LEN];

    if (event.number == 0 || t->now.facts[CATALOG_TOPIC][topic] != FACT_LIVE) {
        return;
    }
    (void)model_body(topic, event.salt, body);
    add_numbered(&t->h, topic, body, producer, event.number, false);
    if (!commit(t)) {
        return;
    }
    if (is_forgotten(t, &event)) {
        model_apply(&t->now, &event);
        event.first++;
    } else if ((record_flags_at(t->h.buffer) & RECORD_DUPLICATE) == 0
               || record_seq_at(t->h.buffer) != t->now.number_seqs[producer]) {
        violated(t, "number %" PRIu64 " of producer %u was stored twice",
                 event.number, producer);
        return;
    }
    event.number++;
    add_numbered(&t->h, topic, body, producer, event.number, false);
    if (commit(t)) {
        if ((record_flags_at(t->h.buffer) & RECORD_DUPLICATE) != 0
            || record_seq_at(t->h.buffer) != event.first) {
            violated(t, "topic %u goes on with seq %" PRIu64 ", not %" PRIu64,
                     topic, record_seq_at(t->h.buffer), event.first);
        }
        model_apply(&t->now, &event);
    }
}

static void settle_one(struct trial *t, uint32_t topic)
{
    struct event event = { .kind = EVENT_RANGE,
                           .how = RECORD_ACK,
                           .topic = topic,
                           .group = 1,
                           .first = t->now.topics[topic].last,
                           .last = t->now.topics[topic].last };

    if (t->now.facts[CATALOG_GROUP][1] == FACT_LIVE && event.last > 0) {
        add_ack(&t->h, 1, topic, event.first, event.last);
        if (commit(t)) {
            model_apply(&t->now, &event);
        }
    }
}

static void go_on(struct trial *t)
{
    for (uint32_t i = 1; i < MODEL_PRODUCERS; i++) {
        send_again(t, i);
    }
    for (uint32_t topic = 1; topic < MODEL_TOPICS; topic++) {
        struct event event = { .kind = EVENT_MESSAGE,
                               .topic = topic,
                               .first = t->now.topics[topic].last + 1,
                               .salt = 34 };
        char body[MODEL_BODY_LEN];
        if (t->now.facts[CATALOG_TOPIC][topic] != FACT_LIVE) {
            continue;
        }
        (void)model_body(topic, event.salt, body);
        add_message(&t->h, topic, body);
        if (commit(t)) {
            model_apply(&t->now, &event);
        }
        settle_one(t, topic);
    }
}

/* What it has now it still has after another start. */
static void check_again(struct trial *t)
{
    if (!open_trial(t)) {
        return;
    }
    store_text(&t->h, t->has);
    model_text(&t->now, t->expected);
    if (strcmp(t->has, t->expected) != 0) {
        differs(t, "after going on");
    } else {
        check_messages(t);
    }
    close_trial(t, true);
}

static void check_image(struct trial *t, size_t cut)
{
    if (!open_trial(t)) {
        return;
    }
    check_work(t, cut);
    if (find_state(t)) {
        check_messages(t);
        go_on(t);
        close_trial(t, random_next(t->state) % 4 == 0);
        check_again(t);
    } else {
        close_trial(t, false);
    }
}

/* ---- images ---- */

static struct trial *begin_trial(struct power *power, const struct life *life,
                                 size_t cut, uint64_t *state)
{
    static struct trial trial; /* large, and one at a time */
    struct trial *t = &trial;

    memset(t, 0, offsetof(struct trial, now));
    t->power = power;
    t->life = life;
    t->state = state;
    t->confirmed = life_confirmed(life, cut);
    t->tried = life_tried(life, cut);
    harness_init(&t->h);
    t->h.config.segment_len = life->h.config.segment_len;
    t->h.now_us = life->h.now_us;
    power->images++;
    return t;
}

void power_restart(struct power *power, struct life *life)
{
    uint64_t state = life->state;
    struct trial *t = begin_trial(power, life, SIZE_MAX - 1, &state);

    harness_fini(&t->h);
    t->h = life->h;
    t->keydir_gone = true; /* how much there is to do depends on the fault */
    check_image(t, SIZE_MAX - 1);
    life->h = t->h;
}

static void delete_keydir(struct trial *t)
{
    char path[600];

    snprintf(path, sizeof path, "%s/keydir/data.mdb", t->h.dir);
    (void)unlink(path);
    t->keydir_gone = true;
}

/* The power goes again while the image is being recovered: after `at` calls. */
static void cut_again(struct power *power, const struct life *life, size_t cut,
                      struct disk_trace *trace, size_t at, uint64_t *state)
{
    struct disk_cut second = disk_draw(state);
    struct disk disk;
    struct trial *t = begin_trial(power, life, cut, state);

    disk_init(&disk, trace);
    disk_seek(&disk, at);
    disk_image(&disk, &second, t->h.dir);
    t->keydir_gone = true; /* the second start may do the first one's work */
    check_image(t, cut);
    harness_fini(&t->h);
    disk_fini(&disk);
}

static void trace_recovery(struct trial *t, struct disk_trace *trace)
{
    disk_trace_start(trace, t->h.dir);
    power_bug_set(t->life->bug);
    if (harness_open(&t->h) != STATUS_OK) {
        violated(t, "does not open: %.200s", t->h.err.text);
    }
    disk_trace_stop(trace);
    close_trial(t, false);
}

void power_image(struct power *power, const struct life *life,
                 const struct disk *disk, const struct disk_cut *cut,
                 uint64_t *state)
{
    struct trial *t = begin_trial(power, life, disk->at, state);
    uint64_t chance = random_next(state) % 20;

    disk_image(disk, cut, t->h.dir);
    if (chance < 2) {
        delete_keydir(t);
    }
    if (chance < 3 || chance == 19) {
        static struct disk_trace trace;
        trace_recovery(t, &trace);
        harness_fini(&t->h);
        for (int i = 0; i < 2; i++) {
            size_t at = random_next(state) % (trace.count + 1);
            cut_again(power, life, disk->at, &trace, at, state);
        }
        power->recoveries++;
        disk_trace_fini(&trace);
        return;
    }
    check_image(t, disk->at);
    harness_fini(&t->h);
}

/* Until LMDB's file is synced for the first time the mark of doubt has to be on
 * the disk: torn in the wrong byte, the file kills whoever opens it. */
static void check_mark(struct trial *t, const struct disk_trace *trace)
{
    struct disk disk;
    int file = -1;

    disk_init(&disk, trace);
    for (size_t at = 0; at < trace->count; at++) {
        const struct disk_op *op = &trace->ops[at];
        disk_seek(&disk, at);
        if (op->kind == DISK_MAKE && strcmp(op->name, "keydir/data.mdb") == 0) {
            file = op->file;
        } else if (file >= 0 && op->kind == DISK_SYNC && op->file == file) {
            break;
        }
        if (file >= 0 && disk_find(disk.names, "keydir.doubt") == NULL) {
            violated(t, "the keydir is made without a mark of doubt");
        }
    }
    if (file < 0) {
        violated(t, "no keydir is made");
    }
    disk_fini(&disk);
}

void power_remake(struct power *power, const struct life *life, unsigned each)
{
    static struct disk_trace trace;
    struct disk_cut all = { .policy = DISK_EVERYTHING, .unit = 512 };
    uint64_t state = power->seed;
    size_t end = life->trace.count;
    struct trial *t = begin_trial(power, life, end, &state);
    struct disk disk;

    disk_init(&disk, &life->trace);
    disk_seek(&disk, end);
    disk_image(&disk, &all, t->h.dir);
    disk_fini(&disk);
    delete_keydir(t);
    trace_recovery(t, &trace);
    check_mark(t, &trace);
    harness_fini(&t->h);
    for (size_t at = 0; at <= trace.count; at++) {
        for (unsigned i = 0; i < each; i++) {
            cut_again(power, life, end, &trace, at, &state);
        }
    }
    disk_trace_fini(&trace);
}

/* ---- a life's worth ---- */

static char crash_note[512];

/* A store that dies of an image says of which one. */
static void on_crash(int number)
{
    ssize_t done = write(STDERR_FILENO, "crashed: ", 9);

    done += write(STDERR_FILENO, crash_note, strlen(crash_note));
    done += write(STDERR_FILENO, "\n", 1);
    (void)done;
    (void)signal(number, SIG_DFL);
    (void)raise(number);
}

static void watch_crashes(const struct power *power)
{
    static const int numbers[] = { SIGABRT, SIGSEGV, SIGBUS };

    for (size_t i = 0; i < COUNT_OF(numbers); i++) {
        (void)signal(numbers[i], on_crash);
    }
    snprintf(crash_note, sizeof crash_note,
             "in the life itself: GODWIT_SEED=%" PRIu64
             " GODWIT_BUG=%s GODWIT_STEPS=%d GODWIT_IMAGE=0:1 test/test_power "
             "--filter power/replay",
             power->seed, bug_names[power->bug], power->steps);
}

/* Around a sync there is most to see. */
static unsigned weight(const struct disk_trace *trace, size_t cut)
{
    unsigned sum = 1;

    for (size_t i = cut == 0 ? 0 : cut - 1; i <= cut && i < trace->count; i++) {
        const struct disk_op *op = &trace->ops[i];
        sum += op->kind == DISK_SYNC || op->kind == DISK_SYNC_DIR
               || op->each_synced;
    }
    return sum;
}

/* Killed by what it found, or in doubt about it, or wrong. */
enum { APART_SECONDS = 20, APART_REBUILT = 1, APART_WRONG = 2 };

static void image_apart(struct power *power, const struct life *life,
                        const struct disk *disk, const struct disk_cut *cut,
                        uint64_t *state)
{
    pid_t child = fork();
    int status = 0;

    CHECK(child >= 0);
    if (child == 0) {
        struct power alone = { .bug = power->bug };
        alarm(APART_SECONDS);
        power_image(&alone, life, disk, cut, state);
        _exit(alone.violations > 0 ? APART_WRONG
              : alone.rebuilt > 0  ? APART_REBUILT
                                   : 0);
    }
    CHECK(waitpid(child, &status, 0) == child);
    power->images++;
    if (WIFEXITED(status) && WEXITSTATUS(status) == APART_REBUILT) {
        power->rebuilt++;
    } else if (status != 0) {
        power->violations++;
    }
}

static void one_image(struct power *power, const struct life *life,
                      const struct disk *disk, uint64_t state)
{
    unsigned before = power->violations;
    uint64_t first = state;
    struct disk_cut cut = disk_draw(&state);

    snprintf(crash_note, sizeof crash_note,
             "GODWIT_SEED=%" PRIu64 " GODWIT_BUG=%s GODWIT_STEPS=%d "
             "GODWIT_IMAGE=%zu:%" PRIu64
             " test/test_power --filter power/replay",
             power->seed, bug_names[power->bug], power->steps, disk->at, first);
    if (power->apart) {
        image_apart(power, life, disk, &cut, &state);
    } else {
        power_image(power, life, disk, &cut, &state);
    }
    if (before == 0 && power->violations > 0) {
        snprintf(power->replay, sizeof power->replay, "%.250s", crash_note);
    }
}

static struct life *whole_life(const struct power *power)
{
    struct life *life;

    watch_crashes(power);
    life = life_begin(power->seed, power->bug);
    life_live(life, power->steps);
    life_end(life);
    return life;
}

void power_run(struct power *power, unsigned images)
{
    struct life *life = whole_life(power);
    uint64_t state = power->seed ^ UINT64_C(0x5bd1e995);
    uint64_t total = 0;
    uint64_t passed = 0;
    struct disk disk;

    for (size_t cut = 0; cut <= life->trace.count; cut++) {
        total += weight(&life->trace, cut);
    }
    disk_init(&disk, &life->trace);
    for (size_t cut = 0; cut <= life->trace.count; cut++) {
        uint64_t stop = passed + weight(&life->trace, cut);
        unsigned wanted =
            (unsigned)(stop * images / total - passed * images / total);
        disk_seek(&disk, cut);
        while (wanted-- > 0) {
            one_image(power, life, &disk, random_next(&state));
        }
        passed = stop;
    }
    power->done = life->sums;
    disk_fini(&disk);
    life_free(life);
}

void power_replay(struct power *power, const char *image)
{
    struct life *life = whole_life(power);
    char *colon;
    size_t cut = strtoull(image, &colon, 10);
    struct disk disk;

    CHECK(*colon == ':' && cut <= life->trace.count);
    disk_init(&disk, &life->trace);
    disk_seek(&disk, cut);
    one_image(power, life, &disk, strtoull(colon + 1, NULL, 10));
    disk_fini(&disk);
    life_free(life);
}
