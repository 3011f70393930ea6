/* The way of a message here:
 *
 * - dispatch_commit(): a batch is durable; each run extends its topic's lanes
 *   and puts their groups on the ready list.
 * - dispatch_pump(): ready groups in turn; group_next() says who gets what, the
 *   store gives the message, deliveries are gathered for each member and topic
 *   and given out together.
 * - dispatch_settle(): outcomes; what must survive is an effect of the group.
 * - dispatch_log(): effects become records in the submission ring. */
#include "broker/dispatch.h"

#include "broker/dispatch_inside.h"

#include "broker/log.h"

#include <stdlib.h>

enum {
    GATHER_BYTES = 56 * 1024,   /* so that a frame's header stays short */
    PUMP_GROUP_MESSAGES = 1024, /* one group's share of a turn */
    PUMP_MESSAGES = 8192,       /* all of them */
    LOST_LOOKS = 8192,          /* for the end of one gap */
    TICK_MOVES = 4096
};

/* ---- lists ---- */

void dispatch_mark_ready(struct dispatch *d, struct group_run *run)
{
    if (run->ready) {
        return;
    }
    run->ready = true;
    run->next_ready = NULL;
    if (d->ready_last == NULL) {
        d->ready_first = run;
    } else {
        d->ready_last->next_ready = run;
    }
    d->ready_last = run;
}

static struct group_run *take_ready(struct dispatch *d)
{
    struct group_run *run = d->ready_first;

    if (run != NULL) {
        d->ready_first = run->next_ready;
        if (d->ready_first == NULL) {
            d->ready_last = NULL;
        }
        run->ready = false;
    }
    return run;
}

void dispatch_mark_changed(struct dispatch *d, struct group_run *run)
{
    if (!run->changed && group_has_effects(run->group)) {
        run->changed = true;
        run->next_changed = d->changed;
        d->changed = run;
    }
}

static void note_due(struct dispatch *d, const struct group_run *run)
{
    uint64_t due = group_due_us(run->group);

    if (due < d->due_us) {
        d->due_us = due;
    }
}

/* Something about the group moved: see what follows from it. */
void dispatch_touched(struct dispatch *d, struct group_run *run)
{
    dispatch_mark_ready(d, run);
    dispatch_mark_changed(d, run);
    note_due(d, run);
    if (d->any_starved && inflight_has_room(d->inflight)) {
        d->any_starved = false;
        for (struct group_run *r = d->groups; r != NULL; r = r->next) {
            if (r->starved) {
                r->starved = false;
                dispatch_mark_ready(d, r);
            }
        }
    }
}

/* ---- commits ---- */

static void on_run(void *arg, const struct store_run *run)
{
    struct dispatch *d = arg;
    struct topic *topic = catalog_topic_by_id(d->catalog, run->topic);
    struct topic_state *state = topic == NULL ? NULL : topic->user;

    if (state == NULL) {
        return; /* deleted meanwhile */
    }
    state->last_seq = run->first_seq + run->count - 1;
    for (struct lane_reader *lane = state->lanes; lane != NULL;
         lane = lane->next) {
        group_extend(lane->run->group, run->topic, state->last_seq);
        dispatch_mark_ready(d, lane->run);
    }
}

static void count_deleted(struct dispatch *d, struct group_run *run)
{
    struct group_figures figures;

    group_figures(run->group, &figures);
    metric_add(&d->config.metrics->deleted_messages,
               figures.deleted - run->deleted_told);
    run->deleted_told = figures.deleted;
}

/* The topic keeps less. Without memory some of it is ready still: the pump asks
 * once more before it gives any. */
