/* What operators do to a group over HTTP: seek, redrive, discard. All go to the
 * group's worker first; what changed is answered when it is durable. */
#include "broker/door/http_exchange.h"

#include "broker/door/json_operation.h"
#include "broker/session/explain.h"

static enum operation_kind kind_of(enum http_target target)
{
    static const struct {
        enum http_target target;
        enum operation_kind kind;
    } kinds[] = {
        { TARGET_SEEK, OPERATION_SEEK },
        { TARGET_REDRIVE, OPERATION_REDRIVE },
        { TARGET_REDRIVE_STOP, OPERATION_STOP },
        { TARGET_REDRIVE_UNDO, OPERATION_UNDO },
        { TARGET_DISCARD, OPERATION_DISCARD },
    };
    size_t i = 0;

    while (kinds[i].target != target) {
        i++;
        CHECK(i < COUNT_OF(kinds));
    }
    return kinds[i].kind;
}

/* ---- the answers ---- */

static const char *job_word(const struct redrive_state *state)
{
    if (state->running) {
        return "running";
    }
    return state->stopped ? "stopped" : "done";
}

static void put_redrive(struct json *json, const struct redrive_state *state)
{
    json_word(json, "job", job_word(state));
    json_bool(json, "dry_run", state->dry_run);
    json_u64(json, "matched", state->matched);
    json_u64(json, "redriven", state->redriven);
    json_u64(json, "undone", state->undone);
}

static void put_seeks(struct json *json, const struct operation_done *done)
{
    json_begin_array(json, "seeks");
    for (size_t i = 0; i < done->seek_count; i++) {
        json_begin_object(json, NULL);
        json_word(json, "topic", done->seeks[i].topic);
        json_u64(json, "seq", done->seeks[i].seq);
        json_end_object(json);
    }
    json_end_array(json);
}

static void put_done(struct json *json, const struct operation_done *done)
{
    switch (done->kind) {
    case OPERATION_SEEK:
        put_seeks(json, done);
        break;
    case OPERATION_REDRIVE:
    case OPERATION_STOP:
        put_redrive(json, &done->redrive);
        break;
    case OPERATION_UNDO:
        json_u64(json, "undone", done->count);
        break;
    case OPERATION_DISCARD:
        json_u64(json, "discarded", done->count);
        break;
    }
}

void http_operated(struct session *session, const struct operation_done *done)
{
    struct bytes body = { 0 };
    struct json json = json_to(&body);

    if (http_exchange_of(session) == NULL) {
        return;
    }
    json_begin_object(&json, NULL);
    put_done(&json, done);
    json_end_object(&json);
    http_respond_json(session, 200, json.status, &body);
}

static void show_redrive(struct session *session, const char *group)
{
    struct bytes body = { 0 };
    struct json json = json_to(&body);
    struct redrive_state state;
    struct refusal refusal;

    if (!session_redrive_state(session, slice_text(group), &state)) {
        (void)refuse(&refusal, STATUS_NOT_FOUND, "redrive",
                     "nothing was redriven in group %s since the broker's "
                     "start",
                     group);
        http_respond_refusal(session, &refusal);
        return;
    }
    json_begin_object(&json, NULL);
    put_redrive(&json, &state);
    json_end_object(&json);
    http_respond_json(session, 200, json.status, &body);
}

/* ---- requests ---- */

/* The answer may come from within the call and end the exchange. */
void http_operate_arrived(struct session *session, struct exchange *exchange)
{
    struct http_route route = exchange->route;
    struct json_operation asked;
    struct refusal refusal;

    if (route.target == TARGET_REDRIVE && exchange->method != HTTP_POST) {
        show_redrive(session, route.name);
        return;
    }
    if (json_operation_read(&asked, kind_of(route.target),
                            http_content(&exchange->body), &refusal)
        != STATUS_OK) {
        http_respond_refusal(session, &refusal);
        return;
    }
    session_operate(session, CALL_ID, slice_text(route.name), &asked.operation);
}
