#include "test/history/sim.h"

#include <stdarg.h>
#include <stdlib.h>

uint64_t sim_random(struct sim *sim, uint64_t below)
{
    uint64_t x = sim->random += UINT64_C(0x9e3779b97f4a7c15); /* splitmix64 */

    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return (x ^ x >> 31) % below;
}

void sim_line(struct sim *sim, FILE *out, const char *format, ...)
{
    va_list args;

    sim->now_us += 1 + sim_random(sim, 8);
    sim->lines++;
    (void)fprintf(out, "%llu ", (unsigned long long)sim->now_us);
    va_start(args, format);
    (void)vfprintf(out, format, args);
    va_end(args);
    (void)fputc('\n', out);
}

/* ---- the set-up ---- */

static void add_topic(struct sim *sim, const char *tenant)
{
    struct sim_topic *topic = &sim->topics[sim->topic_count];
    uint64_t kind = sim->options.plain ? 5 : sim_random(sim, 6);

    topic->tenant = tenant;
    topic->first = 1;
    topic->count_max = kind == 0 ? 40 : 0;
    topic->ttl_us = kind == 1 ? 30000 : 0;
    (void)snprintf(topic->name, sizeof topic->name, "topic-%u",
                   (unsigned)sim->topic_count++);
    sim_line(sim, sim->driver, "topic %s %s %s %llu 0 %llu", topic->name,
             tenant, topic->count_max != 0 ? "limit" : "settled",
             (unsigned long long)topic->count_max,
             (unsigned long long)topic->ttl_us);
}

static void add_lane(struct sim *sim, const char *group, uint32_t topic,
                     bool latest, uint32_t attempts_max)
{
    struct sim_lane *lane = &sim->lanes[sim->lane_count++];

    (void)snprintf(lane->group, sizeof lane->group, "%s", group);
    lane->topic = topic;
    lane->latest = latest;
    lane->attempts_max = attempts_max;
    lane->asked_us = sim->now_us;
    lane->begin =
        latest ? sim->topics[topic].durable + 1 : sim->topics[topic].first;
    lane->next = lane->begin;
    lane->ordered = !sim->options.plain && sim_random(sim, 3) == 0;
    sim_line(sim, sim->driver, "group %s %s %s %s %llu %u %u%s", group,
             sim->topics[topic].tenant, sim->topics[topic].name,
             latest ? "latest" : "earliest", (unsigned long long)lane->asked_us,
             (unsigned)SIM_LEASE_US, (unsigned)attempts_max,
             lane->ordered ? " ordered" : "");
}

static void add_group(struct sim *sim, const char *name, uint32_t topic,
                      bool latest, enum role role)
{
    uint32_t attempts_max =
        !sim->options.plain && sim_random(sim, 3) == 0 ? 2 : 0;
    uint32_t lane = sim->lane_count;
    uint32_t members = 1 + (uint32_t)sim_random(sim, 2);

    add_lane(sim, name, topic, latest, attempts_max);
    if (topic == 0 && sim->topic_count > 1
        && sim->topics[1].tenant == sim->topics[0].tenant) {
        add_lane(sim, name, 1, latest, attempts_max);
    }
    for (uint32_t i = 0; i < members; i++) {
        (void)client_add(sim, role, lane, sim->lane_count - lane);
    }
}

static void set_up(struct sim *sim)
{
    uint64_t producers = 1 + sim_random(sim, 3);

    sim->driver = sim->options.open(sim->options.arg, "driver");
    sim_line(sim, sim->driver, "client driver");
    sim_line(sim, sim->driver, "param grace_us %u", (unsigned)SIM_GRACE_US);
    sim_line(sim, sim->driver, "param drain_us 10000000");
    sim->damage = !sim->options.plain && sim_random(sim, 6) == 0;
    if (sim->damage) {
        sim_line(sim, sim->driver, "param damage 1");
    }
    sim_line(sim, sim->driver, "up");
    add_topic(sim, "alpha");
    if (!sim->options.plain && sim_random(sim, 2) == 0) {
        add_topic(sim, sim_random(sim, 2) == 0 ? "alpha" : "beta");
    }
    add_group(sim, "push", 0, false, ROLE_PUSH);
    if (!sim->options.plain) {
        add_group(sim, "pull", 0, false, ROLE_PULL);
        add_group(sim, "other", sim->topic_count - 1, false, ROLE_PUSH);
    }
    for (uint64_t i = 0; i < producers; i++) {
        (void)client_add(sim, ROLE_PUBLISH, 0, 0);
    }
    sim->kills_in = 100 + (uint32_t)sim_random(sim, 2000)
                    + (uint32_t)(sim->options.events / 1000);
}

