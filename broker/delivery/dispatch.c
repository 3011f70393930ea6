/* The way of a message here:
 *
 *   dispatch_commit   a batch is durable: each run extends its topic's lanes and
 *                     puts their groups on the ready list
 *   dispatch_pump     ready groups in turn: group_next() says who gets what, the
 *                     store gives the message, deliveries are gathered per member
 *                     and topic and given out together
 *   dispatch_settle   outcomes; what must survive becomes an effect of the group
 *   dispatch_log      effects become records in the submission ring
 */
#include "broker/delivery/dispatch.h"

#include "broker/log.h"
#include "proto/limits.h"

#include <stdlib.h>

enum {
    GATHER_COUNT = 256,         /* deliveries given out together */
    GATHER_BYTES = 56 * 1024,   /* so that a frame's header stays short */
    PUMP_GROUP_MESSAGES = 1024, /* one group's share of a turn */
    PUMP_MESSAGES = 8192,       /* all of them */
    TICK_MOVES = 4096
};

/* A topic as this worker sees it; hangs on the catalog's entry. */
struct topic_state {
    uint32_t id;
    uint64_t last_seq; /* durable */
    struct lane_reader *lanes;
};

/* Where a group stands on a topic, for reading; the group's lane has the rest. */
struct lane_reader {
    struct group_run *run;
    struct topic_state *topic;
    const char *topic_name; /* the catalog's */
    struct store_cursor cursor;
    struct lane_reader *next; /* of the topic */
};

/* A group of this worker; hangs on the catalog's entry. */
struct group_run {
    struct group *group;
    const struct group_fact *fact;
    struct member **members;
    size_t member_count;
    size_t member_capacity;
    bool ready;   /* on the ready list */
    bool changed; /* on the changed list */
    bool starved; /* stopped because the in-flight budget was used up */
    struct group_run *next_ready;
    struct group_run *next_changed;
    struct group_run *next; /* of all */
    struct group_run *previous;
};

struct dispatch {
    struct dispatch_config config;
    struct catalog *catalog;
    struct store_view *view;
    struct inflight *inflight;
    struct group_run *groups;
    struct group_run *ready_first;
    struct group_run *ready_last;
    struct group_run *changed;
    bool loading;          /* lanes come later, from the store */
    bool failed;           /* memory ran out while loading */
    bool any_starved;
    bool read_error_told;
    uint64_t due_us;       /* at or before the earliest of the groups */
    /* gathered for one member and topic */
    struct wire_delivery gathered[GATHER_COUNT];
    size_t gathered_count;
    size_t gathered_bytes;
    void *gathered_member;
    const struct lane_reader *gathered_lane;
    struct bytes scratch; /* a record body in the making */
};

/* ---- lists ---- */

static void mark_ready(struct dispatch *d, struct group_run *run)
{
    if (run->ready) {
        return;
    }
    run->ready = true;
    run->next_ready = NULL;
    if (d->ready_last == NULL) {
        d->ready_first = run;
    } else {
        d->ready_last->next_ready = run;
    }
    d->ready_last = run;
}

static struct group_run *take_ready(struct dispatch *d)
{
    struct group_run *run = d->ready_first;

    if (run != NULL) {
        d->ready_first = run->next_ready;
        if (d->ready_first == NULL) {
            d->ready_last = NULL;
        }
        run->ready = false;
    }
    return run;
}

static void mark_changed(struct dispatch *d, struct group_run *run)
{
    if (!run->changed && group_has_effects(run->group)) {
        run->changed = true;
        run->next_changed = d->changed;
        d->changed = run;
    }
}

static void note_due(struct dispatch *d, const struct group_run *run)
{
    uint64_t due = group_due_us(run->group);

    if (due < d->due_us) {
        d->due_us = due;
    }
}

/* Something about the group moved: see what follows from it. */
static void touched(struct dispatch *d, struct group_run *run)
{
    mark_ready(d, run);
    mark_changed(d, run);
    note_due(d, run);
    if (d->any_starved && inflight_has_room(d->inflight)) {
        d->any_starved = false;
        for (struct group_run *r = d->groups; r != NULL; r = r->next) {
            if (r->starved) {
                r->starved = false;
                mark_ready(d, r);
            }
        }
    }
}

