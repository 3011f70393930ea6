/* The HTTP door: one request at a time a connection.
 *
 *   http_api_request -> who is it -> handle_<target> -> session_*
 *   session_* -> door_http's callback -> respond, which ends the exchange
 *
 * Publishing is in http_publish.c, pulling and settling in http_group.c,
 * looking at messages in http_messages.c. */
#include "broker/door/doors.h"

#include "broker/door/http_exchange.h"
#include "broker/door/http_show.h"
#include "broker/door/json_read.h"
#include "broker/metrics.h"

#include <stdio.h>

#define METRICS_TYPE "text/plain; version=0.0.4; charset=utf-8"

/* ---- refusals of this file ---- */

static void respond_not_found(struct session *session, const char *what,
                              const char *name)
{
    struct refusal refusal;

    (void)refuse(&refusal, STATUS_NOT_FOUND, "name", "no %s named %s", what,
                 name);
    (void)snprintf(refusal.scope, sizeof refusal.scope, "%s %s", what, name);
    http_respond_refusal(session, &refusal);
}

static void respond_forbidden(struct session *session, const char *limit,
                              const char *text)
{
    struct refusal refusal;

    (void)refuse(&refusal, STATUS_FORBIDDEN, limit, "%s", text);
    http_respond_refusal(session, &refusal);
}

/* ---- groups: show ---- */

static void show_arrived(struct session *session, struct exchange *exchange)
{
    struct bytes body = { 0 };
    enum status status = show_group(session, exchange->route.name, &body);

    if (status == STATUS_NOT_FOUND) {
        bytes_fini(&body);
        respond_not_found(session, "group", exchange->route.name);
        return;
    }
    http_respond_json(session, 200, status, &body);
}

static void arrived(struct session *session, struct exchange *exchange)
{
    switch (exchange->route.target) {
    case TARGET_PULL:
        http_pull_arrived(session, exchange);
        break;
    case TARGET_SETTLE:
        http_settle_arrived(session, exchange);
        break;
    case TARGET_SEEK:
    case TARGET_REDRIVE:
    case TARGET_REDRIVE_STOP:
    case TARGET_REDRIVE_UNDO:
    case TARGET_DISCARD:
        http_operate_arrived(session, exchange);
        break;
    case TARGET_DEAD:
    case TARGET_EXPLAIN:
        http_look_arrived(session, exchange);
        break;
    case TARGET_HEALTH:
    case TARGET_METRICS:
    case TARGET_STREAM:
    case TARGET_STORE:
    case TARGET_TOPICS:
    case TARGET_TOPIC:
    case TARGET_GROUPS:
    case TARGET_GROUP:
    case TARGET_PAUSE:
    case TARGET_RESUME:
    case TARGET_APPS:
    case TARGET_APP:
    case TARGET_MESSAGES:
    case TARGET_MESSAGE:
    case TARGET_BATCH:
        show_arrived(session, exchange);
        break;
    }
}

static void on_arrived(struct session *session, uint64_t id)
{
    struct exchange *exchange = http_exchange_of(session);

    (void)id;
    if (exchange == NULL) {
        return;
    }
    arrived(session, exchange);
}

static void handle_show_group(struct session *session,
                              struct exchange *exchange)
{
    const char *name = exchange->route.name;
    const struct group_fact *group =
        catalog_group(session_catalog(session), slice_text(name));

    if (group == NULL) {
        respond_not_found(session, "group", name);
    } else if (!may_see_group(session, group)) {
        respond_forbidden(session, "owner",
                          "only its owner or an admin app may see a group");
    } else {
        http_go_to_group(session, exchange);
    }
}

/* The body is read there. */
static void go_to_group_with_body(struct session *session,
                                  struct exchange *exchange,
                                  const struct http_request *request)
{
    if (bytes_append(&exchange->body, request->body.at, request->body.len)
        != STATUS_OK) {
        http_respond_no_memory(session);
        return;
    }
    http_go_to_group(session, exchange);
}

/* ---- catalog changes ---- */

static void on_changed(struct session *session, const struct change_done *done)
{
    struct bytes body = { 0 };
    struct json json = json_to(&body);

    if (http_exchange_of(session) == NULL) {
        return;
    }
    if (done->request->op == CATALOG_DELETE) {
        http_respond(session, 204, NULL, NULL, slice_of(NULL, 0));
        return;
    }
    json_begin_object(&json, NULL);
    json_word(&json, "name", done->request->name);
    if (done->request->class == CATALOG_APP) {
        json_word(&json, "secret", done->secret);
    }
    json_end_object(&json);
    http_respond_json(session, done->request->op == CATALOG_UPDATE ? 200 : 201,
                      json.status, &body);
    /* http_respond_json() has freed the buffer that held the secret. */
}

