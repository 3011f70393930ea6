#include "test/history/sim.h"

#include <string.h>

/* ---- queues ---- */

void queue_push(struct queue *q, const struct item *item)
{
    if (q->first + q->count == q->room && q->first > q->count) {
        memmove(q->items, q->items + q->first, q->count * sizeof *item);
        q->first = 0;
    }
    q->items = grown(q->items, &q->room, q->first + q->count + 1, sizeof *item);
    q->items[q->first + q->count++] = *item;
}

bool queue_take(struct queue *q, struct item *out)
{
    if (q->count == 0) {
        return false;
    }
    *out = q->items[q->first++];
    if (--q->count == 0) {
        q->first = 0;
    }
    return true;
}

/* ---- copies ---- */

struct sim_copy *sim_copy_at(struct sim_lane *lane, uint64_t seq)
{
    lane->copies = grown(lane->copies, &lane->room, seq, sizeof *lane->copies);
    return &lane->copies[seq - 1];
}

/* Everything that a kill may take back goes through here. */
static void change(struct sim *sim, uint32_t lane, uint64_t seq,
                   enum copy_state state, unsigned failures)
{
    struct sim_copy *copy = sim_copy_at(&sim->lanes[lane], seq);
    struct undo *undo;

    if (state != COPY_IN_FLIGHT) {
        sim->undos = grown(sim->undos, &sim->undo_room, sim->undo_count + 1,
                           sizeof *sim->undos);
        undo = &sim->undos[sim->undo_count++];
        *undo = (struct undo) { lane, seq, copy->state, copy->failures };
        if (copy->state == COPY_IN_FLIGHT) {
            undo->state = COPY_OPEN;
        }
    }
    copy->state = (uint8_t)state;
    copy->failures = (uint8_t)failures;
}

static void wait_again(struct sim *sim, uint32_t lane, uint64_t seq)
{
    struct sim_copy *copy = sim_copy_at(&sim->lanes[lane], seq);

    if (!copy->waits) {
        copy->waits = true;
        queue_push(&sim->lanes[lane].again,
                   &(struct item) { .lane = lane, .first = seq });
    }
}

static struct client *holder_of(struct sim *sim, const struct sim_copy *copy)
{
    struct client *c = &sim->clients[copy->holder];

    return c->connected && c->epoch == copy->epoch ? c : NULL;
}

/* It comes back: counted or not. */
static void give_back(struct sim *sim, uint32_t lane, uint64_t seq,
                      bool counted)
{
    struct sim_lane *l = &sim->lanes[lane];
    struct sim_copy *copy = sim_copy_at(l, seq);
    unsigned failures = copy->failures + (counted ? 1u : 0u);
    struct client *holder = holder_of(sim, copy);

    if (holder != NULL && holder->holds > 0) {
        holder->holds--;
    }
    if (failures > 250) {
        failures = 250;
    }
    if (l->attempts_max != 0 && failures >= l->attempts_max) {
        copy->rejected = false;
        change(sim, lane, seq, COPY_DEAD, failures);
        return;
    }
    change(sim, lane, seq, COPY_OPEN, failures);
    wait_again(sim, lane, seq);
}

void broker_drop(struct sim *sim, uint32_t client)
{
    struct client *c = &sim->clients[client];

    for (uint32_t i = 0; i < c->lane_count; i++) {
        uint32_t lane = c->group + i;
        const struct queue *held = &sim->lanes[lane].held;
        for (size_t k = 0; k < held->count; k++) {
            const struct item *item = &held->items[held->first + k];
            const struct sim_copy *copy =
                sim_copy_at(&sim->lanes[lane], item->first);
            if (copy->state == COPY_IN_FLIGHT && copy->holder == client
                && copy->epoch == c->epoch) {
                give_back(sim, lane, item->first, true);
            }
        }
    }
    c->holds = 0;
}

void broker_expire(struct sim *sim)
{
    for (uint32_t lane = 0; lane < sim->lane_count; lane++) {
        struct queue *held = &sim->lanes[lane].held;
        struct item item;
        for (size_t n = held->count; n > 0 && queue_take(held, &item); n--) {
            const struct sim_copy *copy =
                sim_copy_at(&sim->lanes[lane], item.first);
            if (copy->state != COPY_IN_FLIGHT) {
                continue;
            }
            if (copy->until_us <= sim->now_us) {
                give_back(sim, lane, item.first, true);
            } else {
                queue_push(held, &item);
            }
        }
    }
}

