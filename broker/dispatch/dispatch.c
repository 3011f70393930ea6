/* The way of a message here:
 *
 * - dispatch_commit(): a batch is durable; each run extends its topic's lanes
 *   and puts their groups on the ready list.
 * - dispatch_pump(): ready groups in turn; group_next() says who gets what, the
 *   store gives the message, deliveries are gathered for each member and topic
 *   and given out together.
 * - dispatch_settle(): outcomes; what must survive is an effect of the group.
 * - dispatch_log(): effects become records in the submission ring.
 * - dispatch_tick(): what became due: ends of leases and of delays. */
#include "broker/dispatch/dispatch.h"

#include "broker/dispatch/inside.h"

#include "broker/log.h"

#include <stdlib.h>

enum {
    TICK_MOVES = 4096, /* of all groups, in one call */
    TICK_COST = 64     /* of a group with little to do */
};

/* ---- lists ---- */

void dispatch_mark_ready(struct dispatch *d, struct group_run *run)
{
    enum group_priority priority = run->fact->options.priority;

    list_append(&d->ready[priority - PRIORITY_LOW], &run->ready);
}

void dispatch_mark_changed(struct dispatch *d, struct group_run *run)
{
    if (link_is_alone(&run->changed) && group_has_effects(run->group)) {
        list_append(&d->changed, &run->changed);
    }
}