static void unlink_from_lists(struct dispatch *d, struct group_run *run)
{
    struct group_run **at = &d->changed;

    for (; *at != NULL; at = &(*at)->next_changed) {
        if (*at == run) {
            *at = run->next_changed;
            break;
        }
    }
    if (run->ready) {
        struct group_run *previous = NULL;
        struct group_run *r = d->ready_first;
        while (r != run) {
            previous = r;
            r = r->next_ready;
        }
        if (previous == NULL) {
            d->ready_first = run->next_ready;
        } else {
            previous->next_ready = run->next_ready;
        }
        if (d->ready_last == run) {
            d->ready_last = previous;
        }
    }
    if (run->previous != NULL) {
        run->previous->next = run->next;
    } else {
        d->groups = run->next;
    }
    if (run->next != NULL) {
        run->next->previous = run->previous;
    }
}

/* ---- lanes ---- */

static struct lane_reader *lane_reader_new(struct group_run *run,
                                           struct topic *topic)
{
    struct lane_reader *lane = calloc(1, sizeof *lane);
    struct topic_state *state = topic->user;

    if (lane == NULL) {
        return NULL;
    }
    lane->run = run;
    lane->topic = state;
    lane->topic_name = topic->name;
    lane->next = state->lanes;
    state->lanes = lane;
    return lane;
}

static void lane_reader_free(struct lane_reader *lane)
{
    struct lane_reader **at = &lane->topic->lanes;

    while (*at != lane) {
        at = &(*at)->next;
    }
    *at = lane->next;
    free(lane);
}

/* `acked` may be NULL; what the group never was to get counts as settled. */
static enum status add_lane(struct dispatch *d, struct group_run *run,
                            struct topic *topic, struct lane_start *start)
{
    struct topic_state *state = topic->user;
    uint64_t after = group_starts_after(run->fact, topic->id);
    struct seqset skipped = { 0 };
    struct seqset *acked = start->acked == NULL
                               ? &skipped
                               : (struct seqset *)(uintptr_t)start->acked;
    struct lane_reader *lane = lane_reader_new(run, topic);
    enum status status = lane == NULL ? STATUS_NOMEM : STATUS_OK;

    if (status == STATUS_OK && after > 0) {
        status = seqset_add(acked, 1, after, NULL);
    }
    if (status == STATUS_OK) {
        start->topic = topic->id;
        start->end = state->last_seq;
        start->acked = acked;
        start->user = lane;
        status = group_add_lane(run->group, start);
    }
    if (status != STATUS_OK && lane != NULL) {
        lane_reader_free(lane);
    }
    seqset_fini(&skipped);
    if (status == STATUS_OK) {
        touched(d, run);
    }
    return status;
}

static void add_fresh_lane(struct dispatch *d, struct group_run *run,
                           struct topic *topic)
{
    struct lane_start start = { 0 };

    if (group_lane_user(run->group, topic->id) != NULL
        || !group_takes_topic(run->fact, slice_text(topic->name))) {
        return;
    }
    if (add_lane(d, run, topic, &start) != STATUS_OK) {
        d->failed = true;
        log_error("lane not made group=%s topic=%s reason=\"out of memory\"",
                  run->fact->name, topic->name);
    }
}

/* ---- the catalog's changes ---- */

static void on_topic_added(void *arg, struct topic *topic)
{
    struct dispatch *d = arg;
    struct topic_state *state = calloc(1, sizeof *state);

    if (state == NULL) {
        d->failed = true;
        log_error("topic not served topic=%s reason=\"out of memory\"",
                  topic->name);
        return;
    }
    state->id = topic->id;
    topic->user = state;
    if (d->loading) {
        return;
    }
    for (struct group_run *run = d->groups; run != NULL; run = run->next) {
        add_fresh_lane(d, run, topic);
    }
}

static void on_topic_gone(void *arg, struct topic *topic)
{
    struct topic_state *state = topic->user;
    struct dispatch *d = arg;

    if (state == NULL) {
        return;
    }
    while (state->lanes != NULL) {
        struct lane_reader *lane = state->lanes;
        group_drop_lane(lane->run->group, topic->id);
        touched(d, lane->run);
        lane_reader_free(lane);
    }
    free(state);
    topic->user = NULL;
}