static void on_trim(void *arg, const struct record_trim *trim)
{
    struct dispatch *d = arg;
    struct topic *topic = catalog_topic_by_id(d->catalog, trim->topic);
    struct topic_state *state = topic == NULL ? NULL : topic->user;

    if (state == NULL) {
        return;
    }
    if (trim->floor_seq > state->floor_seq) {
        state->floor_seq = trim->floor_seq;
    }
    if (trim->first_seq <= state->first_seq) {
        return;
    }
    state->first_seq = trim->first_seq;
    for (struct lane_reader *lane = state->lanes; lane != NULL;
         lane = lane->next) {
        (void)!group_trim(lane->run->group, state->id, state->first_seq);
        count_deleted(d, lane->run);
        dispatch_touched(d, lane->run);
    }
}

/* A value that makes no sense is left out by every replica alike. Memory runs
 * out in one of them alone: that worker would go on with another catalog than
 * the rest. A restart has it whole, so better to end here. */
void dispatch_apply(struct dispatch *d, const struct record_fact *fact)
{
    enum status status = catalog_apply(d->catalog, fact);

    CHECK(status != STATUS_NOMEM);
    if (status != STATUS_OK) {
        log_error("catalog entry unreadable class=%d id=%u", (int)fact->class,
                  fact->id);
    }
}

static void on_fact(void *arg, const struct record_fact *fact, uint32_t app)
{
    struct dispatch *d = arg;

    (void)app;
    dispatch_apply(d, fact);
}

void dispatch_commit(struct dispatch *d, const struct store_commit *commit)
{
    const struct store_visitor visitor = {
        .run = on_run, .fact = on_fact, .trim = on_trim, .arg = d
    };
    enum status status = store_view_commit(d->view, commit, &visitor);

    d->commit_count++;
    /* Without its runs noted, durable messages would look like gaps. A restart
     * has them all, so better to end here. */
    CHECK(status != STATUS_NOMEM);
    if (status != STATUS_OK) {
        log_error("commit not readable segment=%u offset=%u reason=\"%s\"",
                  commit->segment, commit->offset, status_text(status));
    }
}

/* ---- the pump ---- */

static void give_out(struct dispatch *d)
{
    if (d->gathered_count == 0) {
        return;
    }
    d->config.out.deliver(d->gathered_member, d->gathered_lane->topic_name,
                          d->gathered, d->gathered_count);
    metric_add(&d->config.metrics->delivered_messages, d->gathered_count);
    metric_add(&d->config.metrics->delivered_bytes, d->gathered_bytes);
    d->gathered_count = 0;
    d->gathered_bytes = 0;
    d->look_for_congestion = true;
}

static void gather(struct dispatch *d, const struct offer *offer,
                   const struct record *record)
{
    void *member = member_user(offer->member);

    if (d->gathered_count == GATHER_COUNT || d->gathered_member != member
        || d->gathered_lane != offer->lane_user
        || d->gathered_bytes + record->body.len > GATHER_BYTES) {
        give_out(d);
        d->gathered_member = member;
        d->gathered_lane = offer->lane_user;
    }
    d->gathered[d->gathered_count++] = (struct wire_delivery) {
        .seq = offer->seq,
        .attempt = offer->attempt,
        .time_us = record->time_us,
        .message = record->body,
    };
    d->gathered_bytes += record->body.len;
    if (offer->attempt > 1) {
        metric_add(&d->config.metrics->redelivered_messages, 1);
    }
}

/* The store has lost seq..last: tell the member, and go on behind it. */
static void lose(struct dispatch *d, struct group_run *run,
                 const struct offer *offer, uint64_t last)
{
    const struct lane_reader *lane = offer->lane_user;

    give_out(d);
    log_error("gap topic=%s group=%s first=%llu last=%llu "
              "reason=\"damaged on disk\"",
              lane->topic_name, run->fact->name, (unsigned long long)offer->seq,
              (unsigned long long)last);
    metric_add(&d->config.metrics->gap_messages, last - offer->seq + 1);
    d->config.out.gap(member_user(offer->member), lane->topic_name,
                      (struct seq_range) { offer->seq, last });
    group_lost(run->group, offer, last);
}