/* ---- one turn of everybody ---- */

static void accident(struct sim *sim)
{
    uint32_t client = (uint32_t)sim_random(sim, sim->client_count);

    if (sim->options.plain || sim->draining) {
        return;
    }
    if (sim_random(sim, sim->kills_in) == 0 && sim->up) {
        sim_line(sim, sim->driver, "kill");
        broker_kill(sim);
        return;
    }
    if (sim_random(sim, 400) == 0 && sim->up) {
        broker_redrive(sim, (uint32_t)sim_random(sim, sim->lane_count));
        return;
    }
    if (!sim->clients[client].alive) {
        return;
    }
    if (sim_random(sim, 3000) == 0 && sim->client_count + 8 < SIM_CLIENTS_MAX) {
        client_die(sim, client);
    } else if (sim_random(sim, 500) == 0) {
        client_leave(sim, client);
    }
}

static void turn(struct sim *sim)
{
    sim->now_us += sim_random(sim, sim->options.plain ? 300 : 6);
    for (uint32_t i = 0; i < sim->client_count; i++) {
        if (sim_random(sim, 4) != 0) {
            client_step(sim, i);
        }
        if (sim->up && sim_random(sim, 3) != 0) {
            broker_take(sim, i);
        }
    }
    if (!sim->up) {
        if (sim_random(sim, 20) == 0) {
            sim_line(sim, sim->driver, "up");
            sim->up = true;
        }
        return;
    }
    broker_deliver(sim);
    if (sim_random(sim, 4) == 0) {
        broker_sync(sim);
    }
    if (sim_random(sim, 8) == 0) {
        broker_expire(sim);
    }
    accident(sim);
}

/* ---- the end ---- */

static bool all_settled(const struct sim *sim)
{
    for (uint32_t i = 0; i < sim->lane_count; i++) {
        const struct sim_lane *lane = &sim->lanes[i];
        const struct sim_topic *topic = &sim->topics[lane->topic];
        if (topic->last != topic->durable || lane->next <= topic->durable
            || broker_count(lane, topic, COPY_OPEN) > 0
            || broker_count(lane, topic, COPY_IN_FLIGHT) > 0) {
            return false;
        }
    }
    return true;
}

/* A pull always waits for something. */
static bool at_rest(const struct client *c)
{
    return !c->alive || client_idle(c)
           || (c->role == ROLE_PULL && c->unanswered.count == 0
               && c->inbox.count == 0 && c->acks.last == 0);
}

static bool all_at_rest(const struct sim *sim)
{
    for (uint32_t i = 0; i < sim->client_count; i++) {
        if (!at_rest(&sim->clients[i])) {
            return false;
        }
    }
    return true;
}

static void drain(struct sim *sim)
{
    sim->draining = true;
    if (!sim->up) {
        sim_line(sim, sim->driver, "up");
        sim->up = true;
    }
    sim_line(sim, sim->driver, "drain");
    if (!sim->options.plain) {
        add_group(sim, "audit", 0, false, ROLE_PUSH);
    }
    for (unsigned turns = 0;; turns++) {
        turn(sim);
        broker_sync(sim);
        if (turns % 64 == 0 && all_settled(sim) && all_at_rest(sim)) {
            return;
        }
        if (turns > 200000 + sim->options.events) {
            history_die("the made-up broker does not drain");
        }
    }
}

