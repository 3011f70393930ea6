/* The dead of a group, and where one message of it stands. Both are looked at
 * on the group's worker. */
#include "broker/door/http_exchange.h"

#include "broker/door/json_operation.h"
#include "broker/session/explain.h"

#include <stdlib.h>

/* ---- the dead ---- */

static void put_dead(struct json *json, const struct dispatch_dead *dead)
{
    json_begin_object(json, NULL);
    json_word(json, "topic", dead->topic->name);
    json_u64(json, "seq", dead->seq);
    json_number(json, "attempts", dead->last.attempt);
    if (dead->last.time_us > 0) {
        json_u64(json, "died_us", dead->last.time_us);
        json_word(json, "cause", failure_cause_word((uint8_t)dead->last.cause));
        json_word(json, "reason", dead->last.reason);
    }
    json_end_object(json);
}

static enum status write_dead(struct bytes *body, const struct dead_page *page)
{
    struct json json = json_to(body);

    json_begin_object(&json, NULL);
    json_begin_array(&json, "dead");
    for (size_t i = 0; i < page->count; i++) {
        put_dead(&json, &page->dead[i]);
    }
    json_end_array(&json);
    if (page->next != NULL) {
        json_begin_object(&json, "next");
        json_word(&json, "topic", page->next->name);
        json_u64(&json, "seq", page->next_seq);
        json_end_object(&json);
    }
    json_end_object(&json);
    return json.status;
}

/* ?topic= is only this one, ?at= this one and those behind it by name; ?from=
 * is a seq of it. */
void http_dead_begin(struct session *session, struct exchange *exchange,
                     const struct http_request *request)
{
    static const char *const known[] = { "topic", "at", "from", "max", NULL };
    struct http_route *route = &exchange->route;
    struct slice only = { 0 };
    struct slice at = { 0 };
    char at_room[NAME_LEN_MAX + 1];
    struct refusal refusal;
    enum status status = http_query_check(request, known, &refusal);

    exchange->count_max = PULL_COUNT_DEFAULT;
    if (status == STATUS_OK) {
        status = http_query_text(request, "topic", route->topic,
                                 sizeof route->topic, &only, &refusal);
    }
    if (status == STATUS_OK) {
        status = http_query_text(request, "at", at_room, sizeof at_room, &at,
                                 &refusal);
    }
    if (status == STATUS_OK) {
        status = http_query_number(request, "from", 1, UINT64_MAX, &route->seq,
                                   &refusal);
    }
    if (status == STATUS_OK) {
        status = http_query_number(request, "max", 1, PULL_COUNT_MAX,
                                   &exchange->count_max, &refusal);
    }
    if (status == STATUS_OK && only.len > 0 && at.len > 0) {
        status = refuse(&refusal, STATUS_INVALID, "at",
                        "topic is this one alone, at begins with it: one of "
                        "them");
    }
    if (status == STATUS_OK && route->seq > 0 && only.len + at.len == 0) {
        status = refuse(&refusal, STATUS_INVALID, "from",
                        "from is a seq of a topic: name it, topic or at");
    }
    if (status != STATUS_OK) {
        http_respond_refusal(session, &refusal);
        return;
    }
    exchange->one_topic = only.len > 0;
    if (at.len > 0) {
        memcpy(route->topic, at_room, at.len + 1);
    }
    http_go_to_group(session, exchange);
}

static void dead_arrived(struct session *session,
                         const struct exchange *exchange)
{
    const struct http_route *route = &exchange->route;
    struct dead_page page = { .group = slice_text(route->name),
                              .topic = slice_text(route->topic),
                              .seq = route->seq,
                              .one_topic = exchange->one_topic,
                              .room = exchange->count_max };
    struct bytes body = { 0 };
    struct refusal refusal;
    enum status status;

    page.dead = calloc(page.room, sizeof *page.dead);
    if (page.dead == NULL) {
        http_respond_no_memory(session);
        return;
    }
    status = session_dead(session, &page, &refusal);
    if (status == STATUS_OK) {
        status = write_dead(&body, &page);
        free(page.dead);
        http_respond_json(session, 200, status, &body);
        return;
    }
    free(page.dead);
    http_respond_refusal(session, &refusal);
}