struct lanes_of {
    struct dispatch *dispatch;
    struct group_run *run;
};

static void add_lane_of(void *arg, struct topic *topic)
{
    struct lanes_of *of = arg;

    if (topic->user != NULL) {
        add_fresh_lane(of->dispatch, of->run, topic);
    }
}

size_t dispatch_owner(const struct dispatch *d, const struct group_fact *group)
{
    return group->id % d->config.worker_count;
}

static void on_group_added(void *arg, struct group_fact *fact)
{
    struct dispatch *d = arg;
    struct group_run *run;
    const struct group_config config = {
        .id = fact->id,
        .lease_us = fact->lease_ms * 1000,
        .in_flight_max = SIZE_MAX,
        .seed = d->config.seed + fact->id,
        .inflight = d->inflight,
    };

    if (dispatch_owner(d, fact) != d->config.worker) {
        return;
    }
    run = calloc(1, sizeof *run);
    if (run != NULL) {
        run->group = group_new(&config);
    }
    if (run == NULL || run->group == NULL) {
        free(run);
        d->failed = true;
        log_error("group not served group=%s reason=\"out of memory\"",
                  fact->name);
        return;
    }
    run->fact = fact;
    run->next = d->groups;
    if (d->groups != NULL) {
        d->groups->previous = run;
    }
    d->groups = run;
    fact->user = run;
    if (!d->loading) {
        struct lanes_of of = { d, run };
        catalog_each_topic(d->catalog, add_lane_of, &of);
    }
}

static void free_reader(void *arg, uint32_t topic, void *user)
{
    (void)arg;
    (void)topic;
    lane_reader_free(user);
}

static void group_run_free(struct dispatch *d, struct group_run *run)
{
    unlink_from_lists(d, run);
    group_each_lane(run->group, free_reader, NULL);
    group_free(run->group);
    free(run->members);
    free(run);
}

static void forget_member(struct group_run *run, const struct member *member)
{
    for (size_t i = 0; i < run->member_count; i++) {
        if (run->members[i] == member) {
            run->members[i] = run->members[--run->member_count];
            return;
        }
    }
}

static void on_group_gone(void *arg, struct group_fact *fact)
{
    struct dispatch *d = arg;
    struct group_run *run = fact->user;

    if (run == NULL) {
        return;
    }
    while (run->member_count > 0) {
        struct member *member = run->members[0];
        void *user = member_user(member);
        forget_member(run, member);
        group_leave(run->group, member, 0);
        d->config.out.evicted(user, "the group was deleted");
    }
    group_run_free(d, run);
    fact->user = NULL;
}

static void on_app_gone(void *arg, const struct app *app)
{
    /* Its sessions find out at their next request. */
    (void)arg;
    (void)app;
}

/* ---- start ---- */

static void load_fact(void *arg, const struct record_fact *fact)
{
    struct dispatch *d = arg;

    if (catalog_apply(d->catalog, fact) != STATUS_OK) {
        log_error("catalog entry unreadable class=%d id=%u", (int)fact->class,
                  fact->id);
    }
}

static void load_topic(void *arg, uint32_t id, uint64_t last_seq)
{
    struct dispatch *d = arg;
    struct topic *topic = catalog_topic_by_id(d->catalog, id);

    if (topic != NULL && topic->user != NULL) {
        struct topic_state *state = topic->user;
        state->last_seq = last_seq;
    }
}

/* A due time of the log's wall clock on the monotonic one. A wall clock that
 * jumped can neither hold a message back for ever nor lose it. */
static uint64_t due_from_wall(const struct dispatch *d, uint64_t due_wall_us)
{
    uint64_t wait;

    if (due_wall_us <= d->config.wall_us) {
        return d->config.now_us;
    }
    wait = due_wall_us - d->config.wall_us;
    if (wait > (uint64_t)DELAY_MS_MAX * 1000) {
        wait = (uint64_t)DELAY_MS_MAX * 1000;
    }
    return d->config.now_us + wait;
}

