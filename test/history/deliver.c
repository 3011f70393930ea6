/* Sessions, and what they were given. */
#include "test/history/inside.h"

#include <string.h>

/* ---- sessions ---- */

/* What is told between a kill and the next start was done before the kill. */
static uint32_t life_now(const struct history *h)
{
    return h->up || h->life == 0 ? h->life : h->life - 1;
}

/* S GROUP TENANT push|pull */
void on_attach(struct history *h)
{
    struct file *file = this_file(h);
    uint32_t group = get_name(h, 1);
    struct session *s;
    uint64_t number;
    uint64_t *known;

    if (!get_number(h, 0, &number) || number >= SESSION_COUNT_MAX) {
        return;
    }
    known = table_put(&file->sessions, number + 1);
    if (*known != 0 || group >= h->groups_room || !h->groups[group].known) {
        fault(h, RULE_LEDGER, "the session is there already, or no such group");
        return;
    }
    if (h->session_count + 1 == SESSION_COUNT_MAX) {
        history_die("too many sessions");
    }
    *known = ++h->session_count;
    h->sessions = grown(h->sessions, &h->sessions_room, h->session_count + 1u,
                        sizeof *h->sessions);
    s = &h->sessions[h->session_count];
    *s = (struct session) { .file = h->event.file,
                            .group = group,
                            .tenant = get_name(h, 2),
                            .life = life_now(h),
                            .since_us = h->event.us,
                            .leaves = h->groups[group].leaves,
                            .pull = field_is(&h->event.fields[3], "pull") };
    if (!h->up && h->life == 0) {
        fault(h, RULE_LEDGER, "the broker does not run");
    }
    file->open_sessions++;
    h->figures.sessions++;
}

static struct session *end_session(struct history *h)
{
    uint32_t number = get_session(h);
    struct session *s = number == 0 ? NULL : &h->sessions[number];

    if (s == NULL) {
        return NULL;
    }
    if (s->ended_us != 0 || s->pulling) {
        fault(h, RULE_LEDGER, "the session has ended before, or waits");
        return NULL;
    }
    s->ended_us = h->event.us;
    this_file(h)->open_sessions--;
    return s;
}

void on_leave(struct history *h)
{
    struct session *s = end_session(h);

    if (s != NULL) {
        h->groups[s->group].leaves++;
        s->left = true;
    }
}

static bool recent(const struct history *h, uint64_t us, uint64_t since_us)
{
    return us != 0 && us + h->grace_us >= since_us;
}

void on_lost(struct history *h)
{
    struct session *s = end_session(h);

    if (s == NULL) {
        return;
    }
    if (!recent(h, h->kill_us, s->since_us)
        && !recent(h, h->cut_us, s->since_us)) {
        fault(h, RULE_LEDGER, "a connection was lost without a reason");
    }
}

void on_pull(struct history *h)
{
    uint32_t number = get_session(h);
    struct session *s = &h->sessions[number];

    if (number == 0) {
        return;
    }
    if (!s->pull || s->pulling || s->ended_us != 0) {
        fault(h, RULE_LEDGER, "cannot pull now");
        return;
    }
    s->pulling = true;
    s->pulled = 0;
    s->since_us = h->event.us;
    s->life = life_now(h);
}

/* S COUNT */
void on_pulled(struct history *h)
{
    uint32_t number = get_session(h);
    struct session *s = &h->sessions[number];
    uint64_t count;

    if (number == 0 || !get_number(h, 1, &count)) {
        return;
    }
    if (!s->pulling || s->pulled != count) {
        fault(h, RULE_LEDGER, "%llu messages were written down, not so many",
              (unsigned long long)s->pulled);
    }
    s->pulling = false;
}

/* ---- redeliveries ---- */