/* ---- requests ---- */

static void answer(struct sim *sim, const struct item *item)
{
    queue_push(&sim->answers, item);
}

static void take_publish(struct sim *sim, uint32_t client, struct item *item)
{
    struct client *c = &sim->clients[client];
    struct sim_sent *sent = &c->sent[item->first - 1];
    struct sim_topic *topic = &sim->topics[sent->topic];

    item->kind = ITEM_CONFIRM;
    item->client = client;
    item->epoch = c->epoch;
    if (sent->refused) {
        item->kind = ITEM_REFUSE;
    } else if (sent->seq != 0) {
        item->duplicate = true;
        item->last = sent->durable && sim_random(sim, 4) == 0 ? 0 : sent->seq;
    } else {
        sent->seq = ++topic->last;
        item->last = sent->seq;
        topic->messages = grown(topic->messages, &topic->room, topic->last,
                                sizeof *topic->messages);
        topic->messages[topic->last - 1] =
            (struct sim_message) { client, item->first, sim->now_us };
    }
    answer(sim, item);
}

static bool settle_one(struct sim *sim, uint32_t client,
                       const struct item *item, uint64_t seq)
{
    struct client *c = &sim->clients[client];
    struct sim_copy *copy = sim_copy_at(&sim->lanes[item->lane], seq);
    bool holds = copy->state == COPY_IN_FLIGHT && copy->holder == client
                 && copy->epoch == c->epoch;

    if (item->action == SIM_ACK && copy->state == COPY_ACKED) {
        return true;
    }
    if (!holds) {
        return false;
    }
    if (item->action == SIM_REJECT) {
        c->holds -= c->holds > 0;
        copy->rejected = true;
        change(sim, item->lane, seq, COPY_DEAD, copy->failures + 1u);
    } else if (item->action == SIM_EXTEND) {
        copy->until_us = sim->now_us + SIM_LEASE_US;
    } else if (item->action == SIM_ACK) {
        c->holds -= c->holds > 0;
        change(sim, item->lane, seq, COPY_ACKED, copy->failures);
    } else {
        give_back(sim, item->lane, seq, item->action == SIM_NACK);
    }
    return true;
}

static void take_settle(struct sim *sim, uint32_t client, struct item *item)
{
    uint64_t last = item->last;

    item->kind = ITEM_OUTCOME;
    item->client = client;
    item->epoch = sim->clients[client].epoch;
    for (uint64_t seq = item->first; seq <= last; seq++) {
        struct item one = *item;
        one.first = one.last = seq;
        one.accepted = settle_one(sim, client, item, seq);
        answer(sim, &one);
    }
}

void broker_take(struct sim *sim, uint32_t client)
{
    struct client *c = &sim->clients[client];
    struct item item;

    if (!c->connected || !queue_take(&c->outbox, &item)) {
        return;
    }
    if (item.kind == ITEM_PUBLISH) {
        take_publish(sim, client, &item);
    } else if (item.kind == ITEM_SETTLE) {
        take_settle(sim, client, &item);
    } else if (item.kind == ITEM_LEAVE) {
        broker_drop(sim, client);
        c->connected = false;
    } else {
        c->pulling = true;
    }
}

/* ---- deliveries ---- */

/* What may not be delivered any more ends here. */
static bool ends(struct sim *sim, uint32_t lane, uint64_t seq)
{
    const struct sim_lane *l = &sim->lanes[lane];
    const struct sim_topic *topic = &sim->topics[l->topic];
    const struct sim_copy *copy = sim_copy_at(&sim->lanes[lane], seq);

    if (seq < topic->first) {
        change(sim, lane, seq, COPY_DELETED, copy->failures);
    } else if (topic->ttl_us != 0
               && sim->now_us
                      >= topic->messages[seq - 1].stored_us + topic->ttl_us) {
        change(sim, lane, seq, COPY_EXPIRED, copy->failures);
    } else {
        return false;
    }
    return true;
}

static struct sim_sent *sent_of(struct sim *sim, uint32_t lane, uint64_t seq)
{
    const struct sim_topic *topic = &sim->topics[sim->lanes[lane].topic];
    const struct sim_message *m = &topic->messages[seq - 1];