static enum status copy_set(struct seqset *to, const struct seqset *from)
{
    const struct seq_range *ranges = seqset_ranges(from);
    enum status status = STATUS_OK;

    for (size_t i = 0;
         status == STATUS_OK && i < seqset_range_count(from); i++) {
        status = seqset_add(to, ranges[i].first, ranges[i].last, NULL);
    }
    return status;
}

static void load_lane(void *arg, const struct store_lane *stored)
{
    struct dispatch *d = arg;
    struct topic *topic = catalog_topic_by_id(d->catalog, stored->topic);
    struct group_fact *fact = catalog_group_by_id(d->catalog, stored->group);
    struct seqset acked = { 0 };
    struct retry *retries = NULL;
    struct lane_start start = { .gaps = stored->gaps,
                                .retry_count = stored->retry_count };

    if (topic == NULL || topic->user == NULL || fact == NULL
        || fact->user == NULL) {
        return; /* deleted, or another worker's */
    }
    retries = calloc(stored->retry_count + 1, sizeof *retries);
    if (retries == NULL || copy_set(&acked, stored->acked) != STATUS_OK) {
        d->failed = true;
        goto done;
    }
    for (size_t i = 0; i < stored->retry_count; i++) {
        retries[i] = stored->retries[i];
        retries[i].due_us = due_from_wall(d, retries[i].due_us);
    }
    start.acked = &acked;
    start.retries = retries;
    if (add_lane(d, fact->user, topic, &start) != STATUS_OK) {
        d->failed = true;
    }
done:
    free(retries);
    seqset_fini(&acked);
}

static enum status load(struct dispatch *d, struct error *err)
{
    struct store *store = d->config.store;
    enum status status;

    d->loading = true;
    status = store_each_fact(store, load_fact, d);
    if (status == STATUS_OK) {
        status = store_each_topic(store, load_topic, d);
    }
    if (status == STATUS_OK) {
        status = store_each_lane(store, load_lane, d);
    }
    d->loading = false;
    if (status != STATUS_OK) {
        return error_set(err, status, 0, "reading the keydir: %s",
                         status_text(status));
    }
    for (struct group_run *run = d->groups; run != NULL; run = run->next) {
        struct lanes_of of = { d, run };
        catalog_each_topic(d->catalog, add_lane_of, &of);
    }
    return d->failed ? error_set(err, STATUS_NOMEM, 0, "loading the groups")
                     : STATUS_OK;
}

enum status dispatch_new(struct dispatch **out,
                         const struct dispatch_config *config,
                         struct error *err)
{
    struct dispatch *d = calloc(1, sizeof *d);
    const struct inflight_config inflight
        = { .heap_bytes = config->in_flight_bytes, .now_us = config->now_us };
    const struct catalog_watch watch = {
        .topic_added = on_topic_added,
        .topic_gone = on_topic_gone,
        .group_added = on_group_added,
        .group_gone = on_group_gone,
        .app_gone = on_app_gone,
        .arg = d,
    };
    enum status status;

    if (d == NULL) {
        return error_set(err, STATUS_NOMEM, 0, "dispatch");
    }
    d->config = *config;
    d->due_us = UINT64_MAX;
    d->catalog = catalog_new();
    d->inflight = inflight_new(&inflight);
    if (d->catalog == NULL || d->inflight == NULL) {
        dispatch_free(d);
        return error_set(err, STATUS_NOMEM, 0, "dispatch");
    }
    catalog_set_watch(d->catalog, &watch);
    status = store_view_open(&d->view, config->store, err);
    if (status == STATUS_OK) {
        status = load(d, err);
    }
    if (status != STATUS_OK) {
        dispatch_free(d);
        return status;
    }
    *out = d;
    return STATUS_OK;
}

static void free_topic_state(void *arg, struct topic *topic)
{
    (void)arg;
    free(topic->user);
    topic->user = NULL;
}

void dispatch_free(struct dispatch *d)
{
    if (d == NULL) {
        return;
    }
    while (d->groups != NULL) {
        struct group_run *run = d->groups;
        while (run->member_count > 0) {
            struct member *member = run->members[0];
            forget_member(run, member);
            group_leave(run->group, member, 0);
        }
        group_run_free(d, run);
    }
    if (d->catalog != NULL) {
        catalog_each_topic(d->catalog, free_topic_state, NULL);
    }
    catalog_free(d->catalog);
    inflight_free(d->inflight);
    store_view_close(d->view);
    bytes_fini(&d->scratch);
    free(d);
}

