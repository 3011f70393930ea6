/* What the times in a message mean here. They are of the wall clock, which may
 * jump; what waits goes by the monotonic one. A message that is looked at is
 * placed on it once: a jump after that moves nothing. For the moment at which a
 * message was stored, the clock that showed it then is what counts, so the last
 * jumps are remembered: it looks neither ten years old after one nor ten years
 * ahead. */
#include "broker/dispatch/dispatch.h"

#include "broker/dispatch/inside.h"

#define JUMP_US INT64_C(1000000) /* less is the clock being set right */
#define DAY_US  (INT64_C(24) * 3600 * 1000000)

static int64_t offset_now(const struct dispatch *d)
{
    return d->offsets[d->offset_count - 1].us;
}

void dispatch_clock_set(struct dispatch *d, uint64_t now_us, uint64_t wall_us)
{
    int64_t offset = (int64_t)(wall_us - now_us);
    int64_t moved = d->offset_count == 0 ? 0 : offset - offset_now(d);

    if (d->offset_count > 0 && moved > -JUMP_US && moved < JUMP_US) {
        return;
    }
    if (d->offset_count == CLOCK_JUMPS_MAX) {
        memmove(d->offsets, d->offsets + 1,
                (CLOCK_JUMPS_MAX - 1) * sizeof *d->offsets);
        d->offset_count--;
    }
    d->offsets[d->offset_count++] = (struct clock_offset) { now_us, offset };
}

uint64_t dispatch_to_wall(const struct dispatch *d, uint64_t monotonic_us)
{
    return (uint64_t)((int64_t)monotonic_us + offset_now(d));
}

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t later(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* On the monotonic clock, so before its beginning when negative. By the newest
 * offset under which it could have been stored while that was true; if there is
 * none, an earlier run had another clock, and it was stored before this start.
 * The same at each look. */
static int64_t stored_at(const struct dispatch *d, uint64_t time_us)
{
    uint64_t until_us = d->now_us;

    for (size_t i = d->offset_count; i > 0; i--) {
        const struct clock_offset *offset = &d->offsets[i - 1];
        int64_t at = (int64_t)time_us - offset->us;

        if ((i == 1 || at >= (int64_t)offset->from_us)
            && at <= (int64_t)until_us + JUMP_US) {
            return at;
        }
        until_us = offset->from_us;
    }
    return (int64_t)d->offsets[0].from_us;
}

/* Whatever the clocks did, nothing waits for longer than it asked to. */
void dispatch_times(const struct dispatch *d, const struct record *record,
                    const struct wire_message *m, uint64_t now_us,
                    struct message_facts *out)
{
    int64_t now = (int64_t)now_us;
    int64_t stored = stored_at(d, record->time_us);
    int64_t due = stored;
    int64_t ttl = (int64_t)m->ttl_ms * 1000;

    if (m->delay_ms > 0) {
        due += (int64_t)m->delay_ms * 1000;
    } else if (m->deliver_at_ms > 0) {
        due = (int64_t)m->deliver_at_ms * 1000 - offset_now(d);
        due = earlier(due, now + PUBLISH_DELAY_DAYS_MAX * DAY_US);
    }
    out->due_us = due > now ? (uint64_t)due : 0;
    if (ttl > 0) {
        out->expires_us = (uint64_t)later(later(stored, due) + ttl, 1);
    }
}
