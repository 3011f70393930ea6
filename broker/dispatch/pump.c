/* Deliveries: what the groups choose is read from the store, looked into where
 * a group asks for it, and given to the members. */
#include "broker/dispatch/dispatch.h"

#include "broker/dispatch/inside.h"

#include "broker/log.h"

enum {
    GATHER_BYTES = 56 * 1024,   /* so that a frame's header stays short */
    PUMP_GROUP_MESSAGES = 1024, /* one group's share of a turn */
    PUMP_FILTER_BYTES = 64,     /* looked at by a filter count as a message */
    PUMP_ROUNDS = 8,            /* such shares in a turn: at most so many ... */
    PUMP_ROUNDS_NORMAL = 2,     /* ... of which these are kept for groups of */
    PUMP_ROUNDS_LOW = 1,        /* a lower priority that have something */
    LOST_LOOKS = 8192           /* for the end of one gap */
};

/* ---- to the members ---- */

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

/* ---- what the store does not have ---- */

/* The store has lost seq..last: go on behind as much of it as can be told now,
 * and tell the member. */
static void lose(struct dispatch *d, struct group_run *run,
                 const struct offer *offer, uint64_t last)
{
    const struct lane_reader *lane = offer->lane_user;

    last = group_lost(run->group, offer, last);
    if (last < offer->seq) {
        return; /* no memory: it is offered again */
    }
    give_out(d);
    log_error("gap topic=%s group=%s first=%llu last=%llu "
              "reason=\"damaged on disk\"",
              lane->topic_name, run->fact->name, (unsigned long long)offer->seq,
              (unsigned long long)last);
    metric_add(&d->config.metrics->gap_messages, last - offer->seq + 1);
    d->config.out.gap(member_user(offer->member), lane->topic_name,
                      (struct seq_range) { offer->seq, last });
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
 * floor, as may one that was sought: what is missing below was not damaged. But
 * what was there once is lost, and says nothing of those around it. */
static bool skip_absent(struct group_run *run, const struct offer *offer,
                        uint64_t next_seq)
{
    const struct lane_reader *lane = offer->lane_user;
    uint64_t last = lane->absent_below - 1;

    if (next_seq > offer->seq && next_seq <= last) {
        last = next_seq - 1;
    }
    return group_skip(run->group, offer->topic,
                      (struct seq_range) { offer->seq, last })
           == STATUS_OK;
}

/* The store does not have it. False: stop with this group for now. */
static bool miss(struct dispatch *d, struct group_run *run,
                 const struct offer *offer, enum status status,
                 uint64_t next_seq, size_t *budget)
{
    const struct lane_reader *lane = offer->lane_user;
    bool doubtful =
        status == STATUS_NOT_FOUND && offer->seq < lane->absent_below;
    uint64_t last;
    uint64_t looks;

    if (doubtful && !offer->known) {
        return skip_absent(run, offer, next_seq);
    }
    if (may_be_deleted(d, offer)) {
        run->behind = true;
        return false;
    }
    last = doubtful ? offer->seq : lost_until(d, offer, status, next_seq);
    looks = last - offer->seq;
    *budget -= looks < *budget ? (size_t)looks : *budget;
    lose(d, run, offer, last);
    return true;
}

/* ---- one message, one group, one turn ---- */

/* False: stop with this group for now. */
static bool take(struct dispatch *d, struct group_run *run,
                 const struct offer *offer, const struct record *record,
                 uint64_t now_us, size_t *budget)
{
    struct message_facts facts = { .bytes = record->body.len };
    size_t cost = 0;

    if ((record->flags & RECORD_TIMED) != 0 || run->takes_apart) {
        dispatch_facts(d, run, record, now_us, &facts, &cost);
        cost /= PUMP_FILTER_BYTES;
        *budget -= cost < *budget ? cost : *budget;
    }
    switch (group_take(run->group, offer, &facts, now_us)) {
    case TAKE_DELIVERED:
        gather(d, offer, record);
        return true;
    case TAKE_PASSED:
        return true;
    case TAKE_AGAIN:
        break;
    }
    /* The end of a message of any group may make room. */
    list_append(&d->starved, &run->starved);
    return false;
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
        return dispatch_trim(d, lane) == STATUS_OK;
    }
    status = store_view_message(d->view, &lane->cursor, offer->topic,
                                offer->seq, &record, &next_seq);
    if (status == STATUS_OK) {
        return take(d, run, offer, &record, now_us, budget);
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
    dispatch_note_due(d, run);
    return budget == 0 || run->behind;
}

/* ---- all groups ---- */

/* With the looks that trims leave. */
static void end_gone_groups(struct dispatch *d)
{
    if (inflight_has_ended_groups(d->inflight)) {
        inflight_end_some(d->inflight, &d->trim_looks);
        d->room_made = true;
    }
}

/* Each that starved once, some in a turn, for whatever made room. */
static void ask_starved(struct dispatch *d)
{
    struct link *link;

    if (d->room_made && link_is_alone(&d->asked)) {
        d->room_made = false;
        list_take_all(&d->asked, &d->starved);
    }
    for (size_t i = 0;
         i < STARVED_ASKED_TURN && (link = list_first(&d->asked)) != NULL;
         i++) {
        struct group_run *run = container_of(link, struct group_run, starved);

        link_remove(link);
        dispatch_mark_ready(d, run);
    }
}

/* The groups of one priority in turn; those with little to do cost no round.
 * How many rounds it took. */
static size_t pump_priority(struct dispatch *d, struct link *ready,
                            struct link *again, size_t rounds, uint64_t now_us)
{
    size_t left = rounds;
    struct link *link;

    while (left > 0 && (link = list_first(ready)) != NULL) {
        struct group_run *run = container_of(link, struct group_run, ready);

        link_remove(link);
        if (pump_group(d, run, now_us)) {
            list_append(again, link);
            left--;
        }
    }
    return rounds - left;
}

static size_t kept_for(const struct dispatch *d, enum group_priority priority,
                       size_t rounds)
{
    return link_is_alone(&d->ready[priority - PRIORITY_LOW]) ? 0 : rounds;
}

void dispatch_pump(struct dispatch *d, uint64_t now_us)
{
    size_t low = kept_for(d, PRIORITY_LOW, PUMP_ROUNDS_LOW);
    size_t normal = kept_for(d, PRIORITY_NORMAL, PUMP_ROUNDS_NORMAL);
    const size_t kept[PRIORITY_HIGH] = { 0, low, low + normal };
    size_t rounds = PUMP_ROUNDS;

    d->now_us = now_us;
    dispatch_go_on_ending(d);
    dispatch_go_on_trimming(d);
    end_gone_groups(d);
    ask_starved(d);
    for (size_t i = PRIORITY_HIGH; i > 0; i--) {
        struct link *ready = &d->ready[i - 1];
        struct link again;
        struct link *link;

        link_init(&again);
        rounds -= pump_priority(d, ready, &again, rounds - kept[i - 1], now_us);
        while ((link = list_first(&again)) != NULL) {
            link_remove(link);
            list_append(ready, link);
        }
    }
    d->trim_looks = TRIM_LOOKS_TURN; /* of the next turn */
}

bool dispatch_has_more(const struct dispatch *d)
{
    for (size_t i = 0; i < PRIORITY_HIGH; i++) {
        if (!link_is_alone(&d->ready[i])) {
            return true;
        }
    }
    return dispatch_due_us(d) <= d->now_us || !link_is_alone(&d->trimming)
           || !link_is_alone(&d->ending)
           || inflight_has_ended_groups(d->inflight)
           || !link_is_alone(&d->asked)
           || (d->room_made && !link_is_alone(&d->starved));
}