struct catalog *dispatch_catalog(const struct dispatch *d)
{
    return d->catalog;
}

uint64_t dispatch_last_seq(const struct topic *topic)
{
    const struct topic_state *state = topic->user;

    return state == NULL ? 0 : state->last_seq;
}

/* ---- commits ---- */

static void on_run(void *arg, const struct store_run *run)
{
    struct dispatch *d = arg;
    struct topic *topic = catalog_topic_by_id(d->catalog, run->topic);
    struct topic_state *state = topic == NULL ? NULL : topic->user;

    if (state == NULL) {
        return; /* deleted meanwhile */
    }
    state->last_seq = run->first_seq + run->count - 1;
    for (struct lane_reader *lane = state->lanes; lane != NULL;
         lane = lane->next) {
        group_extend(lane->run->group, run->topic, state->last_seq);
        mark_ready(d, lane->run);
    }
}

static void on_fact(void *arg, const struct record_fact *fact, uint32_t app)
{
    struct dispatch *d = arg;

    (void)app;
    if (catalog_apply(d->catalog, fact) != STATUS_OK) {
        log_error("catalog entry unreadable class=%d id=%u", (int)fact->class,
                  fact->id);
    }
}

void dispatch_commit(struct dispatch *d, const struct store_commit *commit)
{
    const struct store_visitor visitor
        = { .run = on_run, .fact = on_fact, .arg = d };
    enum status status = store_view_commit(d->view, commit, &visitor);

    if (status != STATUS_OK) {
        log_error("commit not readable segment=%u offset=%u reason=\"%s\"",
                  commit->segment, commit->offset, status_text(status));
    }
}

/* ---- the pump ---- */

static void give_out(struct dispatch *d)
{
    if (d->gathered_count == 0) {
        return;
    }
    d->config.out.deliver(d->gathered_member, d->gathered_lane->topic_name,
                          d->gathered, d->gathered_count);
    metric_add(&d->config.metrics->delivered_messages, d->gathered_count);
    metric_add(&d->config.metrics->delivered_bytes, d->gathered_bytes);
    d->gathered_count = 0;
    d->gathered_bytes = 0;
}

static void gather(struct dispatch *d, const struct offer *offer,
                   const struct record *record)
{
    void *member = member_user(offer->member);

    if (d->gathered_count == GATHER_COUNT || d->gathered_member != member
        || d->gathered_lane != offer->lane_user
        || d->gathered_bytes + record->body.len > GATHER_BYTES) {
        give_out(d);
        d->gathered_member = member;
        d->gathered_lane = offer->lane_user;
    }
    d->gathered[d->gathered_count++] = (struct wire_delivery){
        .seq = offer->seq,
        .attempt = offer->attempt,
        .time_us = record->time_us,
        .message = record->body,
    };
    d->gathered_bytes += record->body.len;
    if (offer->attempt > 1) {
        metric_add(&d->config.metrics->redelivered_messages, 1);
    }
}

/* The store has lost seq..last: tell the member, and go on behind it. */
static void lose(struct dispatch *d, struct group_run *run,
                 const struct offer *offer, uint64_t last)
{
    const struct lane_reader *lane = offer->lane_user;

    give_out(d);
    log_error("gap topic=%s group=%s first=%llu last=%llu "
              "reason=\"damaged on disk\"",
              lane->topic_name, run->fact->name,
              (unsigned long long)offer->seq, (unsigned long long)last);
    metric_add(&d->config.metrics->gap_messages, last - offer->seq + 1);
    d->config.out.gap(member_user(offer->member), lane->topic_name,
                      (struct seq_range){ offer->seq, last });
    group_lost(run->group, offer, last);
}

static void missing(struct dispatch *d, struct group_run *run,
                    const struct offer *offer, uint64_t next_seq)
{
    const struct lane_reader *lane = offer->lane_user;
    uint64_t last = next_seq > offer->seq ? next_seq - 1 : lane->topic->last_seq;

    lose(d, run, offer, last < offer->seq ? offer->seq : last);
}

