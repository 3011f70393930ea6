/* One thread's window on the durable log. Runs of batches that came since the
 * last checkpoint are in a table of this view's own; older ones are in the
 * keydir. A run leaves the table only after a checkpoint that holds it, and the
 * keydir's snapshot is let go before that, so a message is always in one of the
 * two.
 *
 * A merge moves messages to another segment and removes theirs. Runs of merge
 * batches are not noted: the old place is good until the keydir knows the new
 * one, and where the old one fails the message is looked up again. A segment is
 * unmapped only when every view has rested since its removal (readers.c). */
#include "storage/internal.h"

#include "storage/io.h"

#include <fcntl.h>
#include <stdlib.h>

/* The runs of one topic, by first_seq; begin..end are in use. */
struct topic_runs {
    struct store_run *runs;
    uint32_t begin;
    uint32_t end;
    uint32_t capacity;
};

/* In the order of the log: what to forget as checkpoints pass. */
struct noted {
    uint64_t place; /* of the run's batch */
    uint32_t topic;
};

struct store_view {
    struct store *store;
    struct view_mark mark;
    struct keydir_reader *reader;
    struct topic_runs *topics;
    uint32_t topic_count;
    struct noted *noted; /* a ring; its capacity is a power of two */
    size_t noted_first;
    size_t noted_count;
    size_t noted_capacity;
    uint64_t trimmed; /* the checkpointed place seen last */
};

enum {
    TOPICS_MIN = 64,
    RUNS_MIN = 16,
    NOTED_MIN = 256,
    /* How often a message may have moved between looking it up and reading it:
     * each time takes a whole merge. */
    MOVES_MAX = 16
};

enum status store_view_open(struct store_view **out, struct store *store,
                            struct error *err)
{
    struct store_view *view = calloc(1, sizeof *view);
    enum status status;

    if (view == NULL) {
        return error_set(err, STATUS_NOMEM, 0, "view");
    }
    view->store = store;
    status = keydir_reader_open(&view->reader, store->keydir);
    if (status != STATUS_OK) {
        free(view);
        return error_set(err, status, 0, "view: keydir reader");
    }
    status = views_add(
        &store->views, &view->mark,
        atomic_load_explicit(&store->checkpointed, memory_order_acquire));
    if (status != STATUS_OK) {
        keydir_reader_close(view->reader);
        free(view);
        return error_set(err, status, 0, "view: %d are open",
                         STORE_VIEW_COUNT_MAX);
    }
    *out = view;
    return STATUS_OK;
}

void store_view_close(struct store_view *view)
{
    if (view == NULL) {
        return;
    }
    keydir_reader_close(view->reader);
    views_remove(&view->store->views, &view->mark);
    for (uint32_t i = 0; i < view->topic_count; i++) {
        free(view->topics[i].runs);
    }
    free(view->topics);
    free(view->noted);
    free(view);
}

void store_view_rest(struct store_view *view)
{
    keydir_reader_reset(view->reader);
    view_rest(&view->mark);
}

/* ---- the table ---- */

static void forget_first(struct store_view *view, uint32_t topic)
{
    struct topic_runs *t = &view->topics[topic];

    CHECK(t->begin < t->end);
    t->begin++;
    if (t->begin == t->end) {
        t->begin = t->end = 0;
    }
}

/* Drop what a checkpoint has taken over since the last look. */
static void trim(struct store_view *view)
{
    uint64_t place =
        atomic_load_explicit(&view->store->checkpointed, memory_order_acquire);

    if (place == view->trimmed) {
        return;
    }
    view->trimmed = place;
    while (view->noted_count > 0
           && view->noted[view->noted_first].place < place) {
        forget_first(view, view->noted[view->noted_first].topic);
        view->noted_first =
            (view->noted_first + 1) & (view->noted_capacity - 1);
        view->noted_count--;
    }
}

/* From here on the newest checkpoint counts. */
static void look_anew(struct store_view *view)
{
    keydir_reader_reset(view->reader);
    trim(view);
}

static enum status grow_topics(struct store_view *view, uint32_t topic)
{
    uint32_t count = view->topic_count == 0 ? TOPICS_MIN : view->topic_count;
    struct topic_runs *topics;