static void suspect(struct history *h, const struct suspicion *s)
{
    size_t end = h->suspicion_first + h->suspicion_count;

    if (end == h->suspicions_room && h->suspicion_first > 0) {
        memmove(h->suspicions, h->suspicions + h->suspicion_first,
                h->suspicion_count * sizeof *s);
        h->suspicion_first = 0;
        end = h->suspicion_count;
    }
    h->suspicions =
        grown(h->suspicions, &h->suspicions_room, end + 1, sizeof *s);
    h->suspicions[end] = *s;
    h->suspicion_count++;
}

static void judge(struct history *h, const struct suspicion *s)
{
    const struct session *holder = &h->sessions[s->holder];
    const struct lane *lane = &h->lanes[s->lane];
    char now[WHERE_LEN];
    char before[WHERE_LEN];

    if (holder->ended_us != 0 || h->files[holder->file].dying_us != 0) {
        return;
    }
    h->in_event = false;
    fault(h, RULE_TWO_LEASES,
          "%s %llu was given to %s at %s while the lease of %s ran",
          names_text(&h->names, lane->topic), (unsigned long long)s->seq,
          names_text(&h->names, lane->group),
          where_text(h, s->where, now, sizeof now),
          where_text(h, s->before, before, sizeof before));
    h->in_event = true;
}

void suspicions_until(struct history *h, uint64_t us)
{
    while (h->suspicion_count > 0) {
        const struct suspicion *s = &h->suspicions[h->suspicion_first];
        if (us != UINT64_MAX && s->us + h->grace_us >= us) {
            return;
        }
        judge(h, s);
        h->suspicion_first++;
        h->suspicion_count--;
    }
}

/* One delivery in hand. */
struct got {
    uint32_t session, lane;
    uint32_t life;
    uint64_t seq, attempt, id;
    struct message *message;
};

static void check_lease(struct history *h, const struct got *got,
                        const struct copy *c)
{
    struct suspicion s = { .us = h->event.us,
                           .where = where(h),
                           .before = c->where,
                           .seq = got->seq,
                           .lane = got->lane,
                           .session = got->session,
                           .holder = c->session };
    char before[WHERE_LEN];

    if (c->released || c->nacked
        || h->event.us + h->grace_us >= c->held_until_us) {
        return;
    }
    if (c->session != got->session) {
        suspect(h, &s);
        return;
    }
    fault(h, RULE_ATTEMPTS, "it came again while the lease of %s ran",
          where_text(h, c->where, before, sizeof before));
}

/* False: it was written down late, and the copy knows newer things. */
static bool check_again(struct history *h, const struct got *got,
                        const struct copy *c)
{
    bool same_life = got->life != LIFE_UNKNOWN && got->life == c->life;
    char before[WHERE_LEN];

    h->figures.redelivered++;
    (void)where_text(h, c->where, before, sizeof before);
    if (got->attempt < c->attempt_min) {
        fault(h, RULE_ATTEMPTS,
              "attempt %llu after the nack of attempt %u was "
              "accepted",
              (unsigned long long)got->attempt, (unsigned)c->attempt_min - 1);
    }
    if (!same_life) {
        return true;
    }
    if (got->attempt < c->attempt) {
        if (h->event.us > c->got_us + h->grace_us) {
            fault(h, RULE_ATTEMPTS, "attempt %llu after attempt %u of %s",
                  (unsigned long long)got->attempt, (unsigned)c->attempt,
                  before);
        }
        return false;
    }
    if (got->attempt == c->attempt && !c->released
        && !h->sessions[c->session].left) {
        fault(h, RULE_ATTEMPTS, "attempt %llu twice, the other is %s",
              (unsigned long long)got->attempt, before);
    }
    check_lease(h, got, c);
    return true;
}

/* ---- deliveries ---- */

/* What comes first to a group comes in publish order, of one producer and key.
 * Each connection sees its part in order; what another one gave back by leaving
 * is new to us and not to the broker. */