/* One message for one member. False: stop with this group for now. */
static bool pump_one(struct dispatch *d, struct group_run *run,
                     const struct offer *offer, uint64_t now_us)
{
    struct lane_reader *lane = offer->lane_user;
    struct record record;
    uint64_t next_seq = 0;
    enum status status;

    if (d->gathered_count == 0
        && d->config.out.congested(member_user(offer->member))) {
        member_pause(offer->member, true);
        return true;
    }
    status = store_view_message(d->view, &lane->cursor, offer->topic, offer->seq,
                                &record, &next_seq);
    if (status == STATUS_OK) {
        if (group_delivered(run->group, offer, record.body.len, now_us)
            != STATUS_OK) {
            run->starved = true;
            d->any_starved = true;
            return false;
        }
        gather(d, offer, &record);
        return true;
    }
    if (status == STATUS_CORRUPT) {
        lose(d, run, offer, offer->seq);
        return true;
    }
    if (status == STATUS_NOT_FOUND) {
        missing(d, run, offer, next_seq);
        return true;
    }
    if (!d->read_error_told) {
        d->read_error_told = true;
        log_error("message not readable topic=%s seq=%llu reason=\"%s\"",
                  lane->topic_name, (unsigned long long)offer->seq,
                  status_text(status));
    }
    return false;
}

/* True: it used up its share and may have more. */
static bool pump_group(struct dispatch *d, struct group_run *run,
                       uint64_t now_us)
{
    struct offer offer;
    size_t budget = PUMP_GROUP_MESSAGES;
    bool more = true;

    while (budget > 0 && more && group_next(run->group, now_us, &offer)) {
        more = pump_one(d, run, &offer, now_us);
        budget--;
    }
    give_out(d);
    d->gathered_member = NULL;
    mark_changed(d, run);
    note_due(d, run);
    return budget == 0;
}

bool dispatch_pump(struct dispatch *d, uint64_t now_us)
{
    size_t rounds = PUMP_MESSAGES / PUMP_GROUP_MESSAGES;
    struct group_run *again[PUMP_MESSAGES / PUMP_GROUP_MESSAGES];
    size_t again_count = 0;
    struct group_run *run;

    /* Groups with little to do cost no round. */
    while (rounds > 0 && (run = take_ready(d)) != NULL) {
        if (pump_group(d, run, now_us)) {
            again[again_count++] = run;
            rounds--;
        }
    }
    for (size_t i = 0; i < again_count; i++) {
        mark_ready(d, again[i]);
    }
    return d->ready_first != NULL;
}

/* ---- effects ---- */

struct logging {
    struct dispatch *dispatch;
    struct group_run *run;
    struct submission *to;
    uint64_t now_us;
    uint64_t wall_us;
};

/* The body is in the scratch buffer. Room was looked for before. */
static void submit(struct logging *log, enum record_kind kind)
{
    struct bytes *body = &log->dispatch->scratch;
    size_t len = record_size(bytes_len(body));
    const struct record record
        = { .kind = kind, .body = slice_of(bytes_begin(body), bytes_len(body)) };
    uint8_t *at = submission_reserve(log->to, len);

    CHECK(at != NULL);
    memcpy(at + RECORD_HEADER_LEN, record.body.at, record.body.len);
    record_finish(at, &record);
    submission_write(log->to, len, false);
}

static enum status log_ranges(struct logging *log, enum record_kind kind,
                              uint32_t topic, const struct seqset *set)
{
    size_t count = set == NULL ? 0 : seqset_range_count(set);

    for (size_t i = 0; i < count; i += RECORD_RANGES_MAX) {
        const struct record_ranges ranges = {
            .group = log->run->fact->id,
            .topic = topic,
            .ranges = seqset_ranges(set) + i,
            .count = count - i < RECORD_RANGES_MAX ? count - i
                                                   : RECORD_RANGES_MAX,
        };
        struct bytes *body = &log->dispatch->scratch;
        enum status status;

        bytes_consume(body, bytes_len(body));
        status = record_ranges_write(body, &ranges);
        if (status != STATUS_OK) {
            return status;
        }
        submit(log, kind);
    }
    return STATUS_OK;
}