    return &sim->clients[m->producer].sent[m->counter - 1];
}

static bool is_due(struct sim *sim, uint32_t lane, uint64_t seq)
{
    return sent_of(sim, lane, seq)->due_us <= sim->now_us;
}

/* The first of a key that is not settled has it; those that are not due have
 * not come yet. */
static uint64_t next_by_key(struct sim *sim, uint32_t lane)
{
    struct sim_lane *l = &sim->lanes[lane];
    bool busy[SIM_KEYS] = { false };

    for (uint64_t seq = l->next; seq <= sim->topics[l->topic].durable; seq++) {
        const struct sim_copy *copy = sim_copy_at(l, seq);
        uint32_t key = sent_of(sim, lane, seq)->key;
        bool open = copy->state == COPY_OPEN;
        if (open && !busy[key] && is_due(sim, lane, seq)
            && !ends(sim, lane, seq)) {
            return seq;
        }
        busy[key] = busy[key] || copy->state == COPY_IN_FLIGHT;
        if (copy->state != COPY_OPEN && copy->state != COPY_IN_FLIGHT
            && l->next == seq) {
            l->next++;
        }
    }
    return 0;
}

/* The next message of a lane that is still to be delivered; 0: none. */
static uint64_t next_of(struct sim *sim, uint32_t lane)
{
    struct sim_lane *l = &sim->lanes[lane];
    struct item item;

    if (l->ordered) {
        return next_by_key(sim, lane);
    }
    for (size_t n = l->again.count; n > 0 && queue_take(&l->again, &item);
         n--) {
        struct sim_copy *copy = sim_copy_at(l, item.first);
        if (!is_due(sim, lane, item.first)) {
            queue_push(&l->again, &item);
            continue;
        }
        copy->waits = false;
        if (copy->state == COPY_OPEN && !ends(sim, lane, item.first)) {
            return item.first;
        }
    }
    while (l->next <= sim->topics[l->topic].durable) {
        uint64_t seq = l->next++;
        const struct sim_copy *copy = sim_copy_at(l, seq);
        if (copy->state != COPY_OPEN || copy->waits || ends(sim, lane, seq)) {
            continue;
        }
        if (is_due(sim, lane, seq)) {
            return seq;
        }
        wait_again(sim, lane, seq);
    }
    return 0;
}

static bool damaged(const struct sim *sim, uint32_t topic, uint64_t seq)
{
    return sim->damage && (seq * 7 + topic) % 23 == 0;
}

/* False: there is nothing. *count: messages and not gaps. */
static bool deliver_one(struct sim *sim, uint32_t client, uint32_t lane,
                        uint32_t *count)
{
    struct client *c = &sim->clients[client];
    struct sim_lane *l = &sim->lanes[lane];
    uint64_t seq = next_of(sim, lane);
    struct item item = { .kind = ITEM_DELIVER, .lane = lane };
    struct sim_copy *copy;

    if (seq == 0) {
        return false;
    }
    copy = sim_copy_at(l, seq);
    item.first = item.last = seq;
    item.attempt = copy->failures + 1u;
    if (damaged(sim, l->topic, seq)) {
        change(sim, lane, seq, COPY_GAP, copy->failures);
        item.kind = ITEM_GAP;
        queue_push(&c->inbox, &item);
        return true;
    }
    change(sim, lane, seq, COPY_IN_FLIGHT, copy->failures);
    copy->holder = client;
    copy->epoch = c->epoch;
    copy->until_us = sim->now_us + SIM_LEASE_US;
    queue_push(&l->held, &item);
    queue_push(&c->inbox, &item);
    c->holds++;
    (*count)++;
    return true;
}

static void deliver_to(struct sim *sim, uint32_t client)
{
    struct client *c = &sim->clients[client];
    uint32_t count = 0;

    while (c->holds < SIM_CREDIT) {
        uint32_t lane = c->group + (uint32_t)sim_random(sim, c->lane_count);
        if (!deliver_one(sim, client, lane, &count)) {
            break;
        }
    }
    if (c->role == ROLE_PULL && (count > 0 || sim_random(sim, 100) == 0)) {
        c->pulling = false;
        c->holds = 0; /* a pull is given again what it asks for */
        queue_push(&c->inbox,
                   &(struct item) { .kind = ITEM_PULLED, .first = count });
    }
}