static void check_order(struct history *h, const struct got *got)
{
    const struct session *s = &h->sessions[got->session];
    uint64_t *pair = table_put(&h->pairs, (uint64_t)got->life << 32
                                              | got->session << 10 | got->lane);
    uint64_t counter = got->id & (COUNTER_MAX - 1);
    uint64_t *newest;

    if (*pair == 0) {
        *pair = h->pairs.count;
    }
    newest = table_put(&h->newest,
                       *pair << 42 | (got->id >> 38) << 24 | got->message->key);
    if (counter < *newest && s->leaves == h->groups[s->group].leaves) {
        fault(h, RULE_ORDER,
              "message %llu of this producer and key came before",
              (unsigned long long)*newest);
    }
    if (counter > *newest) {
        *newest = counter;
    }
}

static void check_content(struct history *h, const struct got *got)
{
    const struct message *m = got->message;
    const struct lane *lane = &h->lanes[got->lane];
    uint64_t hash;

    if (m->key != get_name(h, 6)) {
        fault(h, RULE_ALTERED, "the key was %s", names_text(&h->names, m->key));
    }
    if (get_number(h, 7, &hash) && hash != m->hash) {
        fault(h, RULE_ALTERED, "body and headers were %llu",
              (unsigned long long)m->hash);
    }
    if (m->state == REFUSED) {
        fault(h, RULE_INVENTED, "its publish was refused");
    }
    if (!lane->earliest && m->confirmed_us != 0
        && m->confirmed_us < lane->asked_us) {
        fault(h, RULE_INVENTED, "it is older than the group");
    }
    if (m->topic != lane->topic
        || !seq_seen(h, lane->topic, got->seq, got->id,
                     message_at(h, got->id))) {
        fault(h, RULE_INVENTED,
              "this seq is another message's, or this "
              "message has another seq");
    }
}

static void check_settled(struct history *h, const struct got *got,
                          const struct copy *c)
{
    const struct session *s = &h->sessions[got->session];

    if (c->acked_us != 0
        && (c->acked_file == s->file || s->since_us > c->acked_us
            || h->event.us > c->acked_us + h->grace_us)) {
        fault(h, RULE_AFTER_ACK, "its ack was accepted at %llu",
              (unsigned long long)c->acked_us);
    }
    if (c->dead || c->expired) {
        fault(h, RULE_DEAD, "it is dead or expired");
    }
    if (c->rejected
        && (s->since_us > c->rejected_us
            || h->event.us > c->rejected_us + h->grace_us)) {
        fault(h, RULE_DEAD, "its rejection was accepted at %llu",
              (unsigned long long)c->rejected_us);
    }
    if (c->gap) {
        fault(h, RULE_BOOKS, "the group was told that it is lost");
    }
    if (h->drained_us != 0) {
        fault(h, RULE_DRAIN, "all was drained before");
    }
}

/* Is it settled, or on the way there? */
static bool makes_way(const struct copy *c)
{
    return c->acked_us != 0 || c->maybe > 0 || c->dead || c->expired || c->gap
           || c->rejecting || c->rejected || c->redriven;
}

/* In an ordered group a message comes when those of its key before it are
 * settled. Of those only the last one is looked at: it waited for the others. A
 * message with a time of its own takes its place when that comes. */
static void check_key(struct history *h, const struct got *got)
{
    const struct lane *lane = &h->lanes[got->lane];
    const struct message *m = got->message;
    const struct copy *c;
    uint64_t *furthest;

    if (!lane->ordered || m->due_us != 0
        || m->key == names_add(&h->names, "-", 1)) {
        return;
    }
    furthest = table_put(&h->furthest, (uint64_t)got->lane << 32 | m->key);
    if (got->seq <= *furthest) {
        return;
    }
    c = *furthest == 0 ? NULL : copy_at(h, got->lane, *furthest);
    if (c != NULL && !makes_way(c)) {
        h->overtaken = grown(h->overtaken, &h->overtaken_room,
                             h->overtaken_count + 1, sizeof *h->overtaken);
        h->overtaken[h->overtaken_count++] =
            (struct overtaken) { where(h), *furthest, got->lane, h->life,
                                 lane->attempts_max != 0
                                     && c->attempt >= lane->attempts_max };
    }
    *furthest = got->seq;
}