static uint64_t due_to_wall(const struct logging *log, uint64_t due_us)
{
    return due_us <= log->now_us ? 0 : log->wall_us + (due_us - log->now_us);
}

static enum status log_retries(struct logging *log,
                               const struct effects *effects)
{
    size_t count = effects->retry_count;
    struct bytes *body = &log->dispatch->scratch;
    struct retry *retries = calloc(count + 1, sizeof *retries);
    enum status status = retries == NULL ? STATUS_NOMEM : STATUS_OK;

    for (size_t i = 0; status == STATUS_OK && i < count; i++) {
        retries[i] = effects->retries[i];
        retries[i].due_us = due_to_wall(log, retries[i].due_us);
    }
    for (size_t i = 0; status == STATUS_OK && i < count;
         i += RECORD_RETRIES_MAX) {
        const struct record_retries part = {
            .group = log->run->fact->id,
            .topic = effects->topic,
            .retries = retries + i,
            .count = count - i < RECORD_RETRIES_MAX ? count - i
                                                    : RECORD_RETRIES_MAX,
        };
        bytes_consume(body, bytes_len(body));
        status = record_retries_write(body, &part);
        if (status == STATUS_OK) {
            submit(log, RECORD_RETRY);
        }
    }
    free(retries);
    return status;
}

/* More than all its records can take, splitting included. */
static size_t effects_size_max(const struct effects *e)
{
    size_t ranges = (e->acked == NULL ? 0 : seqset_range_count(e->acked))
                    + (e->gaps == NULL ? 0 : seqset_range_count(e->gaps));
    size_t entries = ranges + e->retry_count;

    return entries * 32
           + (entries / RECORD_RETRIES_MAX + 4) * (RECORD_HEADER_LEN + 64);
}

static bool log_lane(void *arg, const struct effects *effects)
{
    struct logging *log = arg;
    enum status status;

    if (submission_room(log->to) < effects_size_max(effects)) {
        return false;
    }
    /* Retries first: an ack of the same message in one turn is the newer word. */
    status = log_retries(log, effects);
    if (status == STATUS_OK) {
        status = log_ranges(log, RECORD_ACK, effects->topic, effects->acked);
    }
    if (status == STATUS_OK) {
        status = log_ranges(log, RECORD_GAP, effects->topic, effects->gaps);
    }
    /* Out of memory: the rest stays, and what was written is written again. */
    return status == STATUS_OK;
}

bool dispatch_log(struct dispatch *d, struct submission *to, uint64_t now_us,
                  uint64_t wall_us)
{
    while (d->changed != NULL) {
        struct group_run *run = d->changed;
        struct logging log = { d, run, to, now_us, wall_us };

        group_take_effects(run->group, log_lane, &log);
        if (group_has_effects(run->group)) {
            return false;
        }
        d->changed = run->next_changed;
        run->changed = false;
    }
    return true;
}

/* ---- time ---- */

void dispatch_tick(struct dispatch *d, uint64_t now_us)
{
    if (now_us < d->due_us) {
        return;
    }
    d->due_us = UINT64_MAX;
    for (struct group_run *run = d->groups; run != NULL; run = run->next) {
        if (group_due_us(run->group) <= now_us) {
            group_tick(run->group, now_us, TICK_MOVES);
            touched(d, run);
        }
        note_due(d, run);
    }
}

uint64_t dispatch_due_us(const struct dispatch *d)
{
    return d->due_us;
}

/* ---- members ---- */

static struct group_run *run_of(const struct group_fact *group)
{
    CHECK(group->user != NULL);
    return group->user;
}

static enum status remember_member(struct group_run *run, struct member *member)
{
    if (run->member_count == run->member_capacity) {
        size_t capacity = run->member_capacity * 2 + 4;
        struct member **members
            = realloc(run->members, capacity * sizeof(struct member *));
        if (members == NULL) {
            return STATUS_NOMEM;
        }
        run->members = members;
        run->member_capacity = capacity;
    }
    run->members[run->member_count++] = member;
    return STATUS_OK;
}

