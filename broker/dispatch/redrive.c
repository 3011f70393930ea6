/* Redrive jobs: dead messages become ready again, in bits between other work,
 * so that a million of them hold nobody up. A job walks its topics once,
 * upwards; what dies again behind it stays dead. */
#include "broker/dispatch/dispatch.h"

#include "broker/dispatch/inside.h"
#include "proto/codec.h"

#include <stdlib.h>

enum {
    LOOKS = 1024,             /* messages, or places without any, in one bit */
    LOOKS_DEEP = 128,         /* of which the history or the message is read */
    LOOK_FILTER_BYTES = 2048, /* that a filter looks at count as a message */
    RATE_BITS = 20,           /* a second, when there is a rate */
    NO_ROOM_WAIT_US = 100000, /* until there is room in the in-flight table */
};

struct redriven {
    uint32_t topic;
    struct seq_range range;
};

struct redrive {
    struct redrive_order order; /* its topic is not looked at any more */
    struct redrive_state state;
    uint32_t *topics;
    size_t topic_count;
    size_t topic_at;
    uint64_t seq; /* of that topic, where to go on */
    uint64_t due_us;
    struct redriven *undo; /* the last REDRIVE_UNDO_MAX, a ring when full */
    size_t undo_count;     /* of all so far */
    size_t undo_capacity;
    bool undoing; /* in bits: the next one is of ... */
    size_t undo_at;
    uint64_t undo_seq; /* ... from here on */
};

static void redrive_free(struct redrive *r)
{
    if (r != NULL) {
        seqset_fini(&r->order.ranges);
        filter_free(r->order.filter);
        free(r->topics);
        free(r->undo);
        free(r);
    }
}

void dispatch_redrive_free(struct group_run *run)
{
    redrive_free(run->redrive);
    run->redrive = NULL;
}

uint64_t dispatch_redrive_due_us(const struct group_run *run)
{
    const struct redrive *r = run->redrive;

    return r == NULL || !r->state.running ? UINT64_MAX : r->due_us;
}

/* ---- what can be undone ---- */

static void grow_undo(struct redrive *r)
{
    size_t capacity = r->undo_capacity == 0 ? 64 : r->undo_capacity * 2;
    struct redriven *undo;

    if (capacity > REDRIVE_UNDO_MAX) {
        capacity = REDRIVE_UNDO_MAX;
    }
    undo = realloc(r->undo, capacity * sizeof *undo);
    if (undo != NULL) {
        r->undo = undo;
        r->undo_capacity = capacity;
    }
}

/* Without memory the oldest is forgotten earlier. */
static void note_redriven(struct redrive *r, uint32_t topic,
                          struct seq_range range)
{
    struct redriven *last = NULL;

    if (r->undo != NULL && r->undo_count > 0) {
        last = &r->undo[(r->undo_count - 1) % r->undo_capacity];
    }
    if (last != NULL && last->topic == topic
        && last->range.last + 1 == range.first) {
        last->range.last = range.last;
        return;
    }
    if (r->undo_count == r->undo_capacity
        && r->undo_capacity < REDRIVE_UNDO_MAX) {
        grow_undo(r);
    }
    if (r->undo != NULL) {
        r->undo[r->undo_count % r->undo_capacity] =
            (struct redriven) { topic, range };
        r->undo_count++;
    }
}

/* ---- what comes next ---- */

/* The first stretch of `ranges` at or above `seq`; false: none. */
static bool wanted_from(const struct seqset *ranges, uint64_t seq,
                        struct seq_range *out)
{
    const struct seq_range *at = seqset_ranges(ranges);

    for (size_t i = 0; i < seqset_range_count(ranges); i++) {
        if (at[i].last >= seq) {
            *out = at[i];
            if (out->first < seq) {
                out->first = seq;
            }
            return true;
        }
    }
    return false;
}

static void next_topic(struct redrive *r)
{
    r->topic_at++;
    r->seq = 1;
}

/* A stretch of dead messages that are asked for, at r->seq or above in the
 * present topic. False: not here; the place was moved on. */
static bool find_dead(const struct group_run *run, struct redrive *r,
                      struct seq_range *out)
{
    struct seq_range wanted = { r->seq, UINT64_MAX };

    if ((seqset_range_count(&r->order.ranges) > 0
         && !wanted_from(&r->order.ranges, r->seq, &wanted))
        || group_dead(run->group, r->topics[r->topic_at], wanted.first, out, 1)
               == 0) {
        next_topic(r);
        return false;
    }
    if (out->first < wanted.first) {
        out->first = wanted.first;
    }
    if (out->first > wanted.last) {
        r->seq = out->first;
        return false;
    }
    if (out->last > wanted.last) {
        out->last = wanted.last;
    }
    return true;
}

