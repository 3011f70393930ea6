/* Why a message is not given out, and what became of its deliveries. */
#include "broker/dispatch/dispatch.h"

#include "broker/delivery/digest.h"
#include "broker/dispatch/inside.h"
#include "proto/codec.h"

#include <stdlib.h>

/* ---- history ---- */

void dispatch_remember(struct dispatch *d, const struct group_run *run,
                       uint32_t topic, const struct failure *failure,
                       uint64_t wall_us)
{
    struct recent_failure *r;

    if (d->recent == NULL) {
        d->recent = calloc(RECENT_FAILURES, sizeof *d->recent);
    }
    if (d->recent == NULL) {
        return; /* the log has it; it is seen after the next checkpoint */
    }
    r = &d->recent[d->recent_count++ % RECENT_FAILURES];
    *r = (struct recent_failure) {
        .group = run->fact->id,
        .topic = topic,
        .seq = failure->seq,
        .failure = {
            .time_us = wall_us,
            .holder = failure->holder,
            .attempts = failure->attempts,
            .cause = (enum failure_cause)failure->cause,
            .dead = failure->dead,
            .reason_len = (uint16_t)failure->reason.len,
        },
    };
    if (failure->reason.len > 0) {
        memcpy(r->failure.reason, failure->reason.at, failure->reason.len);
    }
}

/* The newest HISTORY_MAX so far. */
struct history {
    struct dispatch_failure *at;
    size_t count;
};

static void append(struct history *h, const struct store_failure *f)
{
    struct dispatch_failure *to;

    if (h->count == HISTORY_MAX) {
        memmove(h->at, h->at + 1, (HISTORY_MAX - 1) * sizeof *h->at);
        h->count--;
    }
    to = &h->at[h->count++];
    *to = (struct dispatch_failure) {
        .time_us = f->time_us,
        .attempt = f->attempts,
        .cause = f->cause,
        .dead = f->dead,
        .holder = f->holder,
    };
    memcpy(to->reason, f->reason, f->reason_len);
}

/* The log's clock and ours are not read at one time: a failure is told by which
 * delivery it was. */
static bool has(const struct history *h, const struct store_failure *f)
{
    for (size_t i = 0; i < h->count; i++) {
        const struct dispatch_failure *known = &h->at[i];

        if (known->attempt == f->attempts && known->holder == f->holder
            && known->cause == f->cause && known->dead == f->dead) {
            return true;
        }
    }
    return false;
}

static void add_recent(const struct dispatch *d, const struct group_run *run,
                       uint32_t topic, uint64_t seq, struct history *h)
{
    uint64_t kept = d->recent == NULL                   ? 0
                    : d->recent_count < RECENT_FAILURES ? d->recent_count
                                                        : RECENT_FAILURES;

    for (uint64_t i = d->recent_count - kept; i < d->recent_count; i++) {
        const struct recent_failure *r = &d->recent[i % RECENT_FAILURES];

        if (r->seq == seq && r->topic == topic && r->group == run->fact->id
            && !has(h, &r->failure)) {
            append(h, &r->failure);
        }
    }
}

size_t dispatch_history(struct dispatch *d, const struct group_run *run,
                        uint32_t topic, uint64_t seq,
                        struct dispatch_failure out[HISTORY_MAX])
{
    struct store_failure stored[HISTORY_MAX];
    struct history h = { .at = out };
    size_t count = 0;

    if (store_view_history(d->view, run->fact->id, topic, seq, stored,
                           HISTORY_MAX, &count)
        != STATUS_OK) {
        count = 0; /* what we remember is better than nothing */
    }
    for (size_t i = 0; i < count; i++) {
        append(&h, &stored[i]);
    }
    add_recent(d, run, topic, seq, &h);
    return h.count;
}

/* ---- where it stands ---- */

static void stand(struct standing *out, enum gate gate)
{
    *out = (struct standing) { .gate = gate };
}

/* Gates in which the group has not looked into the message yet, or settled it
 * for reasons it does not keep. */
static bool reader_knows_more(enum gate gate)
{
    switch (gate) {
    case GATE_NONE:
    case GATE_BEHIND:
    case GATE_PAUSED:
    case GATE_NO_SUBSCRIBER:
    case GATE_NO_CREDIT:
    case GATE_QUOTA:
    case GATE_BREAKER:
        return true;
    case GATE_NOT_TAKEN:
    case GATE_NOT_DURABLE:
    case GATE_NOT_DUE:
    case GATE_EXPIRED:
    case GATE_FILTERED:
    case GATE_KEY_BUSY:
    case GATE_BACKOFF:
    case GATE_LEASED:
    case GATE_DEAD:
    case GATE_ACKED:
    case GATE_SETTLED:
    case GATE_DELETED:
    case GATE_GAP:
        break;
    }
    return false;
}

