/* GET /v1/stream: from an HTTP connection to a stream, or a refusal like that
 * of any other request. */
#include "broker/door/doors.h"

#include "broker/door/http_exchange.h"

static enum status check_target(const struct http_request *request,
                                struct refusal *refusal)
{
    return slice_is(request->path, "/v1/stream")
               ? STATUS_OK
               : refuse(refusal, STATUS_NOT_FOUND, "path",
                        "the stream is at /v1/stream; nothing else takes a "
                        "WebSocket upgrade");
}

/* The first that is offered of ours, by our order. NULL: none. */
static const struct door *choose_door(const struct http_request *request)
{
    struct slice offered = http_header(request, "Sec-WebSocket-Protocol");

    if (offered.at == NULL) {
        return NULL;
    }
    if (http_list_has(offered, "godwit.v1.proto")) {
        return &door_proto;
    }
    return http_list_has(offered, "godwit.v1.json") ? &door_json : NULL;
}

void http_api_upgrade(struct session *session,
                      const struct http_request *request, uint64_t hello_ms)
{
    struct slice authorization = http_header(request, "Authorization");
    const struct door *door = choose_door(request);
    struct refusal refusal;

    session_forget_login(session);
    if (check_target(request, &refusal) != STATUS_OK
        || (authorization.at != NULL
            && session_authorize(session, authorization, &refusal)
                   != STATUS_OK)) {
        http_respond_refusal(session, &refusal);
        return;
    }
    if (door == NULL) {
        (void)refuse(&refusal, STATUS_UNSUPPORTED, "subprotocol",
                     "offer the subprotocol godwit.v1.proto or "
                     "godwit.v1.json");
        http_respond_refusal_as(session, 400, NULL, &refusal);
        return;
    }
    session_set_door(session, door);
    conn_upgrade(session_conn(session),
                 door == &door_proto ? "godwit.v1.proto" : "godwit.v1.json");
    if (authorization.at == NULL) {
        session_hello_within(session, hello_ms);
    }
}