/* The keeper may be ahead of us: what the store says is not there may have been
 * deleted by a trim that is on the ring and not read yet. Only when we have
 * read all that was on it when the store said so, it is lost. */
static bool may_be_deleted(struct dispatch *d, const struct offer *offer)
{
    struct lane_reader *lane = offer->lane_user;
    uint64_t published =
        d->config.commits == NULL ? 0 : ring_published(d->config.commits);

    if (lane->missing_seq == offer->seq) {
        return d->commit_count < lane->missing_mark;
    }
    if (published <= d->commit_count) {
        return false;
    }
    lane->missing_seq = offer->seq;
    lane->missing_mark = published;
    return true;
}

static bool is_lost(enum status status)
{
    return status == STATUS_CORRUPT || status == STATUS_NOT_FOUND;
}

/* The last one, from offer->seq on, of those that the store cannot give, as far
 * as one look goes: a whole lost file is to be one gap, or a few. `status` and
 * `next_seq` are what the store said of the first. */
static uint64_t lost_until(struct dispatch *d, const struct offer *offer,
                           enum status status, uint64_t next_seq)
{
    struct lane_reader *lane = offer->lane_user;
    uint64_t last = offer->seq - 1;
    struct record record;

    for (size_t looks = 0; looks < LOST_LOOKS && is_lost(status); looks++) {
        uint64_t seq = last + 1;

        last = seq;
        if (status == STATUS_NOT_FOUND && next_seq > seq) {
            last = next_seq - 1;
        } else if (status == STATUS_NOT_FOUND && lane->topic->last_seq > seq) {
            last = lane->topic->last_seq; /* nothing comes any more */
        }
        if (last >= lane->topic->last_seq) {
            break;
        }
        next_seq = 0;
        status = store_view_message(d->view, &lane->cursor, offer->topic,
                                    last + 1, &record, &next_seq);
    }
    return last;
}

/* A group of which a start knows nothing but its fact may have begun at the
 * floor: what is missing below was not damaged. */
static bool skip_absent(struct group_run *run, const struct offer *offer,
                        uint64_t next_seq)
{
    struct lane_reader *lane = offer->lane_user;
    uint64_t last = lane->absent_below - 1;

    if (next_seq > offer->seq && next_seq <= last) {
        last = next_seq - 1;
    }
    lane->absent_through = last;
    return group_skip(run->group, offer->topic, last) == STATUS_OK;
}

/* The store does not have it. False: stop with this group for now. */
static bool miss(struct dispatch *d, struct group_run *run,
                 const struct offer *offer, enum status status,
                 uint64_t next_seq, size_t *budget)
{
    uint64_t last;
    uint64_t looks;

    if (may_be_deleted(d, offer)) {
        run->behind = true;
        return false;
    }
    last = lost_until(d, offer, status, next_seq);
    looks = last - offer->seq;
    *budget -= looks < *budget ? (size_t)looks : *budget;
    lose(d, run, offer, last);
    return true;
}

/* One message for one member. False: stop with this group for now. */
static bool pump_one(struct dispatch *d, struct group_run *run,
                     const struct offer *offer, uint64_t now_us, size_t *budget)
{
    struct lane_reader *lane = offer->lane_user;
    struct record record;
    uint64_t next_seq = 0;
    enum status status;

    if ((d->look_for_congestion
         || member_user(offer->member) != d->gathered_member)
        && d->config.out.congested(member_user(offer->member))) {
        member_pause(offer->member, true);
        return true;
    }
    d->look_for_congestion = false;
    if (offer->seq < lane->topic->first_seq) {
        return group_trim(run->group, offer->topic, lane->topic->first_seq)
               == STATUS_OK;
    }
    status = store_view_message(d->view, &lane->cursor, offer->topic,
                                offer->seq, &record, &next_seq);
    if (status == STATUS_OK) {
        if (group_delivered(run->group, offer, record.body.len, now_us)
            != STATUS_OK) {
            run->starved = true;
            d->any_starved = true;
            return false;
        }
        gather(d, offer, &record);
        return true;
    }
    if (status == STATUS_NOT_FOUND && offer->seq < lane->absent_below
        && offer->seq > lane->absent_through) {
        return skip_absent(run, offer, next_seq);
    }
    if (is_lost(status)) {
        return miss(d, run, offer, status, next_seq, budget);
    }
    if (!d->read_error_told) {
        d->read_error_told = true;
        log_error("message not readable topic=%s seq=%llu reason=\"%s\"",
                  lane->topic_name, (unsigned long long)offer->seq,
                  status_text(status));
    }
    return false;
}

