/* What subscribers say of deliveries, and what the broker answers. */
#include "test/history/inside.h"

enum action {
    ACTION_NONE,
    ACTION_ACK,
    ACTION_NACK,
    ACTION_RELEASE,
    ACTION_EXTEND,
    ACTION_REJECT
};

static enum action action_of(const struct field *field)
{
    return field_is(field, "ack")       ? ACTION_ACK
           : field_is(field, "nack")    ? ACTION_NACK
           : field_is(field, "release") ? ACTION_RELEASE
           : field_is(field, "extend")  ? ACTION_EXTEND
           : field_is(field, "reject")  ? ACTION_REJECT
                                        : ACTION_NONE;
}

/* A range of a lane in one file. */
struct stretch {
    uint32_t session, lane;
    uint64_t first, last;
};

static bool read_stretch(struct history *h, size_t topic_index,
                         struct stretch *out)
{
    uint32_t topic_name;
    const struct topic *topic = get_topic(h, topic_index, &topic_name);

    out->session = get_session(h);
    if (out->session == 0 || topic == NULL
        || !get_range(h, topic, topic_index + 1, &out->first, &out->last)) {
        return false;
    }
    out->lane = get_lane(h, h->sessions[out->session].group, topic_name);
    return out->lane != 0;
}

static uint64_t *pending_of(struct history *h, uint32_t lane, uint64_t seq)
{
    return table_find(&h->pending, pending_key(h->event.file, lane, seq));
}

static void note(struct history *h, const struct stretch *at, uint64_t seq,
                 enum action action, uint64_t delay_us)
{
    struct copy *c = copy_at(h, at->lane, seq);
    bool holds =
        c->session != 0 && h->sessions[c->session].file == h->event.file;

    if (action == ACTION_ACK) {
        c->maybe++;
    } else if (holds && action == ACTION_NACK) {
        c->nacked = 1;
    } else if (holds && action == ACTION_REJECT) {
        c->rejecting = 1;
    } else if (holds && action == ACTION_RELEASE) {
        c->released = 1;
    } else if (holds) {
        c->asked_until_us = h->event.us + delay_us;
    }
}

/* S ACTION TOPIC FIRST LAST [DELAY_US] */
void on_settle(struct history *h)
{
    enum action action = action_of(&h->event.fields[1]);
    struct stretch at;
    uint64_t delay_us = 0;

    if (!read_stretch(h, 2, &at)
        || (h->event.count > 5 && !get_number(h, 5, &delay_us))) {
        return;
    }
    if (action == ACTION_NONE || h->sessions[at.session].ended_us != 0) {
        fault(h, RULE_LEDGER, "no such action, or the session has ended");
        return;
    }
    for (uint64_t seq = at.first; seq <= at.last; seq++) {
        uint64_t *pending = pending_of(h, at.lane, seq);
        if (pending == NULL || (*pending & ~PENDING_MIXED) < PENDING_GOT) {
            fault(h, RULE_LEDGER,
                  "%llu was not delivered to this client, or "
                  "was settled before",
                  (unsigned long long)seq);
            continue;
        }
        *pending -= action == ACTION_EXTEND ? 0 : PENDING_GOT;
        *pending += action == ACTION_ACK ? PENDING_ACK : PENDING_OTHER;
        this_file(h)->pending++;
        note(h, &at, seq, action, delay_us);
    }
}

enum outcome { OUTCOME_ACCEPTED, OUTCOME_NEGATIVE, OUTCOME_UNSURE };

static void acked(struct history *h, struct copy *c, enum outcome outcome)
{
    if (outcome == OUTCOME_UNSURE) {
        return;
    }
    c->maybe--;
    if (outcome == OUTCOME_NEGATIVE || c->acked_us != 0) {
        return;
    }
    if (c->dead || c->expired) {
        fault(h, RULE_DEAD, "an ack of what is dead or expired was accepted");
    }
    c->acked_us = h->event.us;
    c->acked_file = h->event.file;
    h->figures.acked++;
}

/* Of a nack, release, extension or rejection. */
static void given_back(struct history *h, struct copy *c, uint32_t session,
                       enum outcome outcome)
{
    if (outcome != OUTCOME_ACCEPTED || c->session != session) {
        return;
    }
    if (c->nacked) {
        c->attempt_min = c->attempt + 1;
    }
    if (c->rejecting && c->acked_us == 0) {
        c->rejected = 1;
        c->rejected_us = h->event.us;
    }
    if (c->asked_until_us > c->held_until_us) {
        c->held_until_us = c->asked_until_us;
    }
}

static void answer(struct history *h, const struct stretch *at, uint64_t seq,
                   enum outcome outcome)
{
    uint64_t *pending = pending_of(h, at->lane, seq);
    struct copy *c = copy_at(h, at->lane, seq);
    uint64_t acks = pending == NULL ? 0 : *pending % PENDING_OTHER;
    uint64_t others =
        pending == NULL ? 0 : *pending % PENDING_GOT / PENDING_OTHER;

    if (acks + others == 0) {
        fault(h, RULE_LEDGER, "an outcome for %llu that nobody waits for",
              (unsigned long long)seq);
        return;
    }
    this_file(h)->pending--;
    if (acks > 0 && others > 0) {
        *pending |= PENDING_MIXED; /* which of them this is nobody knows */
    }
    if ((*pending & PENDING_MIXED) != 0 && acks > 0) {
        outcome = OUTCOME_UNSURE;
    }
    if (others > 0) {
        *pending -= PENDING_OTHER;
        if (acks == 0 && others == 1) { /* else it may be another's */
            given_back(h, c, at->session, outcome);
        }
    } else {
        *pending -= PENDING_ACK;
        acked(h, c, outcome);
    }
    if ((*pending & ~PENDING_MIXED) == 0) {
        table_remove(&h->pending, pending_key(h->event.file, at->lane, seq));
    }
}

/* S TOPIC FIRST LAST OUTCOME */
void on_outcome(struct history *h)
{
    const struct field *word = &h->event.fields[4];
    enum outcome outcome = OUTCOME_UNSURE;
    struct stretch at;

    if (!read_stretch(h, 1, &at)) {
        return;
    }
    if (field_is(word, "accepted")) {
        outcome = OUTCOME_ACCEPTED;
    } else if (field_is(word, "late") || field_is(word, "unknown")) {
        outcome = OUTCOME_NEGATIVE;
    } else if (!field_is(word, "unsure")) {
        fault(h, RULE_LEDGER, "no such outcome");
    }
    for (uint64_t seq = at.first; seq <= at.last; seq++) {
        answer(h, &at, seq, outcome);
    }
}