void check_overtaken(struct history *h)
{
    for (size_t i = 0; i < h->overtaken_count; i++) {
        const struct overtaken *o = &h->overtaken[i];
        const struct copy *c = copy_at(h, o->lane, o->seq);
        char at[WHERE_LEN];
        bool revived = o->last_attempt && h->life > o->life;
        bool deleted = o->seq < h->topics[h->lanes[o->lane].topic].first;
        if (!c->dead && !c->expired && !c->gap && !c->redriven && !revived
            && !deleted) {
            fault(h, RULE_ORDER, "%s came before %llu of its key was settled",
                  where_text(h, o->where, at, sizeof at),
                  (unsigned long long)o->seq);
        }
    }
}

static void check_session(struct history *h, const struct got *got)
{
    struct session *s = &h->sessions[got->session];
    const struct topic *topic = &h->topics[h->lanes[got->lane].topic];

    if (s->ended_us != 0 || (s->pull && !s->pulling)) {
        fault(h, RULE_LEDGER, "the session has ended, or does not pull");
    }
    s->pulled++;
    if (s->tenant != topic->tenant) {
        fault(h, RULE_TENANT, "the message belongs to %s",
              names_text(&h->names, topic->tenant));
    }
}

static bool read_got(struct history *h, struct got *got)
{
    uint32_t topic_name;
    const struct topic *topic = get_topic(h, 1, &topic_name);
    const struct session *s;

    got->session = get_session(h);
    if (got->session == 0 || topic == NULL || !get_seq(h, topic, 2, &got->seq)
        || !get_number(h, 3, &got->attempt)) {
        return false;
    }
    s = &h->sessions[got->session];
    got->lane = get_lane(h, s->group, topic_name);
    got->message = get_message(h, 4, &got->id);
    if (got->lane != 0 && got->message == NULL) {
        fault(h, RULE_INVENTED, "nobody published it");
    }
    /* A pull that was asked in one life may be answered in the next. */
    got->life =
        s->pull && (h->kill_us >= s->since_us || h->up_us >= s->since_us)
            ? LIFE_UNKNOWN
            : s->life;
    return got->lane != 0 && got->message != NULL;
}

/* S TOPIC SEQ ATTEMPT P N KEY HASH */
void on_got(struct history *h)
{
    struct got got;
    struct copy *c;

    h->figures.delivered++;
    if (!read_got(h, &got)) {
        return;
    }
    c = copy_at(h, got.lane, got.seq);
    check_session(h, &got);
    check_content(h, &got);
    check_settled(h, &got, c);
    if (got.attempt == 0
        || (h->lanes[got.lane].attempts_max != 0
            && got.attempt > h->lanes[got.lane].attempts_max)) {
        fault(h, RULE_ATTEMPTS, "no such attempt");
    }
    *table_put(&h->pending, pending_key(h->event.file, got.lane, got.seq)) +=
        PENDING_GOT;
    if (h->event.us < got.message->due_us) {
        fault(h, RULE_EARLY, "its time is %llu",
              (unsigned long long)got.message->due_us);
    }
    check_key(h, &got);
    if (c->session == 0 && got.attempt == 1 && got.message->due_us == 0
        && !c->redriven && got.life != LIFE_UNKNOWN) {
        check_order(h, &got);
    }
    if (c->session != 0 && !check_again(h, &got, c)) {
        return;
    }
    c->session = got.session;
    c->life = got.life;
    c->attempt = (uint32_t)got.attempt;
    c->got_us = h->event.us;
    c->held_until_us = h->event.us + h->lanes[got.lane].lease_us;
    c->asked_until_us = 0;
    c->where = where(h);
    c->released = c->nacked = c->rejecting = 0;
}

/* ---- what does not come ---- */

