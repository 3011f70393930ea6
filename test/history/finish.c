/* What the broker says of itself, and what must be so at the end. */
#include "test/history/inside.h"

#include <stdlib.h>

/* TOPIC LAST FIRST FLOOR */
void on_at(struct history *h)
{
    uint32_t name;
    struct topic *topic = get_topic(h, 0, &name);
    uint64_t last;
    uint64_t first;
    uint64_t floor;

    if (topic == NULL || !get_number(h, 1, &last) || !get_number(h, 2, &first)
        || !get_number(h, 3, &floor)) {
        return;
    }
    if (last < topic->last || first < topic->first || floor < topic->floor) {
        fault(h, RULE_POSITION, "it was %llu %llu %llu before",
              (unsigned long long)topic->last, (unsigned long long)topic->first,
              (unsigned long long)topic->floor);
    }
    if (first > floor || floor > last + 1 || last > topic->sent) {
        fault(h, RULE_BOOKS, "positions that cannot be");
        return;
    }
    topic->last = last;
    topic->first = first;
    topic->floor = floor;
    if (h->drained_us != 0 && topic->told_at_end) {
        fault(h, RULE_LEDGER, "told twice at the end");
    }
    topic->told_at_end = h->drained_us != 0;
}

static bool read_books(struct history *h, struct books *out)
{
    return get_number(h, 2, &out->published) && get_number(h, 3, &out->acked)
           && get_number(h, 4, &out->dead) && get_number(h, 5, &out->expired)
           && get_number(h, 6, &out->deleted) && get_number(h, 7, &out->gap)
           && get_number(h, 8, &out->ready) && get_number(h, 9, &out->delayed)
           && get_number(h, 10, &out->in_flight);
}

/* GROUP TOPIC PUBLISHED ACKED DEAD EXPIRED DELETED GAP READY DELAYED IN_FLIGHT */
void on_books(struct history *h)
{
    uint32_t topic_name;
    struct topic *topic = get_topic(h, 1, &topic_name);
    struct books books = { .told = true };
    uint32_t lane;

    if (topic == NULL || !read_books(h, &books)) {
        return;
    }
    lane = get_lane(h, get_name(h, 0), topic_name);
    if (books.published
        != books.acked + books.dead + books.expired + books.deleted + books.gap
               + books.ready + books.delayed + books.in_flight) {
        fault(h, RULE_BOOKS, "the parts are not the whole");
    }
    if (lane == 0 || h->drained_us == 0) {
        return;
    }
    if (h->lanes[lane].books.told) {
        fault(h, RULE_LEDGER, "told twice at the end");
    }
    h->lanes[lane].books = books;
}

/* ---- the end of one lane ---- */

/* What the ledgers know of it. */
struct tally {
    uint64_t acked, maybe, dead, expired, gap;
    uint64_t deleted;  /* not settled, and the topic's limits took it away */
    uint64_t unseen;   /* a gap that a lost connection may have told of */
    uint64_t either;   /* deleted, or such a gap */
    uint64_t optional; /* nobody knows whether the group had to have it */
};

enum duty { DUTY_NONE, DUTY_MAYBE, DUTY_FULL };

/* Had the lane to have this message? */
static enum duty duty_of(const struct lane *lane, const struct topic *topic,
                         uint64_t seq, const struct message *m)
{
    if (lane->earliest) {
        bool older = m == NULL || m->sent_us < lane->asked_us;
        return older && seq < topic->floor ? DUTY_MAYBE : DUTY_FULL;
    }
    if (m == NULL) {
        return DUTY_MAYBE;
    }
    if (m->confirmed_us != 0 && m->confirmed_us < lane->asked_us) {
        return DUTY_NONE;
    }
    return m->sent_us >= lane->made_us ? DUTY_FULL : DUTY_MAYBE;
}