static void end_clients(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->client_count; i++) {
        struct client *c = &sim->clients[i];
        if (!c->alive) {
            continue;
        }
        if (c->asked) {
            sim_line(sim, c->out, "pulled %u 0", (unsigned)c->session);
        }
        if (c->role != ROLE_PUBLISH && c->session > 0) {
            sim_line(sim, c->out, "leave %u", (unsigned)c->session);
        }
        sim_line(sim, c->out, "end");
    }
}

static void tell_ends(struct sim *sim, const struct sim_lane *lane,
                      const struct sim_topic *topic)
{
    for (uint64_t seq = lane->begin; seq <= topic->last && seq <= lane->room;
         seq++) {
        const struct sim_message *m = &topic->messages[seq - 1];
        const struct client *p = &sim->clients[m->producer];
        const struct sim_sent *sent = &p->sent[m->counter - 1];
        if (lane->copies[seq - 1].state == COPY_DEAD) {
            sim_line(sim, sim->driver, "dead %s %s %llu %u %s %s %llu k%u %llu",
                     lane->group, topic->name, (unsigned long long)seq,
                     (unsigned)lane->copies[seq - 1].failures,
                     lane->copies[seq - 1].rejected ? "reject" : "nacked",
                     p->name, (unsigned long long)m->counter,
                     (unsigned)sent->key, (unsigned long long)sent->hash);
        } else if (lane->copies[seq - 1].state == COPY_EXPIRED) {
            sim_line(sim, sim->driver, "expired %s %s %llu", lane->group,
                     topic->name, (unsigned long long)seq);
        }
    }
}

static void tell_books(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->topic_count; i++) {
        const struct sim_topic *topic = &sim->topics[i];
        sim_line(sim, sim->driver, "at %s %llu %llu %llu", topic->name,
                 (unsigned long long)topic->last,
                 (unsigned long long)topic->first,
                 (unsigned long long)topic->first);
    }
    for (uint32_t i = 0; i < sim->lane_count; i++) {
        const struct sim_lane *lane = &sim->lanes[i];
        const struct sim_topic *topic = &sim->topics[lane->topic];
        uint64_t n[COPY_STATES];
        tell_ends(sim, lane, topic);
        for (int state = 0; state < COPY_STATES; state++) {
            n[state] = broker_count(lane, topic, (enum copy_state)state);
        }
        sim_line(
            sim, sim->driver, "books %s %s %llu %llu %llu %llu %llu %llu 0 0 0",
            lane->group, topic->name,
            (unsigned long long)(topic->last + 1 - lane->begin),
            (unsigned long long)n[COPY_ACKED], (unsigned long long)n[COPY_DEAD],
            (unsigned long long)n[COPY_EXPIRED],
            (unsigned long long)n[COPY_DELETED],
            (unsigned long long)n[COPY_GAP]);
    }
}

static void sim_fini(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->client_count; i++) {
        free(sim->clients[i].inbox.items);
        free(sim->clients[i].outbox.items);
        free(sim->clients[i].unanswered.items);
        free(sim->clients[i].sent);
    }
    for (uint32_t i = 0; i < sim->lane_count; i++) {
        free(sim->lanes[i].copies);
        free(sim->lanes[i].again.items);
        free(sim->lanes[i].held.items);
    }
    for (uint32_t i = 0; i < sim->topic_count; i++) {
        free(sim->topics[i].messages);
    }
    free(sim->answers.items);
    free(sim->undos);
    free(sim->clients);
}

void generate(const struct generate_options *options)
{
    struct sim sim = { .options = *options,
                       .random = options->seed * 2 + 1,
                       .now_us = 1000000,
                       .up = true };
    bool late = false;

    sim.clients = calloc(SIM_CLIENTS_MAX, sizeof *sim.clients);
    if (sim.clients == NULL) {
        history_die("out of memory");
    }
    set_up(&sim);
    while (sim.lines < options->events) {
        turn(&sim);
        if (!late && !options->plain && sim.up
            && sim.lines > options->events / 3) {
            add_group(&sim, "late", 0, true, ROLE_PUSH);
            late = true;
        }
    }
    drain(&sim);
    sim_line(&sim, sim.driver, "drained");
    end_clients(&sim);
    tell_books(&sim);
    sim_line(&sim, sim.driver, "end");
    sim_fini(&sim);
}