/* S TOPIC FIRST LAST */
void on_gap(struct history *h)
{
    uint32_t topic_name;
    uint32_t session = get_session(h);
    const struct topic *topic = get_topic(h, 1, &topic_name);
    uint32_t lane;
    uint64_t first;
    uint64_t last;

    if (session == 0 || topic == NULL
        || !get_range(h, topic, 2, &first, &last)) {
        return;
    }
    lane = get_lane(h, h->sessions[session].group, topic_name);
    if (!h->damage) {
        fault(h, RULE_LOST, "a gap, and nobody has damaged the disk");
    }
    for (uint64_t seq = first; lane != 0 && seq <= last; seq++) {
        struct copy *c = copy_at(h, lane, seq);
        h->figures.gaps += !c->gap;
        c->gap = 1;
    }
}

static struct copy *group_copy(struct history *h, uint32_t *lane)
{
    uint32_t topic_name;
    const struct topic *topic = get_topic(h, 1, &topic_name);
    uint64_t seq;

    *lane = topic == NULL ? 0 : get_lane(h, get_name(h, 0), topic_name);
    if (*lane == 0 || !get_seq(h, topic, 2, &seq)) {
        return NULL;
    }
    return copy_at(h, *lane, seq);
}

/* GROUP TOPIC SEQ ATTEMPTS CAUSE P N KEY HASH */
void on_dead(struct history *h)
{
    uint32_t lane;
    struct copy *c = group_copy(h, &lane);
    uint64_t id;
    const struct message *m = get_message(h, 5, &id);
    uint64_t seq;
    uint64_t attempts;
    uint64_t hash;

    if (c == NULL || !get_number(h, 2, &seq) || !get_number(h, 3, &attempts)
        || !get_number(h, 8, &hash)) {
        return;
    }
    if (c->dead || c->acked_us != 0 || field_is(&h->event.fields[4], "-")) {
        fault(h, RULE_DEAD, "dead before, acked, or without a cause");
    }
    if (m == NULL || m->hash != hash || m->key != get_name(h, 7)
        || m->topic != h->lanes[lane].topic
        || !seq_seen(h, m->topic, seq, id, message_at(h, id))) {
        fault(h, RULE_DEAD, "not what was published");
    }
    if (!field_is(&h->event.fields[4], "reject")
        && (h->lanes[lane].attempts_max == 0
            || attempts != h->lanes[lane].attempts_max)) {
        fault(h, RULE_DEAD, "not after the last attempt");
    }
    c->dead = 1;
    h->figures.dead++;
}

/* GROUP TOPIC SEQ */
void on_expired(struct history *h)
{
    uint32_t lane;
    struct copy *c = group_copy(h, &lane);
    const struct topic *topic;
    uint64_t id;
    uint64_t seq;

    if (c == NULL || !get_number(h, 2, &seq)) {
        return;
    }
    topic = &h->topics[h->lanes[lane].topic];
    id = seq <= topic->room ? topic->by_seq[seq - 1] : 0;
    if (c->expired || c->acked_us != 0 || topic->ttl_us == 0
        || (id != 0
            && h->event.us < message_at(h, id)->sent_us + topic->ttl_us)) {
        fault(h, RULE_LOST, "it is not to expire, or not yet, or has before");
    }
    c->expired = 1;
    h->figures.expired++;
}

/* GROUP TOPIC FIRST LAST: those of them that are dead may come again. */
void on_redrive(struct history *h)
{
    uint32_t topic_name;
    const struct topic *topic = get_topic(h, 1, &topic_name);
    uint32_t lane = topic == NULL ? 0 : get_lane(h, get_name(h, 0), topic_name);
    uint64_t first;
    uint64_t last;

    if (lane == 0 || !get_range(h, topic, 2, &first, &last)) {
        return;
    }
    for (uint64_t seq = first; seq <= last; seq++) {
        struct copy *c = copy_at(h, lane, seq);
        c->redriven = 1;
        c->released = 1;
        c->rejected = c->rejecting = 0;
        c->attempt = c->attempt_min = 0;
    }
}