/* May retention have taken it from a group that had not settled it? */
static bool limited(const struct history *h, const struct topic *topic,
                    uint64_t seq, const struct message *m)
{
    if (seq >= topic->first || topic->keep != KEEP_LIMIT) {
        return false;
    }
    if (topic->count_max == 0 && topic->age_us == 0) {
        return true; /* by bytes: the clients cannot know */
    }
    return (topic->count_max != 0 && topic->last - seq >= topic->count_max)
           || (topic->age_us != 0 && m != NULL
               && m->sent_us + topic->age_us <= h->drained_us + h->grace_us);
}

static void missing(struct history *h, const struct lane *lane, uint64_t seq,
                    const struct message *m, const struct copy *c)
{
    char sent[WHERE_LEN];

    fault(h, RULE_LOST, "%s %llu (%s) %s group %s",
          names_text(&h->names, lane->topic), (unsigned long long)seq,
          m == NULL ? "nobody saw it"
                    : where_text(h, m->where, sent, sizeof sent),
          c != NULL && c->session != 0 ? "was delivered and never settled in"
                                       : "never came to",
          names_text(&h->names, lane->group));
}

static void tally_one(struct history *h, const struct lane *lane, uint64_t seq,
                      struct tally *t)
{
    const struct topic *topic = &h->topics[lane->topic];
    const struct copy *c = seq <= lane->room ? &lane->copies[seq - 1] : NULL;
    uint64_t id = seq <= topic->room ? topic->by_seq[seq - 1] : 0;
    const struct message *m = id == 0 ? NULL : message_at(h, id);
    enum duty duty = duty_of(lane, topic, seq, m);
    bool unheard = h->damage && (c == NULL || c->session == 0);

    if (c != NULL && c->acked_us != 0) {
        t->acked++;
    } else if (c != NULL && c->dead) {
        t->dead++;
    } else if (c != NULL && c->expired) {
        t->expired++;
    } else if (c != NULL && c->gap) {
        t->gap++;
    } else if (c != NULL && c->maybe > 0) {
        t->maybe++;
    } else if (duty == DUTY_MAYBE) {
        t->optional++;
    } else if (duty == DUTY_FULL && limited(h, topic, seq, m)) {
        t->either += unheard;
        t->deleted += !unheard;
    } else if (duty == DUTY_FULL && unheard) {
        t->unseen++;
    } else if (duty == DUTY_FULL) {
        missing(h, lane, seq, m, c);
    }
}

static void compare(struct history *h, const struct lane *lane,
                    const char *what, uint64_t have, uint64_t least,
                    uint64_t most)
{
    if (have < least || have > most) {
        fault(
            h, RULE_BOOKS,
            "group %s, topic %s: the broker says %s %llu, the clients know of "
            "%llu to %llu",
            names_text(&h->names, lane->group),
            names_text(&h->names, lane->topic), what, (unsigned long long)have,
            (unsigned long long)least, (unsigned long long)most);
    }
}

static void check_books(struct history *h, const struct lane *lane,
                        const struct tally *t)
{
    const struct books *b = &lane->books;
    const struct topic *topic = &h->topics[lane->topic];
    uint64_t slack = t->maybe + t->optional;

    if (!b->told) {
        fault(h, RULE_BOOKS, "no books of group %s and topic %s at the end",
              names_text(&h->names, lane->group),
              names_text(&h->names, lane->topic));
        return;
    }
    compare(h, lane, "dead", b->dead, t->dead, t->dead);
    compare(h, lane, "expired", b->expired, t->expired, t->expired);
    compare(h, lane, "gap", b->gap, t->gap + t->unseen,
            t->gap + t->unseen + t->either + t->optional);
    if (b->ready + b->delayed + b->in_flight != 0) {
        fault(h, RULE_DRAIN, "group %s, topic %s: not all is settled",
              names_text(&h->names, lane->group),
              names_text(&h->names, lane->topic));
    }
    if (!lane->earliest) {
        return; /* whether what was before counts as acked is the broker's */
    }
    compare(h, lane, "acked", b->acked, t->acked, t->acked + slack);
    compare(h, lane, "deleted", b->deleted, t->deleted,
            t->deleted + t->either + slack);
    compare(h, lane, "published", b->published, topic->last - t->optional,
            topic->last);
}