    if (topic > TOPIC_ID_MAX) {
        return STATUS_CORRUPT;
    }
    while (count <= topic) {
        count *= 2;
    }
    topics = realloc(view->topics, count * sizeof *topics);
    if (topics == NULL) {
        return STATUS_NOMEM;
    }
    memset(topics + view->topic_count, 0,
           (count - view->topic_count) * sizeof *topics);
    view->topics = topics;
    view->topic_count = count;
    return STATUS_OK;
}

static enum status grow_noted(struct store_view *view)
{
    size_t capacity =
        view->noted_capacity == 0 ? NOTED_MIN : view->noted_capacity * 2;
    struct noted *noted;

    if (view->noted_count < view->noted_capacity) {
        return STATUS_OK;
    }
    noted = malloc(capacity * sizeof *noted);
    if (noted == NULL) {
        return STATUS_NOMEM;
    }
    for (size_t i = 0; i < view->noted_count; i++) {
        noted[i] =
            view->noted[(view->noted_first + i) & (view->noted_capacity - 1)];
    }
    free(view->noted);
    view->noted = noted;
    view->noted_first = 0;
    view->noted_capacity = capacity;
    return STATUS_OK;
}

static enum status room_for_run(struct topic_runs *t)
{
    uint32_t capacity = t->capacity == 0 ? RUNS_MIN : t->capacity * 2;
    struct store_run *runs;

    if (t->end < t->capacity) {
        return STATUS_OK;
    }
    if (t->begin > t->capacity / 2) {
        memmove(t->runs, t->runs + t->begin,
                (t->end - t->begin) * sizeof *t->runs);
        t->end -= t->begin;
        t->begin = 0;
        return STATUS_OK;
    }
    runs = realloc(t->runs, capacity * sizeof *runs);
    if (runs == NULL) {
        return STATUS_NOMEM;
    }
    t->runs = runs;
    t->capacity = capacity;
    return STATUS_OK;
}

static enum status add_run(struct store_view *view, const struct store_run *run)
{
    enum status status = STATUS_OK;
    struct topic_runs *t;
    size_t last;

    if (run->topic >= view->topic_count) {
        status = grow_topics(view, run->topic);
    }
    if (status == STATUS_OK) {
        status = grow_noted(view);
    }
    if (status != STATUS_OK) {
        return status;
    }
    t = &view->topics[run->topic];
    status = room_for_run(t);
    if (status != STATUS_OK) {
        return status;
    }
    t->runs[t->end++] = *run;
    last = (view->noted_first + view->noted_count) & (view->noted_capacity - 1);
    view->noted[last] =
        (struct noted) { place_of(run->segment, run->batch), run->topic };
    view->noted_count++;
    return STATUS_OK;
}

/* ---- a commit ---- */

static enum status visit_runs(struct store_view *view,
                              const struct batch *batch,
                              const struct store_visitor *visitor)
{
    for (uint32_t i = 0; i < batch->run_count; i++) {
        struct store_run run;
        enum status status = batch_run(batch, i, &run);
        if (status == STATUS_OK) {
            status = add_run(view, &run);
        }
        if (status != STATUS_OK) {
            return status;
        }
        if (visitor != NULL && visitor->run != NULL) {
            visitor->run(visitor->arg, &run);
        }
    }
    return STATUS_OK;
}

static enum status visit_fact(const struct record *record,
                              const struct store_visitor *visitor)
{
    struct record_fact fact;
    enum status status = fact_read(record->body, &fact);

    if (status == STATUS_OK && visitor != NULL && visitor->fact != NULL) {
        visitor->fact(visitor->arg, &fact, record->app);
    }
    return status;
}

static enum status visit_trim(const struct record *record,
                              const struct store_visitor *visitor)
{
    struct record_trim cut;
    enum status status = trim_read(record->body, &cut);

    if (status == STATUS_OK && visitor != NULL && visitor->trim != NULL) {
        visitor->trim(visitor->arg, &cut);
    }
    return status;
}

/* Only what is looked into is read from the map: of messages nothing. */
static enum status read_visit(struct segment_walk *walk,
                              const struct batch *batch, uint32_t i,
                              struct record *record)
{
    struct slice bytes = batch_visit(batch, i);
    uint64_t at;
    size_t len;

