#include "broker/door/http_show.h"

#include "broker/session/explain.h"

struct listing {
    struct session *session;
    struct json json;
};

/* ---- who may see what ---- */

bool may_see_topic(const struct session *session, const struct topic *topic)
{
    const struct app *app = session_app(session);
    struct slice name = slice_text(topic->name);

    return app != NULL
           && (app->id == topic->app || app_may_publish(app, name)
               || app_may_subscribe(app, name));
}

bool may_see_group(const struct session *session,
                   const struct group_fact *group)
{
    const struct app *app = session_app(session);

    return app != NULL && (app->admin || app->id == group->app);
}

/* ---- one thing each, as members of an open object ---- */

static void put_patterns(struct json *json, const char *key,
                         const struct patterns *patterns)
{
    json_begin_array(json, key);
    for (size_t i = 0; i < patterns->count; i++) {
        json_word(json, NULL, patterns->at[i]);
    }
    json_end_array(json);
}

/* Left out when the app has been deleted, or was the broker itself. */
static void put_owner(struct json *json, const struct session *session,
                      uint32_t id)
{
    const struct app *app = catalog_app_by_id(session_catalog(session), id);

    if (app != NULL) {
        json_word(json, "app", app->name);
    }
}

/* Only the bounds there are. */
static void put_retention(struct json *json, const struct retention *r)
{
    const struct {
        const char *key;
        uint64_t value;
    } bounds[] = {
        { "keep_ms_min", r->ms_min },
        { "keep_ms_max", r->ms_max },
        { "keep_bytes_max", r->bytes_max },
        { "keep_count_max", r->count_max },
    };

    json_word(json, "keep", r->keep == KEEP_LIMIT ? "limit" : "settled");
    for (size_t i = 0; i < COUNT_OF(bounds); i++) {
        if (bounds[i].value > 0) {
            json_u64(json, bounds[i].key, bounds[i].value);
        }
    }
}

static void put_topic(struct json *json, const struct session *session,
                      const struct topic *topic)
{
    json_word(json, "name", topic->name);
    json_u64(json, "first_seq", session_topic_first_seq(topic));
    json_u64(json, "floor_seq", session_topic_floor_seq(topic));
    json_u64(json, "last_seq", session_topic_last_seq(topic));
    put_retention(json, &topic->retention);
    json_u64(json, "created_us", topic->created_us);
    put_owner(json, session, topic->app);
}

static void put_from(struct json *json, const struct group_fact *group)
{
    switch (group->from) {
    case FROM_EARLIEST:
        json_word(json, "from", "earliest");
        return;
    case FROM_LATEST:
        json_word(json, "from", "latest");
        return;
    case FROM_SEQ:
    case FROM_TIME:
        break;
    }
    json_begin_object(json, "from");
    json_u64(json, group->from == FROM_SEQ ? "seq" : "time_us", group->from_at);
    json_end_object(json);
}

/* The filter only when there is one. */
static void put_options(struct json *json, const struct group_options *o)
{
    json_word(json, "mode", group_mode_word(o->mode));
    json_word(json, "priority", group_priority_word(o->priority));
    json_u64(json, "lease_ms", o->lease_ms);
    json_number(json, "max_attempts", o->attempts_max);
    json_begin_array(json, "backoff_ms");
    for (size_t i = 0; i < o->backoff_count; i++) {
        json_number(json, NULL, o->backoff_ms[i]);
    }
    json_end_array(json);
    json_number(json, "max_in_flight", o->in_flight_max);
    json_u64(json, "notice_ms", o->notice_ms);
    json_bool(json, "paused", o->paused);
    if (o->filter != NULL) {
        json_word(json, "filter", o->filter);
    }
}

static void put_group(struct json *json, const struct session *session,
                      const struct group_fact *group)
{
    json_word(json, "name", group->name);
    put_patterns(json, "topics", &group->topics);
    put_from(json, group);
    put_options(json, &group->options);
    json_u64(json, "created_us", group->created_us);
    put_owner(json, session, group->app);
}

static void put_app(struct json *json, const struct app *app)
{
    json_word(json, "name", app->name);
    json_bool(json, "admin", app->admin);
    put_patterns(json, "publish", &app->publish);
    put_patterns(json, "subscribe", &app->subscribe);
    json_u64(json, "created_us", app->created_us);
}

/* ---- topics ---- */

static void list_topic(void *arg, struct topic *topic)
{
    struct listing *listing = arg;

    if (may_see_topic(listing->session, topic)) {
        json_begin_object(&listing->json, NULL);
        put_topic(&listing->json, listing->session, topic);
        json_end_object(&listing->json);
    }
}

enum status show_topics(struct session *session, struct bytes *to)
{
    struct listing listing = { session, json_to(to) };

    json_begin_object(&listing.json, NULL);
    json_begin_array(&listing.json, "topics");
    catalog_each_topic(session_catalog(session), list_topic, &listing);
    json_end_array(&listing.json);
    json_end_object(&listing.json);
    return listing.json.status;
}

