/* The books of all lanes, checked while the broker runs, and the figures that
 * come of them. */
#include "broker/dispatch/dispatch.h"

#include "broker/dispatch/inside.h"

#include "broker/log.h"

enum { BOOKS_LANES = 8192 }; /* in one call; a group with more is one piece */

bool dispatch_books(const struct group_fact *group, const struct topic *topic,
                    struct lane_books *out)
{
    return group->user != NULL
           && group_books(dispatch_run(group)->group, topic->id, out);
}

bool dispatch_figures(const struct group_fact *group, struct group_figures *out,
                      size_t *members)
{
    if (group->user == NULL) {
        return false;
    }
    group_figures(dispatch_run(group)->group, out);
    *members = dispatch_run(group)->member_count;
    return true;
}

_Static_assert((int)TIERS == (int)TIER_COUNT, "each tier is shown");

void dispatch_show(const struct dispatch *d, struct worker_metrics *metrics)
{
    struct inflight_figures f;

    inflight_figures(d->inflight, &f);
    for (size_t i = 0; i < TIER_COUNT; i++) {
        struct tier_metrics *m = &metrics->tiers[i];

        metric_set(&m->in_flight_messages, f.tiers[i].count);
        metric_set(&m->in_flight_bytes, f.tiers[i].bytes);
        metric_set(&m->in_flight_bytes_max, f.tiers[i].bytes_max);
        metric_set(&m->transactions_ended, f.tiers[i].ended);
        metric_set(&m->transactions_demoted, f.tiers[i].demoted);
        metric_set(&m->transactions_promoted, f.tiers[i].promoted);
    }
    metric_set(&metrics->ended_transactions_us, f.ended_us);
}

/* ---- a round ---- */

struct checking {
    struct dispatch *d;
    const struct group_run *run;
    size_t lanes;
    size_t differences;
};

static void tell_difference(const struct checking *checking,
                            const struct lane_reader *lane,
                            const struct lane_books *b)
{
    log_error("books do not balance group=%s topic=%s published=%llu "
              "acked=%llu dead=%llu expired=%llu deleted=%llu filtered=%llu "
              "gap=%llu ready=%llu delayed=%llu in_flight=%llu",
              checking->run->fact->name, lane->topic_name,
              (unsigned long long)b->published, (unsigned long long)b->acked,
              (unsigned long long)b->dead, (unsigned long long)b->expired,
              (unsigned long long)b->deleted, (unsigned long long)b->filtered,
              (unsigned long long)b->gap, (unsigned long long)b->ready,
              (unsigned long long)b->delayed, (unsigned long long)b->in_flight);
}

static void check_lane(void *arg, uint32_t topic, void *user)
{
    struct checking *checking = arg;
    struct lane_books *sum = &checking->d->books;
    struct lane_books b;

    checking->lanes++;
    if (!group_books(checking->run->group, topic, &b)) {
        return;
    }
    if (!lane_books_balance(&b)) {
        checking->differences++;
        tell_difference(checking, user, &b);
    }
#define X(name) sum->name += b.name;
    BOOKS_METRICS(X)
#undef X
}

static void check_group(struct checking *checking, struct group_run *run,
                        uint64_t now_us)
{
    struct standing standing;

    checking->run = run;
    group_each_lane(run->group, check_lane, checking);
    group_held_by(run->group, now_us, &standing);
    checking->d->breakers += standing.gate == GATE_BREAKER;
}

static void show_books(struct dispatch *d)
{
    struct worker_metrics *m = d->config.metrics;

#define X(name) metric_set(&m->books.name, d->books.name);
    BOOKS_METRICS(X)
#undef X
    metric_set(&m->breakers_open, d->breakers);
}

/* ---- audits ---- */

static void audit_lane(void *arg, uint32_t topic, void *user)
{
    struct checking *checking = arg;
    const struct lane_reader *lane = user;
    size_t at = checking->lanes++;
    size_t orphans;

    if (at < checking->d->audit_lane
        || at >= checking->d->audit_lane + AUDIT_LANES
        || group_audit(checking->run->group, topic)) {
        return;
    }
    checking->differences++;
    orphans = group_sweep(checking->run->group, topic, checking->d->now_us);
    log_error("books differ from what is there group=%s topic=%s orphans=%zu",
              checking->run->fact->name, lane->topic_name, orphans);
}

/* About so many: keys themselves count as some. */
static size_t open_messages(const struct dispatch *d)
{
    struct inflight_figures f;
    size_t count = 0;

    inflight_figures(d->inflight, &f);
    for (size_t i = 0; i < TIER_COUNT; i++) {
        count += f.tiers[i].count;
    }
    return count + d->keys.used / sizeof(uint64_t); /* behind keys */
}

static void begin_audit(struct dispatch *d, struct link *group)
{
    d->audit_at = group == &d->groups ? NULL : group;
    d->audit_lane = 0;
}

/* Some lanes a round, until all of the group were seen; then the next one. */
static size_t audit_next(struct dispatch *d)
{
    struct checking checking = { .d = d };
    struct group_run *run;

    if (open_messages(d) > AUDIT_OPEN_MAX) {
        return 0;
    }
    if (d->audit_at == NULL) {
        begin_audit(d, d->groups.next);
    }
    if (d->audit_at == NULL) {
        return 0;
    }
    run = container_of(d->audit_at, struct group_run, all);
    checking.run = run;
    group_each_lane(run->group, audit_lane, &checking);
    dispatch_touched(d, run); /* an orphan is ready again */
    d->audit_lane += AUDIT_LANES;
    if (d->audit_lane >= checking.lanes) {
        begin_audit(d, d->audit_at->next);
    }
    return checking.differences;
}

size_t dispatch_check_books(struct dispatch *d, uint64_t now_us, bool *more)
{
    struct checking checking = { .d = d };

    if (d->books_at == NULL) {
        d->books_at = d->groups.next;
        d->books = (struct lane_books) { 0 };
        d->breakers = 0;
    }
    while (d->books_at != &d->groups && checking.lanes < BOOKS_LANES) {
        struct group_run *run =
            container_of(d->books_at, struct group_run, all);

        d->books_at = d->books_at->next;
        check_group(&checking, run, now_us);
    }
    *more = d->books_at != &d->groups;
    if (!*more) {
        d->books_at = NULL;
        show_books(d);
        checking.differences += audit_next(d);
    }
    return checking.differences;
}

void dispatch_books_forget(struct dispatch *d, const struct group_run *run)
{
    if (d->books_at == &run->all) {
        d->books_at = run->all.next;
    }
    if (d->audit_at == &run->all) {
        d->audit_at = NULL;
    }
}