static void handle_create(struct session *session, enum catalog_class class,
                          const struct http_request *request)
{
    struct catalog_request change = {
        .op = CATALOG_CREATE,
        .class = class,
        .app = session_app(session)->id,
    };
    struct refusal refusal;

    if (json_change_read(request->body, &change, &refusal) != STATUS_OK) {
        catalog_request_fini(&change);
        http_respond_refusal(session, &refusal);
        return;
    }
    session_change(session, CALL_ID, &change);
}

/* A topic's retention, the whole of it: what is not said is as for a new topic.
 * Of a group's options those that are said. */
static void handle_update(struct session *session, enum catalog_class class,
                          const char *name, const struct http_request *request)
{
    struct catalog_request change = {
        .op = CATALOG_UPDATE,
        .class = class,
        .app = session_app(session)->id,
    };
    struct refusal refusal;

    memcpy(change.name, name, strlen(name) + 1);
    if (json_change_read(request->body, &change, &refusal) != STATUS_OK) {
        catalog_request_fini(&change);
        http_respond_refusal(session, &refusal);
        return;
    }
    session_change(session, CALL_ID, &change);
}

static void handle_pause(struct session *session, const char *name, bool paused)
{
    struct catalog_request change = {
        .op = CATALOG_UPDATE,
        .class = CATALOG_GROUP,
        .app = session_app(session)->id,
        .options = { .paused = paused },
        .given = OPTION_PAUSED,
    };

    memcpy(change.name, name, strlen(name) + 1);
    session_change(session, CALL_ID, &change);
}

static void handle_delete(struct session *session, enum catalog_class class,
                          const char *name)
{
    struct catalog_request change = {
        .op = CATALOG_DELETE,
        .class = class,
        .app = session_app(session)->id,
    };

    memcpy(change.name, name, strlen(name) + 1);
    session_change(session, CALL_ID, &change);
}

/* ---- lists and shows ---- */

static void handle_topics(struct session *session,
                          const struct http_request *request)
{
    struct bytes body = { 0 };
    enum status status;

    if (request->method == HTTP_POST) {
        handle_create(session, CATALOG_TOPIC, request);
        return;
    }
    status = show_topics(session, &body);
    http_respond_json(session, 200, status, &body);
}

static void handle_topic(struct session *session, struct exchange *exchange,
                         const struct http_request *request)
{
    const char *name = exchange->route.name;
    const struct topic *topic;
    struct bytes body = { 0 };
    enum status status;

    if (exchange->method == HTTP_DELETE) {
        handle_delete(session, CATALOG_TOPIC, name);
        return;
    }
    if (exchange->method == HTTP_PUT) {
        handle_update(session, CATALOG_TOPIC, name, request);
        return;
    }
    topic = catalog_topic(session_catalog(session), slice_text(name));
    if (topic == NULL) {
        respond_not_found(session, "topic", name);
        return;
    }
    if (!may_see_topic(session, topic)) {
        respond_forbidden(session, "grant",
                          "neither a publish nor a subscribe grant covers "
                          "this topic");
        return;
    }
    status = show_topic(session, topic, &body);
    http_respond_json(session, 200, status, &body);
}

static void handle_groups(struct session *session,
                          const struct http_request *request)
{
    struct bytes body = { 0 };
    enum status status;

    if (request->method == HTTP_POST) {
        handle_create(session, CATALOG_GROUP, request);
        return;
    }
    status = show_groups(session, &body);
    http_respond_json(session, 200, status, &body);
}

static void handle_group(struct session *session, struct exchange *exchange,
                         const struct http_request *request)
{
    if (exchange->method == HTTP_DELETE) {
        handle_delete(session, CATALOG_GROUP, exchange->route.name);
        return;
    }
    if (exchange->method == HTTP_PATCH) {
        handle_update(session, CATALOG_GROUP, exchange->route.name, request);
        return;
    }
    handle_show_group(session, exchange);
}