    if (bytes.len < RECORD_HEADER_LEN) {
        return STATUS_CORRUPT;
    }
    at = (uint64_t)(bytes.at - batch->base);
    if (!segment_walk_to(walk, at, RECORD_HEADER_LEN)) {
        return STATUS_IO;
    }
    len = record_size_at(bytes.at);
    len = len < bytes.len ? len : bytes.len;
    return segment_walk_to(walk, at, len) ? record_read(bytes, record)
                                          : STATUS_IO;
}

static enum status visit_records(struct segment_walk *walk,
                                 const struct batch *batch,
                                 const struct store_visitor *visitor)
{
    for (uint32_t i = 0; i < batch->visit_count; i++) {
        struct record record;
        enum status status = read_visit(walk, batch, i, &record);
        if (status == STATUS_OK && record.kind == RECORD_CATALOG) {
            status = visit_fact(&record, visitor);
        } else if (status == STATUS_OK && record.kind == RECORD_TRIM) {
            status = visit_trim(&record, visitor);
        }
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

enum status store_view_commit(struct store_view *view,
                              const struct store_commit *commit,
                              const struct store_visitor *visitor)
{
    struct log *log = &view->store->log;
    struct segment *segment;
    struct batch batch;
    enum status status = STATUS_CORRUPT;

    view_wake(&view->store->views, &view->mark);
    look_anew(view);
    segment = log_segment(log, commit->segment);
    if (segment != NULL && segment->map != NULL) {
        status = segment_batch(segment, log, commit->offset, &batch);
    }
    if (status == STATUS_OK && batch.header.kind == BATCH_RECORDS) {
        status = visit_runs(view, &batch, visitor);
    }
    if (status == STATUS_OK) {
        struct segment_walk walk = { .segment = segment, .log = log };
        status = visit_records(&walk, &batch, visitor);
    }
    if (status == STATUS_CORRUPT) {
        figure_add(&view->store->figures.corrupt_reads, 1);
    }
    view_reached(&view->mark,
                 place_of(commit->segment, commit->offset + commit->len));
    return status;
}

/* ---- a message ---- */

static bool run_holds(const struct store_run *run, uint32_t topic, uint64_t seq)
{
    return run->topic == topic && seq >= run->first_seq
           && seq - run->first_seq < run->count;
}

/* Index of the first run of the topic that begins after `seq`. */
static uint32_t first_after(const struct topic_runs *t, uint64_t seq)
{
    uint32_t low = t->begin;
    uint32_t high = t->end;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (t->runs[middle].first_seq <= seq) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static enum status find_noted(const struct store_view *view, uint32_t topic,
                              uint64_t seq, struct store_run *out,
                              uint64_t *next_seq)
{
    const struct topic_runs *t;
    uint32_t after;

    *next_seq = 0;
    if (topic >= view->topic_count) {
        return STATUS_NOT_FOUND;
    }
    t = &view->topics[topic];
    after = first_after(t, seq);
    if (after > t->begin && run_holds(&t->runs[after - 1], topic, seq)) {
        *out = t->runs[after - 1];
        return STATUS_OK;
    }
    if (after < t->end) {
        *next_seq = t->runs[after].first_seq;
    }
    return STATUS_NOT_FOUND;
}

static enum status find_run(struct store_view *view, uint32_t topic,
                            uint64_t seq, struct store_run *out,
                            uint64_t *next_seq)
{
    uint64_t noted_next;
    enum status status = find_noted(view, topic, seq, out, &noted_next);

    if (status == STATUS_OK) {
        return STATUS_OK;
    }
    status = keydir_find_run(view->reader, topic, seq, out, next_seq);
    if (status == STATUS_IO) {
        store_doubt(view->store);
    }
    if (status == STATUS_NOT_FOUND && *next_seq == 0) {
        *next_seq = noted_next;
    }
    return status;
}

/* What is read is first looked at by the window, so that a bad sector or a cut
 * file gives an error instead of a signal. (Pages may still be lost between the
 * look and the reading.) */
enum { WINDOW_LEN = 64 * 1024 };
enum looking { AT_TABLE, AT_RECORDS };

struct look {
    struct store_cursor *cursor;
    struct segment *segment;
    struct batch_source source;
    bool failed; /* something could not be read */
};

/* False: bytes offset..offset+len do not lie in the segment, or do not read. */
static bool readable(struct look *look, const struct log *log, uint64_t offset,
                     uint64_t len, enum looking what)
{
    uint64_t *known = &look->cursor->readable[what];
    uint64_t at = offset & ~(uint64_t)(WINDOW_LEN - 1);

    if (offset + len > look->source.limit) {
        return false;
    }
    for (; at < offset + len; at += WINDOW_LEN) {
        uint64_t place = place_of(look->segment->header.id, (uint32_t)at);
        uint64_t end = at + WINDOW_LEN < look->segment->map_len
                           ? at + WINDOW_LEN
                           : look->segment->map_len;
        if (*known == place) {
            continue;
        }
        if (segment_readable(look->segment, log, at, end)) {
            *known = place;
        } else if (!segment_readable(look->segment, log, offset,
                                     offset + len)) {
            look->failed = true; /* and not only behind the file's end */
            return false;
        }
    }
    return true;
}

/* The record at `offset`, when it is the message that was asked for. */
static bool read_message(struct look *look, const struct log *log,
                         uint32_t offset, uint32_t topic, uint64_t seq,
                         struct record *out)
{
    const struct batch_source *source = &look->source;
    size_t size;

    if (offset % RECORD_ALIGN != 0
        || !readable(look, log, offset, RECORD_HEADER_LEN, AT_RECORDS)) {
        return false;
    }
    size = record_size_at(source->base + offset);
    if (!readable(look, log, offset, size, AT_RECORDS)
        || record_read(slice_of(source->base + offset, source->limit - offset),
                       out)
               != STATUS_OK) {
        return false;
    }
    return out->kind == RECORD_MESSAGE && out->topic == topic
           && out->seq == seq;
}

/* The batch's table is damaged: look through its records, if it has a header. */
static bool search_message(struct look *look, const struct log *log,
                           const struct store_run *run, uint64_t seq,
                           struct record *out)
{
    struct batch batch;
    struct slice record;
    uint32_t at = 0;

    if (!readable(look, log, run->batch, BATCH_HEADER_LEN, AT_TABLE)
        || batch_read_header(&look->source, run->batch, &batch) != STATUS_OK
        || !readable(look, log, run->batch, batch.header.len, AT_TABLE)) {
        return false;
    }
    while (batch_next(&batch, &at, &record)) {
        uint32_t offset = (uint32_t)(record.at - look->source.base);
        if (read_message(look, log, offset, run->topic, seq, out)) {
            return true;
        }
    }
    return false;
}

/* The message was found without its table: say so. */
static void note_index(struct store *store, const struct look *look,
                       const struct store_run *run)
{
    struct store_damage damage = { .kind = DAMAGE_INDEX,
                                   .segment = run->segment };
    struct batch batch;

    if (batch_read_header(&look->source, run->batch, &batch) == STATUS_OK) {
        damage.offset =
            run->batch + BATCH_HEADER_LEN + batch.header.records_len;
        damage.len = batch.header.index_len;
        (void)store_damage_note(store, &damage);
    }
}

static void note_message(struct store *store, const struct store_run *run,
                         uint64_t seq)
{
    figure_add(&store->figures.corrupt_reads, 1);
    store_damage_message(store, run, seq, DAMAGE_MESSAGE);
}

/* An error is no proof that bytes are gone; a file that ends before them is. */
static bool is_cut(struct store *store, const struct segment *segment)
{
    char path[PATH_LEN_MAX];
    off_t len;
    int fd;

    segment_path(&store->log, segment->header.id, "seg", path);
    fd = io_open(store->vfs, path, O_RDONLY);
    if (fd < 0) {
        return false;
    }
    len = store->vfs->size(store->vfs, fd);
    store->vfs->close(store->vfs, fd);
    return len >= 0 && len < (off_t)atomic_load(&segment->end);
}

/* The offset in the run's table, if that reads and lies in the batch. */
static uint32_t look_up(struct look *look, const struct log *log, uint64_t seq)
{
    const struct store_run *run = &look->cursor->run;
    uint64_t entry = run->table + (seq - run->first_seq) * 4;
    uint32_t at;

    if (run->table == 0 || !readable(look, log, entry, 4, AT_TABLE)) {
        return 0;
    }
    at = get_u32(look->source.base + entry);
    return at > run->batch && at < run->table ? at : 0;
}

static enum status read_from_run(struct store_view *view, struct look *look,
                                 uint64_t seq, struct record *out)
{
    const struct store_run *run = &look->cursor->run;
    struct store *store = view->store;
    uint32_t at;

    look->failed = false;
    look->segment = log_segment(&store->log, run->segment);
    if (look->segment != NULL && look->segment->map != NULL) {
        look->source = segment_source(look->segment, &store->log);
        at = look_up(look, &store->log, seq);
        if (at != 0
            && read_message(look, &store->log, at, run->topic, seq, out)) {
            return STATUS_OK;
        }
        if (search_message(look, &store->log, run, seq, out)) {
            note_index(store, look, run);
            return STATUS_OK;
        }
    }
    return look->failed && !is_cut(store, look->segment) ? STATUS_IO
                                                         : STATUS_CORRUPT;
}

static bool same_place(const struct store_run *a, const struct store_run *b)
{
    return a->segment == b->segment && a->batch == b->batch;
}

/* It could not be read where it was: has a merge moved it, or was it deleted?
 * A segment leaves the table only after a checkpoint that has no run in it, so
 * a look-up made now that still names the same place means damage. */
static enum status read_moved(struct store_view *view, struct look *look,
                              uint32_t topic, uint64_t seq, struct record *out,
                              uint64_t *next_seq, enum status failed)
{
    struct store_cursor *cursor = look->cursor;

    for (int i = 0; i < MOVES_MAX; i++) {
        struct store_run run;
        enum status status;

        look_anew(view);
        status = find_run(view, topic, seq, &run, next_seq);
        if (status != STATUS_OK) {
            return status;
        }
        if (same_place(&run, &cursor->run)) {
            if (failed == STATUS_CORRUPT) {
                note_message(view->store, &run, seq);
            }
            return failed;
        }
        cursor->run = run;
        failed = read_from_run(view, look, seq, out);
        if (failed == STATUS_OK) {
            return STATUS_OK;
        }
    }
    return STATUS_IO;
}

enum status store_view_message(struct store_view *view,
                               struct store_cursor *cursor, uint32_t topic,
                               uint64_t seq, struct record *out,
                               uint64_t *next_seq)
{
    struct look look = { .cursor = cursor };
    uint64_t next = 0;
    enum status status = STATUS_OK;

    if (!view_awake(&view->mark)) {
        view_wake(&view->store->views, &view->mark);
    }
    if (!run_holds(&cursor->run, topic, seq)) {
        status = find_run(view, topic, seq, &cursor->run, &next);
    }
    if (status == STATUS_OK) {
        status = read_from_run(view, &look, seq, out);
        if (status != STATUS_OK) {
            status = read_moved(view, &look, topic, seq, out, &next, status);
        }
    }
    if (status != STATUS_OK && next_seq != NULL) {
        *next_seq = next;
    }
    return status;
}

enum status store_view_history(struct store_view *view, uint32_t group,
                               uint32_t topic, uint64_t seq,
                               struct store_failure *out, size_t room,
                               size_t *count)
{
    uint8_t key[HISTORY_KEY_LEN];
    struct slice value;
    enum status status;

    *count = 0;
    history_key(key, group, topic, seq);
    look_anew(view);
    status = keydir_find_history(view->reader, key, &value);
    if (status == STATUS_OK && !history_read(value, out, room, count)) {
        status = STATUS_IO;
    }
    keydir_reader_reset(view->reader); /* it holds no page in a rest */
    if (status == STATUS_IO) {
        store_doubt(view->store);
    }
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

enum status store_view_settled(struct store_view *view, uint32_t group,
                               uint32_t topic, uint64_t seq,
                               enum store_settled *out)
{
    struct lane_look look = { 0 };
    struct slice value;
    enum status status;

    look_anew(view);
    status = keydir_find_lane(view->reader, group, topic, &value);
    if (status == STATUS_OK) {
        status = lane_value_look(value, seq, &look);
    }
    keydir_reader_reset(view->reader);
    *out = look.gap       ? SETTLED_AS_GAP
           : look.expired ? SETTLED_AS_EXPIRED
           : look.settled ? SETTLED_PLAINLY
                          : SETTLED_SINCE;
    if (status == STATUS_IO || status == STATUS_CORRUPT) {
        store_doubt(view->store);
        status = STATUS_IO;
    }
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}