static void check_lane(struct history *h, const struct lane *lane)
{
    struct tally t = { .acked = 0 };

    for (uint64_t seq = 1; seq <= h->topics[lane->topic].last; seq++) {
        tally_one(h, lane, seq, &t);
    }
    check_books(h, lane, &t);
}

/* ---- the end of everything ---- */

static void check_order_of(struct history *h, const struct producer *p,
                           uint64_t *highest)
{
    char at[WHERE_LEN];

    for (uint64_t i = 0; i < p->count; i++) {
        const struct message *m = &p->messages[i];
        if (m->state == SENT && !h->options.open
            && h->files[p->file].dying_us == 0) {
            fault(h, RULE_LEDGER, "the publish of %s was never answered",
                  where_text(h, m->where, at, sizeof at));
        }
        if (m->seq == 0) {
            continue;
        }
        if (m->seq < highest[m->topic]) {
            fault(h, RULE_ORDER,
                  "%s is stored before what its producer "
                  "published before it",
                  where_text(h, m->where, at, sizeof at));
        }
        highest[m->topic] = m->seq;
    }
}

static void check_publish_order(struct history *h)
{
    for (uint32_t i = 1; i <= h->producer_count; i++) {
        size_t room = 0;
        uint64_t *highest =
            grown(NULL, &room, h->topics_room + 1, sizeof *highest);
        check_order_of(h, &h->producers[i], highest);
        free(highest);
    }
}

static void check_topic(struct history *h, uint32_t name)
{
    const struct topic *topic = &h->topics[name];

    if (!topic->told_at_end) {
        fault(h, RULE_BOOKS, "nobody asked for topic %s at the end",
              names_text(&h->names, name));
    } else if (topic->last < topic->seen_seq) {
        fault(h, RULE_LOST, "topic %s ends at %llu, and %llu was seen",
              names_text(&h->names, name), (unsigned long long)topic->last,
              (unsigned long long)topic->seen_seq);
    }
}

/* A confirmed message without a known seq was a duplicate; it must have come. */
static void check_confirmed(struct history *h, const struct producer *p)
{
    char at[WHERE_LEN];

    for (uint64_t i = 0; i < p->count; i++) {
        const struct message *m = &p->messages[i];
        const struct topic *topic = &h->topics[m->topic];
        if (m->state == CONFIRMED && m->seq == 0 && topic->first == 1
            && topic->keep == KEEP_SETTLED) {
            fault(h, RULE_LOST, "%s was confirmed and never came to anybody",
                  where_text(h, m->where, at, sizeof at));
        }
    }
}

void check_end(struct history *h)
{
    check_publish_order(h);
    if (h->options.open) {
        return;
    }
    for (uint32_t i = 0; i < ledgers_count(h->ledgers); i++) {
        if (!h->files[i].ended && h->files[i].dying_us == 0) {
            fault(h, RULE_LEDGER, "%s has no end", ledgers_name(h->ledgers, i));
        }
    }
    if (h->drained_us == 0) {
        fault(h, RULE_DRAIN, "it was never drained");
        return;
    }
    for (uint32_t i = 0; i < h->topics_room; i++) {
        if (h->topics[i].known) {
            check_topic(h, i);
        }
    }
    for (uint32_t i = 1; i <= h->producer_count; i++) {
        if (h->lane_count > 0) {
            check_confirmed(h, &h->producers[i]);
        }
    }
    for (uint32_t i = 1; i <= h->lane_count; i++) {
        check_lane(h, &h->lanes[i]);
    }
    check_overtaken(h);
}