/* ---- explain ---- */

static void put_failure(struct json *json,
                        const struct dispatch_failure *failure)
{
    json_begin_object(json, NULL);
    json_u64(json, "time_us", failure->time_us);
    json_number(json, "attempt", failure->attempt);
    json_word(json, "cause", failure_cause_word((uint8_t)failure->cause));
    if (failure->reason[0] != '\0') {
        json_word(json, "reason", failure->reason);
    }
    if (failure->holder > 0) {
        json_u64(json, "holder", failure->holder);
    }
    if (failure->dead) {
        json_bool(json, "dead", true);
    }
    json_end_object(json);
}

/* What is not known, or is of no meaning here, is left out. */
static void put_number(struct json *json, const char *key, uint64_t value)
{
    if (value > 0) {
        json_u64(json, key, value);
    }
}

static void put_standing(struct json *json, const struct standing *standing)
{
    enum gate gate = standing->gate;

    json_word(json, "gate", gate_word(gate));
    put_number(json, "since_us", standing->since_us);
    put_number(json, "until_us", standing->until_us);
    json_number(json, "attempts", standing->attempts);
    put_number(json, "holder", standing->holder);
    put_number(json, gate == GATE_KEY_BUSY ? "key_held_by_seq" : "next_seq",
               standing->other_seq);
    json_word(json, "releases", gate_releases(gate));
}

/* What a settled one may be: known is only that it is one of these. */
static void put_may_be(struct json *json, unsigned gates)
{
    if (gates == 0) {
        return;
    }
    json_begin_array(json, "may_be");
    for (unsigned gate = 0; gate < GATES; gate++) {
        if ((gates & 1U << gate) != 0) {
            json_word(json, NULL, gate_word((enum gate)gate));
        }
    }
    json_end_array(json);
}

/* The group remembers of a dead one only that it is dead. */
static struct standing standing_of(const struct dispatch_explanation *e)
{
    struct standing standing = e->standing;

    if (standing.gate == GATE_DEAD && e->history_count > 0) {
        const struct dispatch_failure *last = &e->history[e->history_count - 1];

        standing.attempts = last->attempt;
        standing.since_us = last->time_us;
    }
    return standing;
}

static enum status write_explanation(struct bytes *body,
                                     const struct http_route *route,
                                     const struct dispatch_explanation *e)
{
    struct standing standing = standing_of(e);
    struct json json = json_to(body);

    json_begin_object(&json, NULL);
    json_word(&json, "group", route->name);
    json_word(&json, "topic", route->topic);
    json_u64(&json, "seq", route->seq);
    put_standing(&json, &standing);
    put_may_be(&json, e->may_be);
    json_begin_array(&json, "history");
    for (size_t i = 0; i < e->history_count; i++) {
        put_failure(&json, &e->history[i]);
    }
    json_end_array(&json);
    json_end_object(&json);
    return json.status;
}

static void explain_arrived(struct session *session,
                            const struct exchange *exchange)
{
    const struct http_route *route = &exchange->route;
    struct dispatch_explanation explanation;
    struct bytes body = { 0 };
    struct refusal refusal;

    if (session_explain(session, slice_text(route->name),
                        slice_text(route->topic), route->seq, &explanation,
                        &refusal)
        != STATUS_OK) {
        http_respond_refusal(session, &refusal);
        return;
    }
    http_respond_json(session, 200,
                      write_explanation(&body, route, &explanation), &body);
}

void http_look_arrived(struct session *session, struct exchange *exchange)
{
    if (exchange->route.target == TARGET_DEAD) {
        dead_arrived(session, exchange);
    } else {
        explain_arrived(session, exchange);
    }
}