static bool is_deep(const struct redrive *r)
{
    return r->order.cause != 0 || r->order.filter != NULL;
}

static bool passes(struct dispatch *d, const struct group_run *run,
                   const struct redrive *r, uint32_t topic, uint64_t seq,
                   size_t *filter_cost)
{
    struct dispatch_failure history[HISTORY_MAX];
    struct store_cursor cursor = { 0 };
    struct record record;
    struct wire_message message;
    struct refusal refusal;

    if (r->order.cause != 0) {
        size_t known = dispatch_history(d, run, topic, seq, history);

        if (known == 0 || history[known - 1].cause != r->order.cause) {
            return false;
        }
    }
    return r->order.filter == NULL
           || (store_view_message(d->view, &cursor, topic, seq, &record, NULL)
                   == STATUS_OK
               && codec_message_check(record.body, &message, &refusal)
                      == STATUS_OK
               && filter_match_cost(r->order.filter, &message, filter_cost));
}

/* ---- a bit of it ---- */

static void finish(struct redrive *r)
{
    r->state.running = false;
    seqset_fini(&r->order.ranges);
    filter_free(r->order.filter);
    r->order.filter = NULL;
}

/* False: no room or memory for now. */
static bool redrive_range(struct group_run *run, struct redrive *r,
                          struct seq_range range, uint64_t now_us)
{
    uint32_t topic = r->topics[r->topic_at];
    uint64_t count = 0;
    uint64_t next = range.first;
    enum status status;

    if (r->order.dry_run) {
        r->state.matched += range.last - range.first + 1;
        r->seq = range.last + 1;
        return true;
    }
    status = group_redrive(run->group, topic, range, now_us, &count, &next);
    if (status == STATUS_OK) {
        next = range.last + 1;
    }
    r->state.matched += count;
    r->state.redriven += count;
    r->seq = next;
    if (count > 0) {
        note_redriven(r, topic, (struct seq_range) { range.first, next - 1 });
    }
    return status == STATUS_OK;
}

/* Of `looks` those that the cap and the rate allow. */
static uint64_t allowed(const struct redrive *r, uint64_t looks)
{
    uint64_t part = r->order.rate / RATE_BITS;
    uint64_t left = r->order.cap - r->state.matched;

    if (r->order.rate > 0 && !r->order.dry_run && looks > part) {
        looks = part > 0 ? part : 1;
    }
    return r->order.cap > 0 && looks > left ? left : looks;
}

static bool at_its_end(const struct redrive *r)
{
    return r->topic_at == r->topic_count
           || (r->order.cap > 0 && r->state.matched >= r->order.cap);
}

/* Look at a stretch of dead ones: at one if it is looked into, else at as many
 * as are allowed. What that cost, in messages; 0: no room. */
static uint64_t look_at(struct dispatch *d, struct group_run *run,
                        struct redrive *r, struct seq_range range,
                        uint64_t most, uint64_t now_us)
{
    size_t cost = 0;

    if (is_deep(r)) {
        range.last = range.first;
        if (!passes(d, run, r, r->topics[r->topic_at], range.first, &cost)) {
            r->seq = range.first + 1;
            return 1 + cost / LOOK_FILTER_BYTES;
        }
    } else if (range.last - range.first >= most) {
        range.last = range.first + most - 1;
    }
    return redrive_range(run, r, range, now_us)
               ? range.last - range.first + 1 + cost / LOOK_FILTER_BYTES
               : 0;
}

/* When to go on: the rate goes by how many were redriven, whatever it took to
 * find them. */
static uint64_t next_due(const struct redrive *r, uint64_t before,
                         uint64_t now_us)
{
    uint64_t done = r->state.redriven - before;

    return r->order.rate == 0 || r->order.dry_run
               ? now_us
               : now_us + done * 1000000 / r->order.rate;
}

void dispatch_redrive_go_on(struct dispatch *d, struct group_run *run,
                            uint64_t now_us)
{
    struct redrive *r = run->redrive;
    uint64_t before = r->state.redriven;
    uint64_t looks = is_deep(r) ? LOOKS_DEEP : LOOKS;
    uint64_t most = allowed(r, looks);

    while (looks > 0 && !at_its_end(r) && r->state.redriven - before < most) {
        struct seq_range range;
        uint64_t looked = 1;

        if (find_dead(run, r, &range)) {
            uint64_t left = most - (r->state.redriven - before);

            looked =
                look_at(d, run, r, range, left < looks ? left : looks, now_us);
        }
        if (looked == 0) {
            r->due_us = now_us + NO_ROOM_WAIT_US;
            return;
        }
        looks -= looked < looks ? looked : looks;
    }
    r->due_us = next_due(r, before, now_us);
    if (at_its_end(r)) {
        finish(r);
    }
}

