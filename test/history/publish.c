/* Publishes and what became of them. */
#include "test/history/inside.h"

static struct producer *producer_of(struct history *h, uint32_t *number)
{
    uint64_t *known = table_put(&h->producer_of, get_name(h, 0));
    struct producer *p;

    if (*known == 0) {
        if (h->producer_count + 1 == PRODUCER_COUNT_MAX) {
            history_die("too many producers");
        }
        *known = ++h->producer_count;
        h->producers = grown(h->producers, &h->producers_room, *known + 1,
                             sizeof *h->producers);
        h->producers[*known].file = h->event.file;
    }
    *number = (uint32_t)*known;
    p = &h->producers[*known];
    if (p->file != h->event.file) {
        fault(h, RULE_LEDGER, "a producer in two files");
        return NULL;
    }
    return p;
}

/* P N TOPIC KEY HASH [DUE_US] */
void on_send(struct history *h)
{
    uint32_t topic_name;
    uint32_t number;
    struct topic *topic = get_topic(h, 2, &topic_name);
    struct producer *p = producer_of(h, &number);
    struct message *m;
    uint64_t counter;
    uint64_t hash;
    uint64_t due_us = 0;

    if (topic == NULL || p == NULL || !get_number(h, 1, &counter)
        || !get_number(h, 4, &hash)
        || (h->event.count > 5 && !get_number(h, 5, &due_us))) {
        return;
    }
    if (counter != p->count + 1) {
        fault(h, RULE_LEDGER, "publish %llu follows %llu",
              (unsigned long long)counter, (unsigned long long)p->count);
    }
    if (counter <= p->count || counter > h->figures.events) {
        return;
    }
    p->messages = grown(p->messages, &p->room, counter, sizeof *p->messages);
    p->count = counter;
    m = &p->messages[counter - 1];
    *m = (struct message) { .sent_us = h->event.us,
                            .hash = hash,
                            .where = where(h),
                            .due_us = due_us,
                            .key = get_name(h, 3),
                            .topic = topic_name,
                            .state = SENT };
    if (m->key >= KEY_COUNT_MAX) {
        history_die("too many keys");
    }
    topic->sent++;
    h->figures.sent++;
}

bool seq_seen(struct history *h, uint32_t topic_name, uint64_t seq, uint64_t id,
              struct message *m)
{
    struct topic *topic = &h->topics[topic_name];

    topic->by_seq =
        grown(topic->by_seq, &topic->room, seq, sizeof *topic->by_seq);
    if (topic->by_seq[seq - 1] == 0 && m->seq == 0) {
        topic->by_seq[seq - 1] = id;
        m->seq = seq;
    }
    if (seq > topic->seen_seq) {
        topic->seen_seq = seq;
    }
    return topic->by_seq[seq - 1] == id && m->seq == seq;
}

/* The publish of this file that waits for an answer. */
static struct message *answered(struct history *h, uint64_t *id)
{
    struct message *m = get_message(h, 0, id);

    if (m == NULL || m->state == NOT_SENT) {
        fault(h, RULE_INVENTED, "an answer to what was never published");
        return NULL;
    }
    if (h->producers[*id >> 38].file != h->event.file) {
        fault(h, RULE_LEDGER, "another file's publish");
        return NULL;
    }
    if (m->state != SENT) {
        fault(h, RULE_LEDGER, "a second answer to one publish");
        return NULL;
    }
    return m;
}

/* P N SEQ DUPLICATE [RECEIPT] */
void on_ok(struct history *h)
{
    uint64_t id;
    struct message *m = answered(h, &id);
    uint64_t seq;
    uint64_t duplicate;

    if (m == NULL || !get_number(h, 2, &seq) || !get_number(h, 3, &duplicate)) {
        return;
    }
    m->state = CONFIRMED;
    m->confirmed_us = h->event.us;
    h->figures.confirmed++;
    h->figures.duplicates += duplicate != 0;
    if (seq == 0 && duplicate != 0) {
        return; /* stored before, and the broker no longer knows where */
    }
    if (get_seq(h, &h->topics[m->topic], 2, &seq)
        && !seq_seen(h, m->topic, seq, id, m)) {
        fault(h, RULE_INVENTED,
              "this seq is another message's, or this "
              "message has another seq");
    }
}

/* P N STATUS */
void on_no(struct history *h)
{
    uint64_t id;
    struct message *m = answered(h, &id);

    if (m == NULL) {
        return;
    }
    /* Over a restart an earlier sending of it may have been stored. */
    m->state = h->kill_us >= m->sent_us ? GIVEN_UP : REFUSED;
    h->figures.refused++;
    if (m->state == REFUSED && m->seq != 0) {
        fault(h, RULE_INVENTED, "refused, and yet stored as %llu",
              (unsigned long long)m->seq);
    }
}

/* P N */
void on_unknown(struct history *h)
{
    uint64_t id;
    struct message *m = answered(h, &id);

    if (m != NULL) {
        m->state = GIVEN_UP;
        h->figures.unknown++;
    }
}