/* Had its turn come, what then? As group_take() decides it. */
static void look_into(const struct message_facts *facts, uint64_t now_us,
                      struct standing *out)
{
    if (facts->expires_us > 0 && facts->expires_us <= now_us) {
        stand(out, GATE_EXPIRED);
    } else if (facts->filtered) {
        stand(out, GATE_FILTERED);
    } else if (facts->due_us > now_us) {
        stand(out, GATE_NOT_DUE);
        out->until_us = facts->due_us;
    }
}

/* What the log, as of the last checkpoint, says of one that is settled:
 * GATE_SETTLED if it only says that it is. */
static enum gate gate_in_log(struct dispatch *d, const struct group_run *run,
                             uint32_t topic, uint64_t seq)
{
    enum store_settled how;

    if (store_view_settled(d->view, run->fact->id, topic, seq, &how)
        == STATUS_OK) {
        switch (how) {
        case SETTLED_AS_GAP:
            return GATE_GAP;
        case SETTLED_AS_EXPIRED:
            return GATE_EXPIRED;
        case SETTLED_PLAINLY:
            break;
        }
    }
    return GATE_SETTLED;
}

struct looked {
    struct dispatch_explanation *out;
    struct message_facts facts;
    bool read; /* the message is there, and facts are its */
};

/* Of acked, filtered and discarded ones it is known how many there are, not
 * which. So it is one of them if nothing else can be. */
static enum gate settled_gate(struct dispatch *d, const struct group_run *run,
                              uint32_t topic, uint64_t seq,
                              const struct looked *l)
{
    const struct lane_reader *reader = group_lane_user(run->group, topic);
    const struct dispatch_explanation *e = l->out;
    enum gate gate = gate_in_log(d, run, topic, seq);
    bool filter_known = l->read && seq > reader->other_filter_through;
    struct lane_books books;
    bool acked, filtered, discarded;

    if (gate != GATE_SETTLED || !group_books(run->group, topic, &books)) {
        return gate;
    }
    acked = books.acked > 0 && !(filter_known && l->facts.filtered);
    filtered = books.filtered > 0 && (!filter_known || l->facts.filtered);
    discarded =
        seq <= books.discarded_through
        && (e->history_count == 0 || e->history[e->history_count - 1].dead);
    if (acked + filtered + discarded != 1) {
        return GATE_SETTLED;
    }
    return acked ? GATE_ACKED : filtered ? GATE_FILTERED : GATE_DELETED;
}

static void put_on_wall(const struct dispatch *d, struct standing *standing)
{
    if (standing->since_us > 0) {
        standing->since_us = dispatch_to_wall(d, standing->since_us);
    }
    if (standing->until_us > 0) {
        standing->until_us = dispatch_to_wall(d, standing->until_us);
    }
}

static void explain(struct dispatch *d, struct group_run *run,
                    const struct topic *topic, uint64_t seq, uint64_t now_us,
                    struct dispatch_explanation *e)
{
    const struct topic_state *state = topic->user;
    struct looked l = { .out = e };
    struct standing *out = &e->standing;
    struct store_cursor cursor = { 0 };
    struct record record;
    size_t cost;

    e->history_count = dispatch_history(d, run, topic->id, seq, e->history);
    l.read = store_view_message(d->view, &cursor, topic->id, seq, &record, NULL)
             == STATUS_OK;
    if (l.read) {
        dispatch_facts(d, run, &record, now_us, &l.facts, &cost);
    }
    group_explain(run->group, topic->id, seq, l.facts.key_hash, now_us, out);
    if (out->gate == GATE_ACKED) {
        stand(out, settled_gate(d, run, topic->id, seq, &l));
    } else if (reader_knows_more(out->gate) && l.read) {
        look_into(&l.facts, now_us, out);
    } else if (reader_knows_more(out->gate) && seq < state->first_seq) {
        stand(out, GATE_DELETED);
    }
    put_on_wall(d, out);
}

enum status dispatch_explain(struct dispatch *d, const struct group_fact *group,
                             const struct topic *topic, uint64_t seq,
                             uint64_t now_us, struct dispatch_explanation *out)
{
    struct group_run *run = dispatch_run(group);
    const struct topic_state *state = topic->user;

    if (seq == 0 || state == NULL) {
        return STATUS_NOT_FOUND;
    }
    *out = (struct dispatch_explanation) { 0 };
    if (group_lane_user(run->group, topic->id) == NULL) {
        stand(&out->standing, GATE_NOT_TAKEN);
    } else if (seq > state->last_seq) {
        stand(&out->standing, GATE_NOT_DURABLE);
    } else {
        explain(d, run, topic, seq, now_us, out);
    }
    return STATUS_OK;
}

bool dispatch_held_by(struct dispatch *d, const struct group_fact *group,
                      uint64_t now_us, struct standing *out)
{
    if (group->user == NULL) {
        return false;
    }
    group_held_by(dispatch_run(group)->group, now_us, out);
    put_on_wall(d, out);
    return true;
}