/* True: it used up its share and may have more, in the next turn. */
static bool pump_group(struct dispatch *d, struct group_run *run,
                       uint64_t now_us)
{
    struct offer offer;
    size_t budget = PUMP_GROUP_MESSAGES;
    bool more = true;

    d->look_for_congestion = true;
    run->behind = false;
    while (budget > 0 && more && group_next(run->group, now_us, &offer)) {
        budget--;
        more = pump_one(d, run, &offer, now_us, &budget);
    }
    give_out(d);
    d->gathered_member = NULL;
    dispatch_mark_changed(d, run);
    note_due(d, run);
    return budget == 0 || run->behind;
}

void dispatch_pump(struct dispatch *d, uint64_t now_us)
{
    size_t rounds = PUMP_MESSAGES / PUMP_GROUP_MESSAGES;
    struct group_run *again[PUMP_MESSAGES / PUMP_GROUP_MESSAGES];
    size_t again_count = 0;
    struct group_run *run;

    /* Groups with little to do cost no round. */
    while (rounds > 0 && (run = take_ready(d)) != NULL) {
        if (pump_group(d, run, now_us)) {
            again[again_count++] = run;
            rounds--;
        }
    }
    for (size_t i = 0; i < again_count; i++) {
        dispatch_mark_ready(d, again[i]);
    }
}

void dispatch_rest(struct dispatch *d)
{
    store_view_rest(d->view);
}

bool dispatch_has_more(const struct dispatch *d)
{
    return d->ready_first != NULL;
}

/* ---- time ---- */

void dispatch_tick(struct dispatch *d, uint64_t now_us)
{
    if (now_us < d->due_us) {
        return;
    }
    d->due_us = UINT64_MAX;
    for (struct group_run *run = d->groups; run != NULL; run = run->next) {
        if (group_due_us(run->group) <= now_us) {
            group_tick(run->group, now_us, TICK_MOVES);
            dispatch_touched(d, run);
        }
        note_due(d, run);
    }
}

uint64_t dispatch_due_us(const struct dispatch *d)
{
    return d->due_us;
}

/* ---- members ---- */

static struct group_run *run_of(const struct group_fact *group)
{
    CHECK(group->user != NULL);
    return group->user;
}

void dispatch_forget_member(struct group_run *run, const struct member *member)
{
    for (size_t i = 0; i < run->member_count; i++) {
        if (run->members[i] == member) {
            run->members[i] = run->members[--run->member_count];
            return;
        }
    }
}

static enum status remember_member(struct group_run *run, struct member *member)
{
    if (run->member_count == run->member_capacity) {
        size_t capacity = run->member_capacity * 2 + 4;
        struct member **members =
            realloc(run->members, capacity * sizeof(struct member *));
        if (members == NULL) {
            return STATUS_NOMEM;
        }
        run->members = members;
        run->member_capacity = capacity;
    }
    run->members[run->member_count++] = member;
    return STATUS_OK;
}

enum status dispatch_join(struct dispatch *d, const struct group_fact *group,
                          uint64_t lease, uint64_t credit_messages,
                          uint64_t credit_bytes, void *user,
                          struct member **out)
{
    struct group_run *run = run_of(group);
    struct member *member;
    enum status status = group_join(run->group, lease, credit_messages,
                                    credit_bytes, user, &member);

