#include "test/lib/group_sim.h"

#include <stdarg.h>

/* ---- odds and ends ---- */

uint64_t sim_rnd(struct sim *s, uint64_t below)
{
    uint64_t x = s->random += UINT64_C(0x9e3779b97f4a7c15);

    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return (x ^ x >> 31) % below;
}

void sim_fail(struct sim *s, const char *format, ...)
{
    va_list args;

    if (s->failed) {
        return;
    }
    s->failed = true;
    va_start(args, format);
    (void)vsnprintf(s->text, sizeof s->text, format, args);
    va_end(args);
}

struct lane *sim_lane_of(struct sim *s, uint32_t topic)
{
    for (size_t i = 0; i < LANES_MAX; i++) {
        if (s->lanes[i].topic == topic) {
            return &s->lanes[i];
        }
    }
    return NULL;
}

bool sim_is_settled(const struct msg *m)
{
    return m->state == ACKED || m->state == GAP || m->state == DELETED;
}

void sim_become(struct lane *lane, struct msg *m, enum state state)
{
    lane->count[m->state]--;
    m->state = state;
    lane->count[state]++;
    while (lane->floor < lane->end
           && sim_is_settled(&lane->msgs[lane->floor + 1])) {
        lane->floor++;
    }
}

uint64_t sim_total(const struct sim *s, enum state state)
{
    uint64_t count = 0;

    for (size_t i = 0; i < LANES_MAX; i++) {
        count += s->lanes[i].count[state];
    }
    return count;
}

static struct holding held_by(const struct sim *s, uint64_t lease)
{
    struct holding h = { .lease = lease };

    for (size_t i = 0; i < LANES_MAX; i++) {
        const struct lane *lane = &s->lanes[i];
        for (uint64_t seq = lane->floor + 1;
             lane->count[IN_FLIGHT] > 0 && seq <= lane->end; seq++) {
            const struct msg *m = &lane->msgs[seq];
            if (m->state == IN_FLIGHT && m->lease == lease) {
                h.count++;
                h.bytes += m->bytes;
            }
        }
    }
    return h;
}

bool sim_is_able(const struct sim *s, const struct person *p)
{
    struct holding h;

    if (p->member == NULL || p->paused || p->credit == 0) {
        return false;
    }
    h = held_by(s, p->lease);
    return h.count < p->credit && h.bytes < p->credit_bytes;
}

/* ---- the log ---- */

void sim_expect_retry(struct sim *s, struct msg *m, bool at_once,
                      uint64_t delay)
{
    uint64_t backoff = (uint64_t)BACKOFF_MS_MIN * 1000;

    for (uint32_t i = 1; i < m->attempts && backoff < 600 * SECOND; i++) {
        backoff *= 2;
    }
    if (backoff > (uint64_t)BACKOFF_MS_MAX * 1000) {
        backoff = (uint64_t)BACKOFF_MS_MAX * 1000;
    }
    m->retry_expected = true;
    m->due_min = at_once ? 0 : s->now + (delay ? delay : backoff / 10 * 8);
    m->due_max = at_once ? 0 : s->now + (delay ? delay : backoff / 10 * 12);
}

static void note(struct sim *s, const struct note *n)
{
    if (s->log_count < LOG_MAX) {
        s->log[s->log_count++] = *n;
    }
}

static void take_retry(struct sim *s, struct lane *lane, const struct retry *r)
{
    struct msg *m = &lane->msgs[r->seq];

    EXPECT(s, r->seq >= 1 && r->seq <= lane->end && m->retry_expected,
           "a retry nobody made: topic %u seq %lu", lane->topic, r->seq);
    EXPECT(s, m->attempts == r->attempts, "seq %lu: attempts %u, not %u",
           r->seq, r->attempts, m->attempts);
    EXPECT(s, r->due_us >= m->due_min && r->due_us <= m->due_max,
           "seq %lu: due %lu, not in %lu..%lu", r->seq, r->due_us, m->due_min,
           m->due_max);
    m->retry_expected = false;
    m->due = r->due_us;
    note(s, &(struct note) { lane, lane->topic, r->seq, DELAYED, r->attempts,
                             r->due_us });
}

static void take_settled(struct sim *s, struct lane *lane,
                         const struct seqset *set, enum state state)
{
    for (size_t i = 0; i < seqset_range_count(set); i++) {
        struct seq_range range = seqset_ranges(set)[i];
        for (uint64_t seq = range.first; seq <= range.last; seq++) {
            EXPECT(s,
                   seq >= 1 && seq <= lane->end
                       && lane->msgs[seq].state == state,
                   "the log is told seq %lu is settled", seq);
            note(s, &(struct note) { lane, lane->topic, seq, state, 0, 0 });
            if (s->failed) {
                return;
            }
        }
    }
}

bool sim_on_effects(void *arg, const struct effects *e)
{
    struct sim *s = arg;
    struct lane *lane = sim_lane_of(s, e->topic);

    EXPECT(s, lane != NULL, "effects of a lane that is gone");
    for (size_t i = 0; !s->failed && i < e->retry_count; i++) {
        take_retry(s, lane, &e->retries[i]);
    }
    if (!s->failed) {
        take_settled(s, lane, e->acked, ACKED);
        take_settled(s, lane, e->gaps, GAP);
    }
    return true;
}

/* The first `count` notes are synced. */
void sim_sync_log(struct sim *s, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct note *n = &s->log[i];
        struct msg *m = &n->lane->msgs[n->seq];
        if (n->lane->topic != n->topic) {
            continue; /* dropped meanwhile */
        }
        if (n->state == DELAYED) {
            m->kept_attempts = n->attempts;
            m->kept_due = n->due;
        } else {
            m->kept_state = n->state;
        }
    }
    s->log_count -= count;
    for (size_t i = 0; i < s->log_count; i++) {
        s->log[i] = s->log[i + count];
    }
}