/* ---- beginning, stopping, undoing ---- */

struct collecting {
    struct redrive *redrive;
    size_t capacity;
    bool failed;
};

static void collect(void *arg, uint32_t topic, void *user)
{
    struct collecting *c = arg;
    struct redrive *r = c->redrive;

    (void)user;
    if (r->topic_count == c->capacity) {
        size_t capacity = c->capacity * 2 + 16;
        uint32_t *topics = realloc(r->topics, capacity * sizeof *topics);

        if (topics == NULL) {
            c->failed = true;
            return;
        }
        r->topics = topics;
        c->capacity = capacity;
    }
    r->topics[r->topic_count++] = topic;
}

static struct redrive *redrive_new(struct group_run *run,
                                   const struct redrive_order *order)
{
    struct redrive *r = calloc(1, sizeof *r);
    struct collecting collecting = { .redrive = r };

    if (r == NULL) {
        return NULL;
    }
    r->seq = 1;
    r->state =
        (struct redrive_state) { .running = true, .dry_run = order->dry_run };
    if (order->topic != NULL) {
        collect(&collecting, order->topic->id, NULL);
    } else {
        group_each_lane(run->group, collect, &collecting);
    }
    if (collecting.failed) {
        redrive_free(r);
        return NULL;
    }
    r->order = *order;
    r->order.topic = NULL;
    return r;
}

static void drop_order(struct redrive_order *order)
{
    seqset_fini(&order->ranges);
    filter_free(order->filter);
}

enum status dispatch_redrive(struct dispatch *d, const struct group_fact *group,
                             const struct redrive_order *order, uint64_t now_us)
{
    struct group_run *run = dispatch_run(group);
    struct redrive_order taken = *order;
    struct redrive *r;

    if (run->redrive != NULL
        && (run->redrive->state.running || run->redrive->undoing)) {
        drop_order(&taken);
        return STATUS_BUSY;
    }
    r = redrive_new(run, &taken);
    if (r == NULL) {
        drop_order(&taken);
        return STATUS_NOMEM;
    }
    dispatch_redrive_free(run);
    run->redrive = r;
    dispatch_redrive_go_on(d, run, now_us);
    dispatch_touched(d, run);
    return STATUS_OK;
}

void dispatch_redrive_stop(struct dispatch *d, const struct group_fact *group)
{
    struct redrive *r = dispatch_run(group)->redrive;

    (void)d;
    if (r != NULL && r->state.running) {
        r->state.stopped = true;
        finish(r);
    }
}

static size_t undo_kept(const struct redrive *r)
{
    return r->undo_count < r->undo_capacity ? r->undo_count : r->undo_capacity;
}

/* Where it stopped is noted: it goes on there. */
static enum status undo_one(struct group_run *run, struct redrive *r,
                            const struct redriven *one, size_t *budget,
                            uint64_t *undone)
{
    struct seq_range range = one->range;
    uint64_t count = 0;
    uint64_t next = 0;
    enum status status;

    if (r->undoing && r->undo_seq > range.first) {
        range.first = r->undo_seq;
    }
    r->undoing = false;
    status = group_bury(run->group, one->topic, range, budget, &next, &count);
    r->undo_seq = next;
    *undone += count;
    return status;
}

enum status dispatch_redrive_undo(struct dispatch *d,
                                  const struct group_fact *group,
                                  size_t *budget, uint64_t *undone)
{
    struct group_run *run = dispatch_run(group);
    struct redrive *r = run->redrive;
    enum status status = STATUS_OK;

    *undone = 0;
    if (r == NULL || r->state.dry_run) {
        return STATUS_NOT_FOUND;
    }
    if (r->state.running) {
        return STATUS_BUSY;
    }
    for (; status == STATUS_OK && r->undo_at < undo_kept(r); r->undo_at++) {
        status = undo_one(run, r, &r->undo[r->undo_at], budget, undone);
        if (status != STATUS_OK) {
            break;
        }
    }
    r->undoing = status == STATUS_AGAIN;
    if (!r->undoing) {
        r->undo_at = 0;
    }
    r->state.undone += *undone;
    dispatch_touched(d, run);
    return status;
}

bool dispatch_redrive_state(const struct group_fact *group,
                            struct redrive_state *out)
{
    if (group->user == NULL || dispatch_run(group)->redrive == NULL) {
        return false;
    }
    *out = dispatch_run(group)->redrive->state;
    return true;
}
