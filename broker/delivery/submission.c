#include "broker/delivery/submission.h"

#include "proto/limits.h"

#include <stdalign.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* Who writes which position: `written` and `released` only the worker, `taken`
 * only the journal, neither is read by the other. `published` tells the
 * journal, `durable` the worker; each has a cache line of its own. The pieces
 * are a ring beside it, from the journal to the worker.
 *
 * The sleep is the commit ring's pattern (ring.c): store, then look, both
 * seq_cst on both sides. */

enum { CACHE_LINE = 64, RECORD_STEP = 8 };

enum journal_sleep { JOURNAL_AWAKE, JOURNAL_WANTS_ANY, JOURNAL_WANTS_URGENT };

/* A stretch of the ring that went into one batch. */
struct piece {
    uint64_t begin; /* positions */
    uint64_t end;
    struct submission_place place;
};

/* Padding is meant: it keeps apart what different threads write.
 * NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding) */
struct submission {
    /* never changes */
    uint8_t *base; /* len bytes, and the same len bytes again */
    size_t len;
    struct piece *pieces; /* a ring of PLACES_MAX */

    /* the worker's */
    alignas(CACHE_LINE) uint64_t written;
    uint64_t released;
    uint64_t shown;        /* what `published` was set to last */
    uint64_t urgent_until; /* behind the last urgent record written */
    size_t dropped;        /* bytes of the first piece that were not written */
    _Atomic uint64_t pieces_begin; /* stored by the worker */

    /* from the worker to the journal */
    alignas(CACHE_LINE) _Atomic uint64_t published;
    _Atomic uint64_t urgent; /* urgent_until as of `published` */

    /* the journal's */
    alignas(CACHE_LINE) uint64_t taken;
    _Atomic uint64_t pieces_end; /* stored by the journal */

    /* from the journal to the worker */
    alignas(CACHE_LINE) _Atomic uint64_t durable;
    alignas(CACHE_LINE) _Atomic int sleep; /* enum journal_sleep */
};