    if (status != STATUS_OK) {
        return status;
    }
    status = remember_member(run, member);
    if (status != STATUS_OK) {
        group_retire(run->group, member);
        return status;
    }
    dispatch_touched(d, run);
    *out = member;
    return STATUS_OK;
}

void dispatch_credit(struct dispatch *d, const struct group_fact *group,
                     struct member *member, uint64_t messages, uint64_t bytes)
{
    member_set_credit(member, messages, bytes);
    dispatch_touched(d, run_of(group));
}

void dispatch_resume(struct dispatch *d, const struct group_fact *group,
                     struct member *member)
{
    member_pause(member, false);
    dispatch_touched(d, run_of(group));
}

void dispatch_leave(struct dispatch *d, const struct group_fact *group,
                    struct member *member)
{
    struct group_run *run = run_of(group);

    dispatch_forget_member(run, member);
    group_leave(run->group, member);
    dispatch_touched(d, run);
}

void dispatch_retire(struct dispatch *d, const struct group_fact *group,
                     struct member *member)
{
    struct group_run *run = run_of(group);

    dispatch_forget_member(run, member);
    group_retire(run->group, member);
    dispatch_touched(d, run);
}

enum status dispatch_settle(struct dispatch *d, const struct group_fact *group,
                            const struct settlement *settlement,
                            uint64_t now_us, settled_fn fn, void *arg)
{
    struct group_run *run = run_of(group);
    enum status status = group_settle(run->group, settlement, now_us, fn, arg);

    dispatch_touched(d, run);
    return status;
}

/* ---- to look at ---- */

bool dispatch_books(const struct group_fact *group, const struct topic *topic,
                    struct lane_books *out)
{
    uint64_t after = group_starts_after(group, topic->id);

    if (group->user == NULL
        || !group_books(run_of(group)->group, topic->id, out)) {
        return false;
    }
    /* What lay before its start was never the group's. */
    out->published -= after < out->published ? after : out->published;
    out->acked -= after < out->acked ? after : out->acked;
    return true;
}

bool dispatch_figures(const struct group_fact *group, struct group_figures *out,
                      size_t *members)
{
    if (group->user == NULL) {
        return false;
    }
    group_figures(run_of(group)->group, out);
    *members = run_of(group)->member_count;
    return true;
}

void dispatch_show(const struct dispatch *d, struct worker_metrics *metrics)
{
    struct inflight_figures f;

    inflight_figures(d->inflight, &f);
    metric_set(&metrics->in_flight_messages, f.heap_count);
    metric_set(&metrics->in_flight_bytes, f.heap_bytes);
    metric_set(&metrics->in_flight_bytes_max, f.heap_bytes_max);
}

struct checking {
    const struct group_run *run;
    size_t differences;
};

static void check_lane(void *arg, uint32_t topic, void *user)
{
    struct checking *checking = arg;
    const struct lane_reader *lane = user;
    struct lane_books b;

    if (!group_books(checking->run->group, topic, &b)) {
        return;
    }
    if (b.published
        != b.acked + b.gap + b.deleted + b.ready + b.delayed + b.in_flight) {
        checking->differences++;
        log_error("books do not balance group=%s topic=%s published=%llu "
                  "acked=%llu gap=%llu deleted=%llu ready=%llu delayed=%llu "
                  "in_flight=%llu",
                  checking->run->fact->name, lane->topic_name,
                  (unsigned long long)b.published, (unsigned long long)b.acked,
                  (unsigned long long)b.gap, (unsigned long long)b.deleted,
                  (unsigned long long)b.ready, (unsigned long long)b.delayed,
                  (unsigned long long)b.in_flight);
    }
}

size_t dispatch_check_books(const struct dispatch *d)
{
    struct checking checking = { 0 };

    for (const struct group_run *run = d->groups; run != NULL;
         run = run->next) {
        checking.run = run;
        group_each_lane(run->group, check_lane, &checking);
    }
    return checking.differences;
}
