#include "test/history/sim.h"

static const char *const action_words[] = { "ack", "nack", "release", "extend",
                                            "reject" };

static const char *topic_of(const struct sim *sim, uint32_t lane)
{
    return sim->topics[sim->lanes[lane].topic].name;
}

uint32_t client_add(struct sim *sim, enum role role, uint32_t lane,
                    uint32_t lane_count)
{
    static const char *const words[] = { "pub", "push", "pull" };
    uint32_t number = sim->client_count++;
    struct client *c;

    if (number == SIM_CLIENTS_MAX) {
        history_die("too many made-up clients");
    }
    c = &sim->clients[number];
    c->role = role;
    c->group = lane;
    c->lane_count = lane_count;
    c->alive = true;
    (void)snprintf(c->name, sizeof c->name, "%s-%u", words[role],
                   (unsigned)number);
    c->out = sim->options.open(sim->options.arg, c->name);
    sim_line(sim, c->out, "client %s", c->name);
    return number;
}

/* ---- a producer ---- */

static void publish_new(struct sim *sim, struct client *c)
{
    struct sim_sent *sent;
    struct item item = { .kind = ITEM_PUBLISH };
    char due[32] = "";

    c->sent = grown(c->sent, &c->sent_room, c->sent_count + 1, sizeof *c->sent);
    sent = &c->sent[c->sent_count++];
    sent->topic = (uint32_t)sim_random(sim, sim->topic_count);
    sent->key = (uint32_t)sim_random(sim, SIM_KEYS);
    sent->hash = sim_random(sim, UINT64_MAX);
    sent->refused = !sim->options.plain && sim_random(sim, 100) == 0;
    if (!sim->options.plain && sim_random(sim, 10) == 0) {
        sent->due_us = sim->now_us + 100 + sim_random(sim, SIM_DELAY_US);
        (void)snprintf(due, sizeof due, " %llu",
                       (unsigned long long)sent->due_us);
    }
    sim_line(sim, c->out, "send %s %llu %s k%u %llu%s", c->name,
             (unsigned long long)c->sent_count, sim->topics[sent->topic].name,
             (unsigned)sent->key, (unsigned long long)sent->hash, due);
    item.first = c->sent_count;
    queue_push(&c->outbox, &item);
    c->resend = c->sent_count;
}

/* No lane is far behind, so that the end is not all draining. */
static bool keeps_up(const struct sim *sim)
{
    for (uint32_t i = 0; i < sim->lane_count; i++) {
        const struct sim_lane *lane = &sim->lanes[i];
        if (sim->topics[lane->topic].last > lane->next + SIM_BACKLOG) {
            return false;
        }
    }
    return true;
}

static void publish_step(struct sim *sim, struct client *c)
{
    struct item item = { .kind = ITEM_PUBLISH };

    if (!c->connected) {
        c->connected = sim->up;
        c->epoch += sim->up;
        c->resend = c->answered;
        return;
    }
    if (c->resend < c->sent_count) { /* in order, before anything new */
        item.first = ++c->resend;
        queue_push(&c->outbox, &item);
    } else if (!sim->draining && c->sent_count - c->answered < SIM_WINDOW
               && keeps_up(sim)) {
        publish_new(sim, c);
    }
}

static void take_answer(struct sim *sim, struct client *c,
                        const struct item *item)
{
    c->answered = item->first;
    if (item->kind == ITEM_REFUSE) {
        sim_line(sim, c->out, "no %s %llu 4", c->name,
                 (unsigned long long)item->first);
        return;
    }
    sim_line(sim, c->out, "ok %s %llu %llu %d", c->name,
             (unsigned long long)item->first, (unsigned long long)item->last,
             item->duplicate);
}

/* ---- a subscriber ---- */