/* Something about the group moved: see what follows from it. */
void dispatch_touched(struct dispatch *d, struct group_run *run)
{
    dispatch_mark_ready(d, run);
    dispatch_mark_changed(d, run);
    dispatch_note_due(d, run);
    d->room_made = true;
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

void dispatch_count(struct dispatch *d, struct group_run *run)
{
    struct worker_metrics *m = d->config.metrics;
    struct group_figures f;

    group_figures(run->group, &f);
    metric_add(&m->deleted_messages, f.deleted - run->told.deleted);
    metric_add(&m->expired_messages, f.expired - run->told.expired);
    metric_add(&m->filtered_messages, f.filtered - run->told.filtered);
    metric_add(&m->died_messages, f.died - run->told.died);
    metric_add(&m->redriven_messages, f.redriven - run->told.redriven);
    run->told = f;
}

/* While the log has not heard of a seek, the keeper does not know either that
 * the messages are owed again, and may delete some. */
static void note_floor(const struct dispatch *d, struct lane_reader *lane)
{
    if (lane->sought > d->durable
        && lane->absent_below < lane->topic->floor_seq) {
        lane->absent_below = lane->topic->floor_seq;
    }
}

/* Without memory some of it is ready still: the pump asks once more before it
 * gives any. */
enum status dispatch_trim(struct dispatch *d, struct lane_reader *lane)
{
    enum status status = group_trim(lane->run->group, lane->topic->id,
                                    lane->topic->first_seq, &d->trim_looks);

    if (status == STATUS_AGAIN) {
        list_append(&d->trimming, &lane->trimming);
    } else {
        link_remove(&lane->trimming);
    }
    dispatch_count(d, lane->run);
    return status;
}

static void trim_lane(struct dispatch *d, struct lane_reader *lane)
{
    (void)!dispatch_trim(d, lane);
    dispatch_touched(d, lane->run);
}

void dispatch_go_on_trimming(struct dispatch *d)
{
    struct link *first;

    while (d->trim_looks > 0 && (first = list_first(&d->trimming)) != NULL) {
        trim_lane(d, container_of(first, struct lane_reader, trimming));
    }
}

/* The topic keeps less. */
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
        for (struct lane_reader *lane = state->lanes; lane != NULL;
             lane = lane->next) {
            note_floor(d, lane);
        }
    }
    if (trim->first_seq <= state->first_seq) {
        return;
    }
    state->first_seq = trim->first_seq;
    for (struct lane_reader *lane = state->lanes; lane != NULL;
         lane = lane->next) {
        trim_lane(d, lane);
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

void dispatch_durable(struct dispatch *d, uint64_t position)
{
    d->durable = position;
}

void dispatch_rest(struct dispatch *d)
{
    store_view_rest(d->view);
}

/* ---- what is due: a heap of groups ----
 *
 * A group's key is never later than what it is due, but may be earlier: most
 * acks move the next lease end a bit, and only what comes nearer needs a look
 * at once. The rest is put right when the key's time has come. */

static void put_due(struct dispatch *d, size_t at, struct group_run *run)
{
    d->due[at] = run;
    run->due_index = at;
}

static void sift_up(struct dispatch *d, size_t at)
{
    struct group_run *run = d->due[at];

    while (at > 0 && d->due[(at - 1) / 2]->due_us > run->due_us) {
        put_due(d, at, d->due[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    put_due(d, at, run);
}

static void sift_down(struct dispatch *d, size_t at)
{
    struct group_run *run = d->due[at];

    for (;;) {
        size_t child = at * 2 + 1;

        if (child + 1 < d->due_count
            && d->due[child + 1]->due_us < d->due[child]->due_us) {
            child++;
        }
        if (child >= d->due_count || d->due[child]->due_us >= run->due_us) {
            break;
        }
        put_due(d, at, d->due[child]);
        at = child;
    }
    put_due(d, at, run);
}

enum status dispatch_reserve_due(struct dispatch *d)
{
    size_t capacity = d->due_capacity * 2 + 16;
    struct group_run **due;

    if (d->group_count < d->due_capacity) {
        return STATUS_OK;
    }
    due = realloc(d->due, capacity * sizeof(struct group_run *));
    if (due == NULL) {
        return STATUS_NOMEM;
    }
    d->due = due;
    d->due_capacity = capacity;
    return STATUS_OK;
}

static uint64_t due_of(const struct group_run *run)
{
    uint64_t due = group_due_us(run->group);
    uint64_t redrive =
        run->redrive == NULL ? UINT64_MAX : dispatch_redrive_due_us(run);

    return redrive < due ? redrive : due;
}

void dispatch_note_due(struct dispatch *d, struct group_run *run)
{
    uint64_t due = due_of(run);

    if (due >= run->due_us) {
        return;
    }
    if (run->due_us == UINT64_MAX) {
        CHECK(d->due_count < d->due_capacity);
        run->due_index = d->due_count;
        d->due[d->due_count++] = run;
    }
    run->due_us = due;
    sift_up(d, run->due_index);
}

void dispatch_forget_due(struct dispatch *d, struct group_run *run)
{
    size_t at = run->due_index;

    if (run->due_us == UINT64_MAX) {
        return;
    }
    run->due_us = UINT64_MAX;
    d->due_count--;
    if (at < d->due_count) {
        put_due(d, at, d->due[d->due_count]);
        sift_up(d, at);
        sift_down(d, d->due[at]->due_index);
    }
}

/* Notices of one member and topic, as long as they follow each other. */
struct noticing {
    struct dispatch *dispatch;
    uint64_t now_us;
    void *member; /* NULL: nothing gathered */
    const char *topic_name;
    struct seq_range range;
    uint64_t ends_us; /* of the first to end */
};

static void tell_notice(struct noticing *n)
{
    uint64_t left_us = n->ends_us > n->now_us ? n->ends_us - n->now_us : 0;

    if (n->member != NULL) {
        n->dispatch->config.out.notice(n->member, n->topic_name, n->range,
                                       left_us / 1000);
    }
    n->member = NULL;
}

static void on_notice(void *arg, const struct notice *notice)
{
    struct noticing *n = arg;
    const struct lane_reader *lane = notice->lane_user;
    void *member = member_user(notice->member);

    if (member == n->member && lane->topic_name == n->topic_name
        && notice->seq == n->range.last + 1) {
        n->range.last = notice->seq;
        if (notice->ends_us < n->ends_us) {
            n->ends_us = notice->ends_us;
        }
        return;
    }
    tell_notice(n);
    n->member = member;
    n->topic_name = lane->topic_name;
    n->range = (struct seq_range) { notice->seq, notice->seq };
    n->ends_us = notice->ends_us;
}

/* What this costs of `budget`. */
static size_t tick_group(struct dispatch *d, struct group_run *run,
                         uint64_t now_us, size_t budget)
{
    struct noticing noticing = { .dispatch = d, .now_us = now_us };
    bool more = false;

    if (group_due_us(run->group) <= now_us) {
        more = group_tick(run->group, now_us, budget, on_notice, &noticing);
        tell_notice(&noticing);
    }
    if (dispatch_redrive_due_us(run) <= now_us) {
        dispatch_redrive_go_on(d, run, now_us);
    }
    return more ? budget : TICK_COST;
}

void dispatch_tick(struct dispatch *d, uint64_t now_us)
{
    size_t left = TICK_MOVES;

    d->now_us = now_us;
    while (left > 0 && d->due_count > 0 && d->due[0]->due_us <= now_us) {
        struct group_run *run = d->due[0];
        size_t cost;

        dispatch_forget_due(d, run);
        cost = tick_group(d, run, now_us, left);
        left -= cost < left ? cost : left;
        dispatch_touched(d, run);
    }
}

uint64_t dispatch_due_us(const struct dispatch *d)
{
    return d->due_count == 0 ? UINT64_MAX : d->due[0]->due_us;
}

/* ---- members ---- */

struct group_run *dispatch_run(const struct group_fact *group)
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
        uint32_t capacity = run->member_capacity * 2 + 4;
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
    struct group_run *run = dispatch_run(group);
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
    dispatch_touched(d, dispatch_run(group));
}

void dispatch_resume(struct dispatch *d, const struct group_fact *group,
                     struct member *member)
{
    member_pause(member, false);
    dispatch_touched(d, dispatch_run(group));
}

void dispatch_leave(struct dispatch *d, const struct group_fact *group,
                    struct member *member)
{
    struct group_run *run = dispatch_run(group);

    dispatch_forget_member(run, member);
    group_leave(run->group, member, d->now_us);
    dispatch_touched(d, run);
}

void dispatch_detach(struct dispatch *d, const struct group_fact *group,
                     struct member *member)
{
    struct group_run *run = dispatch_run(group);

    dispatch_forget_member(run, member);
    group_detach(run->group, member, d->now_us);
    dispatch_touched(d, run);
}

void dispatch_retire(struct dispatch *d, const struct group_fact *group,
                     struct member *member)
{
    struct group_run *run = dispatch_run(group);

    dispatch_forget_member(run, member);
    group_retire(run->group, member);
    dispatch_touched(d, run);
}

enum status dispatch_settle(struct dispatch *d, const struct group_fact *group,
                            const struct settlement *settlement,
                            uint64_t now_us, size_t *budget, uint64_t *next,
                            settled_fn fn, void *arg)
{
    struct group_run *run = dispatch_run(group);
    enum status status =
        budget == NULL ? group_settle(run->group, settlement, now_us, fn, arg)
                       : group_settle_some(run->group, settlement, now_us,
                                           budget, next, fn, arg);

    dispatch_touched(d, run);
    return status;
}
