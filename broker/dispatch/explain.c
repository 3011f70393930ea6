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

static bool alike(const struct store_failure *a, const struct store_failure *b)
{
    return a->attempts == b->attempts && a->holder == b->holder
           && a->cause == b->cause && a->dead == b->dead;
}

/* The recent failures of one message, in the order of the log. */
struct recent_walk {
    const struct dispatch *d;
    uint32_t group;
    uint32_t topic;
    uint64_t seq;
    uint64_t at; /* as recent_count */
};

static struct recent_walk recent_of(const struct dispatch *d, uint32_t group,
                                    uint32_t topic, uint64_t seq)
{
    uint64_t kept = d->recent == NULL                   ? 0
                    : d->recent_count < RECENT_FAILURES ? d->recent_count
                                                        : RECENT_FAILURES;

    return (struct recent_walk) { d, group, topic, seq,
                                  d->recent_count - kept };
}

static const struct store_failure *next_recent(struct recent_walk *w)
{
    while (w->at < w->d->recent_count) {
        const struct recent_failure *r =
            &w->d->recent[w->at++ % RECENT_FAILURES];

        if (r->seq == w->seq && r->topic == w->topic && r->group == w->group) {
            return &r->failure;
        }
    }
    return NULL;
}

/* Walks over those that the checkpoint has: up to the one that is its last. The
 * log's clock and ours are not read at one time, and after a redrive attempts
 * begin at 1 again: of those that look alike it is the nearest in time. */
static void skip_stored(struct recent_walk *w, const struct store_failure *last)
{
    struct recent_walk look = *w;
    uint64_t nearest_us = UINT64_MAX;
    const struct store_failure *f;

    while ((f = next_recent(&look)) != NULL) {
        uint64_t apart_us = f->time_us > last->time_us
                                ? f->time_us - last->time_us
                                : last->time_us - f->time_us;

        if (alike(f, last) && apart_us < nearest_us) {
            nearest_us = apart_us;
            w->at = look.at;
        }
    }
}

size_t dispatch_history(struct dispatch *d, const struct group_run *run,
                        uint32_t topic, uint64_t seq,
                        struct dispatch_failure out[HISTORY_MAX])
{
    struct store_failure stored[HISTORY_MAX];
    struct recent_walk recent = recent_of(d, run->fact->id, topic, seq);
    const struct store_failure *failure;
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
    if (count > 0) {
        skip_stored(&recent, &stored[count - 1]);
    }
    while ((failure = next_recent(&recent)) != NULL) {
        append(&h, failure);
    }
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

struct looked {
    struct dispatch_explanation *out;
    struct message_facts facts;
    bool read; /* the message is there, and facts are its */
};

/* The only one of `gates`, or that it is settled and may be any of them. */
static enum gate one_of(unsigned gates, struct dispatch_explanation *out)
{
    for (unsigned gate = 0; gate < GATES; gate++) {
        if (gates == 1U << gate) {
            return (enum gate)gate;
        }
    }
    out->may_be = gates;
    return GATE_SETTLED;
}

/* Of acked, filtered and discarded ones it is known how many there are, not
 * which. So it is one of them if nothing else can be. */
static unsigned settled_plainly(const struct lane_reader *reader, uint64_t seq,
                                const struct looked *l,
                                const struct lane_books *books)
{
    const struct dispatch_explanation *e = l->out;
    bool filter_known = l->read && seq > reader->other_filter_through;
    bool acked = books->acked > 0 && !(filter_known && l->facts.filtered);
    bool filtered = books->filtered > 0 && (!filter_known || l->facts.filtered);
    bool discarded =
        seq <= books->discarded_through
        && (e->history_count == 0 || e->history[e->history_count - 1].dead);

    return (unsigned)acked << GATE_ACKED | (unsigned)filtered << GATE_FILTERED
           | (unsigned)discarded << GATE_DELETED;
}

/* Since the last checkpoint: then it may have expired or be lost, too. */
static unsigned settled_since(const struct looked *l, uint64_t now_us,
                              const struct lane_books *books)
{
    bool over = l->facts.expires_us > 0 && l->facts.expires_us <= now_us;
    bool expired = books->expired > 0 && (!l->read || over);
    bool gap = books->gap > 0 && !l->read;

    return (unsigned)expired << GATE_EXPIRED | (unsigned)gap << GATE_GAP;
}

static enum gate settled_gate(struct dispatch *d, const struct group_run *run,
                              uint32_t topic, uint64_t seq, uint64_t now_us,
                              const struct looked *l)
{
    const struct lane_reader *reader = group_lane_user(run->group, topic);
    enum store_settled how = SETTLED_SINCE;
    struct lane_books books;

    if (store_view_settled(d->view, run->fact->id, topic, seq, &how)
        != STATUS_OK) {
        how = SETTLED_SINCE; /* what we remember is better than nothing */
    }
    if (how == SETTLED_PLAINLY && reader != NULL && reader->sought != 0) {
        how = SETTLED_SINCE; /* perhaps before the seek, and anew since */
    }
    if (how == SETTLED_AS_GAP || how == SETTLED_AS_EXPIRED) {
        return how == SETTLED_AS_GAP ? GATE_GAP : GATE_EXPIRED;
    }
    if (reader == NULL || !group_books(run->group, topic, &books)) {
        return GATE_SETTLED;
    }
    return one_of(
        settled_plainly(reader, seq, l, &books)
            | (how == SETTLED_SINCE ? settled_since(l, now_us, &books) : 0),
        l->out);
}

/* What holds the group may have begun before there was the message. */
static void not_before(struct standing *standing, uint64_t stored_us)
{
    if (standing->since_us > 0 && standing->since_us < stored_us) {
        standing->since_us = stored_us;
    }
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
    uint64_t stored_us = 0;
    size_t cost;

    e->history_count = dispatch_history(d, run, topic->id, seq, e->history);
    l.read = store_view_message(d->view, &cursor, topic->id, seq, &record, NULL)
             == STATUS_OK;
    if (l.read) {
        stored_us = record.time_us;
        dispatch_facts(d, run, &record, now_us, &l.facts, &cost);
    }
    group_explain(run->group, topic->id, seq, l.facts.key_hash, now_us, out);
    if (out->gate == GATE_ACKED) {
        stand(out, settled_gate(d, run, topic->id, seq, now_us, &l));
    } else if (reader_knows_more(out->gate) && l.read) {
        look_into(&l.facts, now_us, out);
    } else if (reader_knows_more(out->gate) && seq < state->first_seq) {
        stand(out, GATE_DELETED);
    }
    put_on_wall(d, out);
    not_before(out, stored_us);
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