static void settle(struct sim *sim, struct client *c, const struct item *item)
{
    if (item->action == SIM_EXTEND) {
        sim_line(sim, c->out, "settle %u extend %s %llu %llu %u",
                 (unsigned)c->session, topic_of(sim, item->lane),
                 (unsigned long long)item->first,
                 (unsigned long long)item->last, (unsigned)SIM_LEASE_US);
    } else {
        sim_line(sim, c->out, "settle %u %s %s %llu %llu", (unsigned)c->session,
                 action_words[item->action], topic_of(sim, item->lane),
                 (unsigned long long)item->first,
                 (unsigned long long)item->last);
    }
    queue_push(&c->outbox, item);
    for (uint64_t seq = item->first; seq <= item->last; seq++) {
        struct item one = *item;
        one.first = one.last = seq;
        queue_push(&c->unanswered, &one);
    }
}

static void flush_acks(struct sim *sim, struct client *c)
{
    if (c->acks.last != 0) {
        settle(sim, c, &c->acks);
        c->acks.last = 0;
    }
}

static void gather_ack(struct sim *sim, struct client *c, uint32_t lane,
                       uint64_t seq)
{
    if (c->acks.last != 0 && c->acks.lane == lane && c->acks.last + 1 == seq) {
        c->acks.last = seq;
        return;
    }
    flush_acks(sim, c);
    c->acks = (struct item) { .kind = ITEM_SETTLE,
                              .action = SIM_ACK,
                              .lane = lane,
                              .first = seq,
                              .last = seq };
}

static void decide(struct sim *sim, struct client *c, const struct item *item)
{
    uint64_t dice = sim_random(sim, 1000);
    struct item order = { .kind = ITEM_SETTLE, .lane = item->lane };

    order.first = order.last = item->first;
    if (sim->draining || sim->options.plain || dice < 900) {
        gather_ack(sim, c, item->lane, item->first);
        return;
    }
    order.action = dice < 950   ? SIM_NACK
                   : dice < 970 ? SIM_RELEASE
                   : dice < 975 ? SIM_REJECT
                                : SIM_EXTEND;
    if (dice < 990) { /* else it does nothing, and the lease ends */
        flush_acks(sim, c);
        settle(sim, c, &order);
    }
}

static void take_delivery(struct sim *sim, struct client *c,
                          const struct item *item)
{
    const struct sim_topic *topic = &sim->topics[sim->lanes[item->lane].topic];
    const struct sim_message *m = &topic->messages[item->first - 1];
    const struct client *p = &sim->clients[m->producer];
    const struct sim_sent *sent = &p->sent[m->counter - 1];

    sim_line(sim, c->out, "got %u %s %llu %u %s %llu k%u %llu",
             (unsigned)c->session, topic->name, (unsigned long long)item->first,
             (unsigned)item->attempt, p->name, (unsigned long long)m->counter,
             (unsigned)sent->key, (unsigned long long)sent->hash);
    if (c->role == ROLE_PUSH) {
        decide(sim, c, item);
    } else { /* a pull decides when it has them all */
        queue_push(&c->unanswered, item);
    }
}

static void take_pulled(struct sim *sim, struct client *c,
                        const struct item *item)
{
    struct item one;

    c->asked = false;
    sim_line(sim, c->out, "pulled %u %llu", (unsigned)c->session,
             (unsigned long long)item->first);
    for (uint64_t i = 0; i < item->first && queue_take(&c->unanswered, &one);
         i++) {
        if (one.kind == ITEM_DELIVER) {
            decide(sim, c, &one);
        }
    }
    flush_acks(sim, c);
}

static void take_outcome(struct sim *sim, struct client *c,
                         const struct item *item)
{
    struct item one;

    if (queue_take(&c->unanswered, &one)) {
        sim_line(sim, c->out, "outcome %u %s %llu %llu %s",
                 (unsigned)c->session, topic_of(sim, item->lane),
                 (unsigned long long)item->first,
                 (unsigned long long)item->last,
                 item->accepted ? "accepted" : "late");
    }
}

static void take_lost(struct sim *sim, struct client *c)
{
    struct item one;

    if (c->role == ROLE_PUBLISH) {
        return;
    }
    if (c->asked) {
        sim_line(sim, c->out, "pulled %u 0", (unsigned)c->session);
    }
    c->asked = false;
    while (queue_take(&c->unanswered, &one)) {
        sim_line(sim, c->out, "outcome %u %s %llu %llu unsure",
                 (unsigned)c->session, topic_of(sim, one.lane),
                 (unsigned long long)one.first, (unsigned long long)one.last);
    }
    c->acks.last = 0;
    sim_line(sim, c->out, "lost %u", (unsigned)c->session);
}