enum status show_topic(struct session *session, const struct topic *topic,
                       struct bytes *to)
{
    struct json json = json_to(to);

    json_begin_object(&json, NULL);
    put_topic(&json, session, topic);
    json_end_object(&json);
    return json.status;
}

/* ---- groups ---- */

static void list_group(void *arg, struct group_fact *group)
{
    struct listing *listing = arg;

    if (may_see_group(listing->session, group)) {
        json_begin_object(&listing->json, NULL);
        put_group(&listing->json, listing->session, group);
        json_end_object(&listing->json);
    }
}

enum status show_groups(struct session *session, struct bytes *to)
{
    struct listing listing = { session, json_to(to) };

    json_begin_object(&listing.json, NULL);
    json_begin_array(&listing.json, "groups");
    catalog_each_group(session_catalog(session), list_group, &listing);
    json_end_array(&listing.json);
    json_end_object(&listing.json);
    return listing.json.status;
}

/* The books: what was published to it is accounted for, one way or another. */
static void put_lane(void *arg, const char *topic, const struct lane_books *b)
{
    struct json *json = arg;

    const struct {
        const char *name;
        uint64_t count;
    } states[] = {
        { "published", b->published }, { "acked", b->acked },
        { "dead", b->dead },           { "expired", b->expired },
        { "filtered", b->filtered },   { "gap", b->gap },
        { "deleted", b->deleted },     { "ready", b->ready },
        { "delayed", b->delayed },     { "in_flight", b->in_flight },
    };

    json_begin_object(json, NULL);
    json_word(json, "topic", topic);
    for (size_t i = 0; i < COUNT_OF(states); i++) {
        json_u64(json, states[i].name, states[i].count);
    }
    json_bool(json, "balanced", lane_books_balance(b));
    json_end_object(json);
}

/* Since the broker's start. */
static void put_figures(struct json *json, const struct group_figures *f,
                        size_t members)
{
    const struct {
        const char *name;
        uint64_t count;
    } figures[] = {
        { "delivered", f->delivered },
        { "redelivered", f->redelivered },
        { "acked", f->acked },
        { "nacked", f->nacked },
        { "released", f->released },
        { "rejected", f->rejected },
        { "leases_expired", f->leases_expired },
        { "late", f->late },
        { "died", f->died },
        { "redriven", f->redriven },
        { "expired", f->expired },
        { "filtered", f->filtered },
        { "deleted", f->deleted },
        { "set_aside", f->set_aside },
        { "breaker_opened", f->breaker_opened },
    };

    json_number(json, "members", members);
    for (size_t i = 0; i < COUNT_OF(figures); i++) {
        json_u64(json, figures[i].name, figures[i].count);
    }
}

/* Why it gives out nothing; left out when nothing holds it as a whole. */
static void put_held_by(struct json *json, struct session *session,
                        const char *name)
{
    struct standing standing;

    if (!session_held_by(session, slice_text(name), &standing)
        || standing.gate == GATE_NONE) {
        return;
    }
    json_begin_object(json, "held_by");
    json_word(json, "gate", gate_word(standing.gate));
    if (standing.since_us > 0) {
        json_u64(json, "since_us", standing.since_us);
    }
    if (standing.until_us > 0) {
        json_u64(json, "until_us", standing.until_us);
    }
    json_word(json, "releases", gate_releases(standing.gate));
    json_end_object(json);
}

enum status show_group(struct session *session, const char *name,
                       struct bytes *to)
{
    const struct group_fact *group =
        catalog_group(session_catalog(session), slice_text(name));
    struct group_figures figures = { 0 };
    size_t members = 0;
    struct json json = json_to(to);

    if (group == NULL) {
        return STATUS_NOT_FOUND;
    }
    json_begin_object(&json, NULL);
    put_group(&json, session, group);
    json_begin_array(&json, "lanes");
    if (!session_group_view(session, slice_text(name), &figures, &members,
                            put_lane, &json)) {
        return STATUS_NOT_FOUND;
    }
    json_end_array(&json);
    put_held_by(&json, session, name);
    put_figures(&json, &figures, members);
    json_end_object(&json);
    return json.status;
}

/* ---- apps ---- */

static void list_app(void *arg, struct app *app)
{
    struct listing *listing = arg;

    json_begin_object(&listing->json, NULL);
    put_app(&listing->json, app);
    json_end_object(&listing->json);
}

enum status show_apps(struct session *session, struct bytes *to)
{
    struct listing listing = { session, json_to(to) };

    json_begin_object(&listing.json, NULL);
    json_begin_array(&listing.json, "apps");
    catalog_each_app(session_catalog(session), list_app, &listing);
    json_end_array(&listing.json);
    json_end_object(&listing.json);
    return listing.json.status;
}

enum status show_app(const struct app *app, struct bytes *to)
{
    struct json json = json_to(to);

    json_begin_object(&json, NULL);
    put_app(&json, app);
    json_end_object(&json);
    return json.status;
}