enum status dispatch_join(struct dispatch *d, const struct group_fact *group,
                          uint64_t lease, uint64_t credit_messages,
                          uint64_t credit_bytes, void *user,
                          struct member **out)
{
    struct group_run *run = run_of(group);
    struct member *member;
    enum status status = group_join(run->group, lease, credit_messages,
                                    credit_bytes, user, &member);

    if (status != STATUS_OK) {
        return status;
    }
    status = remember_member(run, member);
    if (status != STATUS_OK) {
        group_retire(run->group, member);
        return status;
    }
    touched(d, run);
    *out = member;
    return STATUS_OK;
}

void dispatch_credit(struct dispatch *d, const struct group_fact *group,
                     struct member *member, uint64_t messages, uint64_t bytes)
{
    member_set_credit(member, messages, bytes);
    touched(d, run_of(group));
}

void dispatch_resume(struct dispatch *d, const struct group_fact *group,
                     struct member *member)
{
    member_pause(member, false);
    touched(d, run_of(group));
}

void dispatch_leave(struct dispatch *d, const struct group_fact *group,
                    struct member *member, uint64_t now_us)
{
    struct group_run *run = run_of(group);

    forget_member(run, member);
    group_leave(run->group, member, now_us);
    touched(d, run);
}

void dispatch_retire(struct dispatch *d, const struct group_fact *group,
                     struct member *member)
{
    struct group_run *run = run_of(group);

    forget_member(run, member);
    group_retire(run->group, member);
    touched(d, run);
}

enum status dispatch_settle(struct dispatch *d, const struct group_fact *group,
                            const struct settlement *settlement,
                            uint64_t now_us, settled_fn fn, void *arg)
{
    struct group_run *run = run_of(group);
    enum status status = group_settle(run->group, settlement, now_us, fn, arg);

    touched(d, run);
    return status;
}

/* ---- to look at ---- */

bool dispatch_books(const struct dispatch *d, const struct group_fact *group,
                    const struct topic *topic, struct lane_books *out)
{
    uint64_t after = group_starts_after(group, topic->id);

    (void)d;
    if (group->user == NULL
        || !group_books(run_of(group)->group, topic->id, out)) {
        return false;
    }
    /* What lay before its start was never the group's. */
    out->published -= after < out->published ? after : out->published;
    out->acked -= after < out->acked ? after : out->acked;
    return true;
}

bool dispatch_figures(const struct dispatch *d, const struct group_fact *group,
                      struct group_figures *out, size_t *members)
{
    (void)d;
    if (group->user == NULL) {
        return false;
    }
    group_figures(run_of(group)->group, out);
    *members = run_of(group)->member_count;
    return true;
}

void dispatch_show(const struct dispatch *d, struct worker_metrics *metrics)
{
    struct inflight_figures f;

    inflight_figures(d->inflight, &f);
    metric_set(&metrics->in_flight_messages, f.heap_count);
    metric_set(&metrics->in_flight_bytes, f.heap_bytes);
    metric_set(&metrics->in_flight_bytes_max, f.heap_bytes_max);
}

struct checking {
    const struct group_run *run;
    size_t differences;
};

static void check_lane(void *arg, uint32_t topic, void *user)
{
    struct checking *checking = arg;
    const struct lane_reader *lane = user;
    struct lane_books b;

    if (!group_books(checking->run->group, topic, &b)) {
        return;
    }
    if (b.published != b.acked + b.gap + b.ready + b.delayed + b.in_flight) {
        checking->differences++;
        log_error("books do not balance group=%s topic=%s published=%llu "
                  "acked=%llu gap=%llu ready=%llu delayed=%llu in_flight=%llu",
                  checking->run->fact->name, lane->topic_name,
                  (unsigned long long)b.published, (unsigned long long)b.acked,
                  (unsigned long long)b.gap, (unsigned long long)b.ready,
                  (unsigned long long)b.delayed,
                  (unsigned long long)b.in_flight);
    }
}

size_t dispatch_check_books(const struct dispatch *d)
{
    struct checking checking = { 0 };

    for (const struct group_run *run = d->groups; run != NULL;
         run = run->next) {
        checking.run = run;
        group_each_lane(run->group, check_lane, &checking);
    }
    return checking.differences;
}