void broker_deliver(struct sim *sim)
{
    uint32_t begin = (uint32_t)sim_random(sim, sim->client_count);

    for (uint32_t i = 0; i < sim->client_count; i++) {
        uint32_t client = (begin + i) % sim->client_count;
        const struct client *c = &sim->clients[client];
        if (c->alive && c->connected
            && (c->role == ROLE_PUSH || (c->role == ROLE_PULL && c->pulling))) {
            deliver_to(sim, client);
        }
    }
}

/* ---- operators ---- */

/* All that is dead in a lane may come again. */
void broker_redrive(struct sim *sim, uint32_t lane)
{
    struct sim_lane *l = &sim->lanes[lane];
    const struct sim_topic *topic = &sim->topics[l->topic];

    for (uint64_t seq = l->begin; seq <= topic->durable && seq <= l->room;
         seq++) {
        if (l->copies[seq - 1].state != COPY_DEAD) {
            continue;
        }
        sim_line(sim, sim->driver, "redrive %s %s %llu %llu", l->group,
                 topic->name, (unsigned long long)seq, (unsigned long long)seq);
        change(sim, lane, seq, COPY_OPEN, 0);
        wait_again(sim, lane, seq);
        l->next = seq < l->next && l->ordered ? seq : l->next;
    }
}

/* ---- durable or not ---- */

void broker_sync(struct sim *sim)
{
    struct item item;

    for (uint32_t i = 0; i < sim->topic_count; i++) {
        struct sim_topic *topic = &sim->topics[i];
        while (topic->durable < topic->last) {
            const struct sim_message *m = &topic->messages[topic->durable++];
            sim->clients[m->producer].sent[m->counter - 1].durable = true;
        }
        if (topic->count_max != 0 && topic->durable > topic->count_max
            && topic->durable - topic->count_max + 1 > topic->first) {
            topic->first = topic->durable - topic->count_max + 1;
        }
    }
    sim->undo_count = 0;
    while (queue_take(&sim->answers, &item)) {
        struct client *c = &sim->clients[item.client];
        if (c->connected && c->epoch == item.epoch) {
            queue_push(&c->inbox, &item);
        }
    }
}

static void forget(struct sim *sim)
{
    while (sim->undo_count > 0) {
        const struct undo *undo = &sim->undos[--sim->undo_count];
        struct sim_copy *copy = sim_copy_at(&sim->lanes[undo->lane], undo->seq);
        copy->state = undo->state;
        copy->failures = undo->failures;
    }
    for (uint32_t i = 0; i < sim->topic_count; i++) {
        struct sim_topic *topic = &sim->topics[i];
        while (topic->last > topic->durable) {
            const struct sim_message *m = &topic->messages[--topic->last];
            sim->clients[m->producer].sent[m->counter - 1].seq = 0;
        }
    }
    sim->answers.count = sim->answers.first = 0;
}

/* What was in flight is new again, its attempt not counted. */
static void lane_restart(struct sim_lane *lane)
{
    lane->again.count = lane->again.first = 0;
    lane->held.count = lane->held.first = 0;
    for (size_t i = 0; i < lane->room; i++) {
        struct sim_copy *copy = &lane->copies[i];
        copy->waits = false;
        if (copy->state == COPY_IN_FLIGHT) {
            copy->state = COPY_OPEN;
        }
    }
    lane->next = lane->begin;
}

void broker_kill(struct sim *sim)
{
    const struct item lost = { .kind = ITEM_LOST };

    forget(sim);
    for (uint32_t i = 0; i < sim->lane_count; i++) {
        lane_restart(&sim->lanes[i]);
    }
    for (uint32_t i = 0; i < sim->client_count; i++) {
        struct client *c = &sim->clients[i];
        if (c->connected) {
            queue_push(&c->inbox, &lost);
        }
        c->connected = false;
        c->pulling = false;
        c->holds = 0;
        c->outbox.count = c->outbox.first = 0;
    }
    sim->up = false;
}

uint64_t broker_count(const struct sim_lane *lane,
                      const struct sim_topic *topic, enum copy_state state)
{
    uint64_t count = 0;

    for (uint64_t seq = lane->begin; seq <= topic->last; seq++) {
        enum copy_state is = seq <= lane->room
                                 ? (enum copy_state)lane->copies[seq - 1].state
                                 : COPY_OPEN;
        count += is == state;
    }
    return count;
}