/* Reserve twice the room, then put the same pages into both halves. */
static uint8_t *map_twice(size_t len)
{
    int fd = memfd_create("godwit-submission", MFD_CLOEXEC);
    uint8_t *base = MAP_FAILED;

    if (fd < 0) {
        return NULL;
    }
    if (ftruncate(fd, (off_t)len) == 0) {
        base =
            mmap(NULL, 2 * len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    }
    for (size_t half = 0; half < 2 && base != MAP_FAILED; half++) {
        if (mmap(base + half * len, len, PROT_READ | PROT_WRITE,
                 MAP_SHARED | MAP_FIXED, fd, 0)
            == MAP_FAILED) {
            (void)munmap(base, 2 * len);
            base = MAP_FAILED;
        }
    }
    (void)close(fd);
    return base == MAP_FAILED ? NULL : base;
}

struct submission *submission_new(size_t len)
{
    struct submission *s;

    CHECK(len > 0 && (len & (len - 1)) == 0);
    CHECK(len % (size_t)sysconf(_SC_PAGESIZE) == 0);
    s = aligned_alloc(CACHE_LINE, sizeof *s);
    if (s == NULL) {
        return NULL;
    }
    *s = (struct submission) { .base = map_twice(len),
                               .len = len,
                               .pieces =
                                   calloc(PLACES_MAX, sizeof s->pieces[0]) };
    if (s->base == NULL || s->pieces == NULL) {
        submission_free(s);
        return NULL;
    }
    return s;
}

void submission_free(struct submission *s)
{
    if (s == NULL) {
        return;
    }
    if (s->base != NULL) {
        (void)munmap(s->base, 2 * s->len);
    }
    free(s->pieces);
    free(s);
}

/* ---- worker ---- */

size_t submission_room(const struct submission *s)
{
    return s->len - (size_t)(s->written - s->released);
}

uint8_t *submission_at(const struct submission *s, uint64_t position)
{
    CHECK(position >= s->released && position <= s->written);
    return s->base + (position & (s->len - 1));
}

uint8_t *submission_reserve(struct submission *s, size_t len)
{
    return len > submission_room(s) ? NULL : submission_at(s, s->written);
}

uint64_t submission_write(struct submission *s, size_t len, bool urgent)
{
    CHECK(len > 0 && len % RECORD_STEP == 0 && len <= submission_room(s));
    s->written += len;
    if (urgent) {
        s->urgent_until = s->written;
    }
    return s->written;
}

uint64_t submission_put(struct submission *s, const struct record *record,
                        bool urgent)
{
    size_t len = record_size(record->body.len);
    uint8_t *at = submission_reserve(s, len);

    CHECK(at != NULL);
    if (record->body.len > 0) {
        memcpy(at + RECORD_HEADER_LEN, record->body.at, record->body.len);
    }
    record_finish(at, record);
    return submission_write(s, len, urgent);
}

bool submission_publish(struct submission *s)
{
    bool urgent = s->urgent_until > s->shown;
    int sleep;

    if (s->written == s->shown) {
        return false;
    }
    s->shown = s->written;
    /* Relaxed: the store of `published` behind it carries it along. */
    atomic_store_explicit(&s->urgent, s->urgent_until, memory_order_relaxed);
    /* Release: the records' bytes before their position. */
    atomic_store_explicit(&s->published, s->written, memory_order_seq_cst);
    sleep = atomic_load_explicit(&s->sleep, memory_order_seq_cst);
    if (sleep == JOURNAL_AWAKE || (sleep == JOURNAL_WANTS_URGENT && !urgent)) {
        return false;
    }
    return atomic_exchange_explicit(&s->sleep, JOURNAL_AWAKE,
                                    memory_order_seq_cst)
           != JOURNAL_AWAKE;
}

uint64_t submission_written(const struct submission *s)
{
    return s->written;
}

uint64_t submission_durable(const struct submission *s)
{
    /* Acquire: what the journal noted in the records before it. */
    return atomic_load_explicit(&s->durable, memory_order_acquire);
}

/* The first piece that does not end before `position`; NULL: there is none. */
static const struct piece *go_to(struct submission *s, uint64_t position)
{
    uint64_t begin =
        atomic_load_explicit(&s->pieces_begin, memory_order_relaxed);
    uint64_t end = atomic_load_explicit(&s->pieces_end, memory_order_acquire);
    uint64_t at = begin;

    while (at != end && s->pieces[at % PLACES_MAX].end <= position) {
        at++;
    }
    if (at != begin) {
        s->dropped = 0;
        /* Release: they were read before the journal may write there again. */
        atomic_store_explicit(&s->pieces_begin, at, memory_order_release);
    }
    return at == end ? NULL : &s->pieces[at % PLACES_MAX];
}

bool submission_placed(struct submission *s, uint64_t position,
                       struct submission_place *out)
{
    const struct piece *piece = go_to(s, position);

    if (piece == NULL || position < piece->begin) {
        return false;
    }
    *out = piece->place;
    out->offset += (uint32_t)(position - piece->begin - s->dropped);
    return true;
}

void submission_dropped(struct submission *s, uint64_t position, size_t len)
{
    const struct piece *piece = go_to(s, position);

    if (piece != NULL && position >= piece->begin) {
        s->dropped += len;
    }
}

void submission_release(struct submission *s, uint64_t position)
{
    CHECK(position >= s->released && position <= submission_durable(s));
    s->released = position;
    (void)go_to(s, position);
}

/* ---- journal ---- */

size_t submission_peek(struct submission *s, uint8_t **at)
{
    uint64_t published =
        atomic_load_explicit(&s->published, memory_order_acquire);

    *at = s->base + (s->taken & (s->len - 1));
    return (size_t)(published - s->taken);
}

bool submission_urgent(const struct submission *s)
{
    /* `published` first: its acquire makes the urgency that came with it, or a
     * newer one, visible. */
    (void)atomic_load_explicit(&s->published, memory_order_acquire);
    return atomic_load_explicit(&s->urgent, memory_order_relaxed) > s->taken;
}

void submission_take(struct submission *s, size_t len)
{
    uint64_t published =
        atomic_load_explicit(&s->published, memory_order_acquire);

    CHECK(len <= published - s->taken);
    s->taken += len;
}

void submission_note(struct submission *s, size_t len,
                     struct submission_place place)
{
    uint64_t end = atomic_load_explicit(&s->pieces_end, memory_order_relaxed);
    uint64_t begin =
        atomic_load_explicit(&s->pieces_begin, memory_order_acquire);

    if (end - begin == PLACES_MAX) {
        return;
    }
    s->pieces[end % PLACES_MAX] =
        (struct piece) { s->taken, s->taken + len, place };
    /* Release: the piece; the durable position behind it is stored later. */
    atomic_store_explicit(&s->pieces_end, end + 1, memory_order_release);
}

void submission_settle(struct submission *s)
{
    /* Release: the numbers and flags in the records before the position. */
    atomic_store_explicit(&s->durable, s->taken, memory_order_release);
}

bool submission_sleep(struct submission *s, bool urgent_only)
{
    int wanted = urgent_only ? JOURNAL_WANTS_URGENT : JOURNAL_WANTS_ANY;
    uint64_t published;
    bool something;

    atomic_store_explicit(&s->sleep, wanted, memory_order_seq_cst);
    published = atomic_load_explicit(&s->published, memory_order_seq_cst);
    something = urgent_only ? submission_urgent(s) : published != s->taken;
    if (something) {
        submission_awake(s);
    }
    return !something;
}

void submission_awake(struct submission *s)
{
    /* Relaxed: seen late, it costs one needless wake. */
    atomic_store_explicit(&s->sleep, JOURNAL_AWAKE, memory_order_relaxed);
}