static void handle_apps(struct session *session,
                        const struct http_request *request)
{
    struct bytes body = { 0 };
    enum status status;

    if (request->method == HTTP_POST) {
        handle_create(session, CATALOG_APP, request);
        return;
    }
    if (!session_app(session)->admin) {
        respond_forbidden(session, "admin", "only an admin app may see apps");
        return;
    }
    status = show_apps(session, &body);
    http_respond_json(session, 200, status, &body);
}

static void handle_app(struct session *session, struct exchange *exchange)
{
    const char *name = exchange->route.name;
    const struct app *app;
    struct bytes body = { 0 };
    enum status status;

    if (exchange->method == HTTP_DELETE) {
        handle_delete(session, CATALOG_APP, name);
        return;
    }
    if (!session_app(session)->admin
        && strcmp(session_app(session)->name, name) != 0) {
        respond_forbidden(session, "admin",
                          "only an admin app may see other apps");
        return;
    }
    app = catalog_app(session_catalog(session), slice_text(name));
    if (app == NULL) {
        respond_not_found(session, "app", name);
        return;
    }
    status = show_app(app, &body);
    http_respond_json(session, 200, status, &body);
}

/* ---- how the broker is ---- */

static void handle_health(struct session *session,
                          const struct broker_metrics *metrics)
{
    struct bytes body = { 0 };
    int code = 200;
    enum status status = health_write(metrics, &body, &code);

    http_respond_json(session, code, status, &body);
}

static void handle_store(struct session *session,
                         const struct broker_metrics *metrics)
{
    struct bytes body = { 0 };
    enum status status;

    if (!session_app(session)->admin) {
        respond_forbidden(session, "admin",
                          "only an admin app may see the store");
        return;
    }
    status = show_store(session, metrics, &body);
    http_respond_json(session, 200, status, &body);
}

static void handle_metrics(struct session *session,
                           const struct broker_metrics *metrics)
{
    struct bytes body = { 0 };

    if (metrics_write(metrics, &body) != STATUS_OK) {
        bytes_fini(&body);
        http_respond_no_memory(session);
        return;
    }
    http_respond_bytes(session, 200, METRICS_TYPE, &body);
}

static void handle_stream(struct session *session)
{
    struct refusal refusal;

    (void)refuse(&refusal, STATUS_UNSUPPORTED, "upgrade",
                 "this path takes WebSocket upgrades only, version 13, with "
                 "subprotocol godwit.v1.proto or godwit.v1.json");
    http_respond_refusal_as(session, 426, NULL, &refusal);
}

/* ---- requests ---- */

static bool takes_json(enum http_target target, enum http_method method)
{
    if (method != HTTP_POST && method != HTTP_PUT && method != HTTP_PATCH) {
        return false;
    }
    switch (target) {
    case TARGET_TOPICS:
    case TARGET_TOPIC:
    case TARGET_GROUPS:
    case TARGET_GROUP:
    case TARGET_APPS:
    case TARGET_BATCH:
    case TARGET_SETTLE:
    case TARGET_SEEK:
    case TARGET_REDRIVE:
    case TARGET_REDRIVE_STOP:
    case TARGET_REDRIVE_UNDO:
    case TARGET_DISCARD:
        return true;
    case TARGET_HEALTH:
    case TARGET_METRICS:
    case TARGET_STREAM:
    case TARGET_STORE:
    case TARGET_PAUSE:
    case TARGET_RESUME:
    case TARGET_APP:
    case TARGET_MESSAGES:
    case TARGET_MESSAGE:
    case TARGET_PULL:
    case TARGET_DEAD:
    case TARGET_EXPLAIN:
        return false;
    }
    return false;
}

/* A missing type is taken for JSON, and so is what curl's -d says. Browsers may
 * send that across sites without asking; it carries no Authorization then. */
static bool read_types(struct exchange *exchange,
                       const struct http_request *request)
{
    struct slice type = http_header(request, "Content-Type");
    struct slice accept = http_header(request, "Accept");
    bool protobuf = http_media_is(type, PROTOBUF_TYPE)
                    || http_media_is(type, "application/x-protobuf");

    exchange->body_protobuf =
        exchange->route.target == TARGET_SETTLE && protobuf;
    exchange->protobuf = exchange->body_protobuf
                         || http_list_has(accept, PROTOBUF_TYPE)
                         || http_list_has(accept, "application/x-protobuf");
    return !takes_json(exchange->route.target, request->method)
           || exchange->body_protobuf || type.len == 0
           || http_media_is(type, JSON_TYPE)
           || http_media_is(type, "application/x-www-form-urlencoded");
}