static void ask(struct sim *sim, struct client *c)
{
    sim_line(sim, c->out, "pull %u", (unsigned)c->session);
    queue_push(&c->outbox, &(struct item) { .kind = ITEM_PULL });
    c->asked = true;
}

static void attach(struct sim *sim, struct client *c)
{
    const struct sim_lane *lane = &sim->lanes[c->group];

    c->connected = true;
    c->epoch++;
    c->session++;
    c->outbox.count = c->outbox.first = 0;
    sim_line(sim, c->out, "attach %u %s %s %s", (unsigned)c->session,
             lane->group, sim->topics[lane->topic].tenant,
             c->role == ROLE_PULL ? "pull" : "push");
    if (c->role == ROLE_PULL) {
        ask(sim, c);
    }
}

static void subscribe_step(struct sim *sim, struct client *c)
{
    if (!c->connected) {
        if (sim->up) {
            attach(sim, c);
        }
        return;
    }
    flush_acks(sim, c);
}

static void pull_again(struct sim *sim, struct client *c)
{
    if (c->role == ROLE_PULL && c->connected && c->unanswered.count == 0
        && !c->asked) {
        ask(sim, c);
    }
}

/* ---- both ---- */

static void take_item(struct sim *sim, struct client *c,
                      const struct item *item)
{
    switch (item->kind) {
    case ITEM_CONFIRM:
    case ITEM_REFUSE:
        take_answer(sim, c, item);
        break;
    case ITEM_DELIVER:
        take_delivery(sim, c, item);
        break;
    case ITEM_GAP:
        sim_line(sim, c->out, "gap %u %s %llu %llu", (unsigned)c->session,
                 topic_of(sim, item->lane), (unsigned long long)item->first,
                 (unsigned long long)item->last);
        break;
    case ITEM_OUTCOME:
        take_outcome(sim, c, item);
        pull_again(sim, c);
        break;
    case ITEM_PULLED:
        take_pulled(sim, c, item);
        pull_again(sim, c);
        break;
    case ITEM_LOST:
        take_lost(sim, c);
        break;
    case ITEM_PUBLISH:
    case ITEM_SETTLE:
    case ITEM_LEAVE:
    case ITEM_PULL:
        history_die("the made-up broker sent a request");
    }
}

void client_step(struct sim *sim, uint32_t client)
{
    struct client *c = &sim->clients[client];
    struct item item;

    if (!c->alive) {
        return;
    }
    if (queue_take(&c->inbox, &item)) {
        take_item(sim, c, &item);
    } else if (c->role == ROLE_PUBLISH) {
        publish_step(sim, c);
    } else {
        subscribe_step(sim, c);
    }
}

/* Nothing is on its way to or from it. */
bool client_idle(const struct client *c)
{
    return c->inbox.count == 0 && c->outbox.count == 0
           && c->unanswered.count == 0 && c->acks.last == 0
           && c->answered == c->sent_count;
}

/* Of a pushed one: what it has not read goes back, and it comes again later. */
void client_leave(struct sim *sim, uint32_t client)
{
    struct client *c = &sim->clients[client];

    if (c->role != ROLE_PUSH || !c->connected || c->unanswered.count > 0
        || c->acks.last != 0) {
        return;
    }
    sim_line(sim, c->out, "leave %u", (unsigned)c->session);
    c->inbox.count = c->inbox.first = 0;
    broker_drop(sim, client);
    c->connected = false;
}

void client_die(struct sim *sim, uint32_t client)
{
    struct client *c = &sim->clients[client];
    enum role role = c->role;
    uint32_t lane = c->group;
    uint32_t lane_count = c->lane_count;

    sim_line(sim, sim->driver, "dying %s", c->name);
    if (role == ROLE_PUSH) {
        broker_drop(sim, client);
    }
    c->alive = c->connected = false;
    (void)client_add(sim, role, lane, lane_count);
}