static void handle_messages(struct session *session, struct exchange *exchange,
                            const struct http_request *request)
{
    if (exchange->method == HTTP_POST) {
        http_publish_message(session, exchange, request);
    } else {
        http_search_begin(session, exchange, request);
    }
}

static void dispatch(struct session *session, struct exchange *exchange,
                     const struct http_request *request,
                     const struct broker_metrics *metrics)
{
    switch (exchange->route.target) {
    case TARGET_HEALTH:
        handle_health(session, metrics);
        break;
    case TARGET_METRICS:
        handle_metrics(session, metrics);
        break;
    case TARGET_STREAM:
        handle_stream(session);
        break;
    case TARGET_STORE:
        handle_store(session, metrics);
        break;
    case TARGET_TOPICS:
        handle_topics(session, request);
        break;
    case TARGET_TOPIC:
        handle_topic(session, exchange, request);
        break;
    case TARGET_MESSAGES:
        handle_messages(session, exchange, request);
        break;
    case TARGET_MESSAGE:
        http_peek_begin(session, exchange);
        break;
    case TARGET_BATCH:
        http_publish_batch(session, exchange, request);
        break;
    case TARGET_GROUPS:
        handle_groups(session, request);
        break;
    case TARGET_GROUP:
        handle_group(session, exchange, request);
        break;
    case TARGET_PAUSE:
        handle_pause(session, exchange->route.name, true);
        break;
    case TARGET_RESUME:
        handle_pause(session, exchange->route.name, false);
        break;
    case TARGET_PULL:
        http_pull_begin(session, exchange, request);
        break;
    case TARGET_SETTLE:
    case TARGET_SEEK:
    case TARGET_REDRIVE:
    case TARGET_REDRIVE_STOP:
    case TARGET_REDRIVE_UNDO:
    case TARGET_DISCARD:
        go_to_group_with_body(session, exchange, request);
        break;
    case TARGET_DEAD:
        http_dead_begin(session, exchange, request);
        break;
    case TARGET_EXPLAIN:
        http_go_to_group(session, exchange);
        break;
    case TARGET_APPS:
        handle_apps(session, request);
        break;
    case TARGET_APP:
        handle_app(session, exchange);
        break;
    }
}

/* Those that have names in their query look themselves. */
static enum status check_query(const struct http_request *request,
                               enum http_target target, struct refusal *refusal)
{
    static const char *const none[] = { NULL };
    bool search = target == TARGET_MESSAGES && request->method != HTTP_POST;

    return target == TARGET_PULL || target == TARGET_DEAD || search
               ? STATUS_OK
               : http_query_check(request, none, refusal);
}

static bool is_open(enum http_target target)
{
    return target == TARGET_HEALTH || target == TARGET_METRICS
           || target == TARGET_STREAM;
}

void http_api_request(struct session *session,
                      const struct http_request *request,
                      const struct broker_metrics *metrics)
{
    struct exchange *exchange = http_exchange_begin(session);
    struct refusal refusal;
    int code;

    session_forget_login(session);
    if (exchange == NULL) {
        http_respond_no_memory(session);
        return;
    }
    exchange->method = request->method;
    code = http_route_find(request, &exchange->route, &refusal);
    if (code != 0) {
        http_respond_refusal_as(session, code, exchange->route.allow, &refusal);
        return;
    }
    if (!is_open(exchange->route.target)
        && session_authorize(session, http_header(request, "Authorization"),
                             &refusal)
               != STATUS_OK) {
        http_respond_refusal(session, &refusal);
        return;
    }
    if (check_query(request, exchange->route.target, &refusal) != STATUS_OK) {
        http_respond_refusal(session, &refusal);
        return;
    }
    if (!read_types(exchange, request)) {
        (void)refuse(&refusal, STATUS_UNSUPPORTED, "content_type",
                     "the body's type is not taken here; send " JSON_TYPE);
        http_respond_refusal_as(session, 415, NULL, &refusal);
        return;
    }
    dispatch(session, exchange, request, metrics);
}

/* Logins and memberships are the streams'. */
const struct door door_http = {
    .name = "http",
    .confirm = http_publish_confirmed,
    .refused = http_publish_refused,
    .deliver = http_pull_deliver,
    .gap = http_pull_gap,
    .settled = http_settle_done,
    .pulled = http_pull_done,
    .changed = on_changed,
    .arrived = on_arrived,
    .looked = http_looked,
    .operated = http_operated,
    .closed = http_exchange_free,
};
