/* Inside the HTTP door: the request that is being answered, and the answers.
 * Shared by http_api.c (requests and the catalog), http_publish.c, http_group.c
 * (pull and settle), http_messages.c (looking at topics), http_operate.c (seek,
 * redrive, discard) and http_dead.c (the dead, explain).
 *
 * An answer may come from within a session call, or much later, and after
 * session_go_to_group() on another worker. So what a request still needs after
 * its call has returned stands in its exchange, and nothing of the exchange is
 * touched after a session call. */
#ifndef GODWIT_BROKER_DOOR_HTTP_EXCHANGE_H
#define GODWIT_BROKER_DOOR_HTTP_EXCHANGE_H

#include "broker/door/http_path.h"
#include "broker/door/json.h"
#include "broker/session/session.h"

#define JSON_TYPE     "application/json"
#define PROTOBUF_TYPE "application/protobuf"

/* One request at a time, one call of the session each: always the same id, and
 * for a batch those behind it. */
enum { CALL_ID = 1 };

/* What became of one message of a batch. */
struct item {
    uint64_t seq;
    size_t refused_at;  /* its text in `texts`, refused_len bytes; 0 bytes: */
    size_t refused_len; /* it was stored */
    bool duplicate;
    struct wire_confirm receipt; /* that begins here; segment 0: none does */
};

/* The request that is being answered. */
struct exchange {
    bool active;
    struct http_route route;
    enum http_method method;
    bool protobuf;      /* the answer's encoding */
    bool body_protobuf; /* the body's */
    struct bytes body;  /* of a settle, for when it has arrived */
    uint64_t count_max; /* of a pull, or of a list of the dead */
    bool one_topic;     /* of that list */
    uint64_t wait_ms;
    /* what comes in pieces: a batch's results, a pull's messages and gaps */
    enum status status; /* STATUS_NOMEM once a piece was lost */
    struct item *items;
    size_t item_count;
    size_t item_done;
    struct bytes texts;
    struct bytes messages;
    struct bytes gaps;
};

/* NULL: nothing is being answered. */
struct exchange *http_exchange_of(const struct session *session);
struct exchange *
http_exchange_begin(struct session *session); /* NULL: no memory */
void http_exchange_free(struct session *session);
/* What a buffer holds; at NULL when that is nothing. */
struct slice http_content(const struct bytes *bytes);

/* ---- answers; each ends the exchange ---- */

void http_respond(struct session *session, int code, const char *type,
                  const char *extra, struct slice body);
/* Takes the buffer. */
void http_respond_bytes(struct session *session, int code, const char *type,
                        struct bytes *body);
/* A document that was written, or was not (STATUS_NOMEM). Takes the buffer. */
void http_respond_json(struct session *session, int code, enum status status,
                       struct bytes *body);
void http_respond_no_memory(struct session *session);
void http_respond_refusal(struct session *session,
                          const struct refusal *refusal);
/* With a code of its own; `allow` for 405, or NULL. */
void http_respond_refusal_as(struct session *session, int code,
                             const char *allow, const struct refusal *refusal);

/* Go on with on_arrived() where the group named by the path lives. */
void http_go_to_group(struct session *session, const struct exchange *exchange);

/* ---- http_publish.c ---- */

void http_publish_message(struct session *session, struct exchange *exchange,
                          const struct http_request *request);
void http_publish_batch(struct session *session, struct exchange *exchange,
                        const struct http_request *request);
void http_publish_confirmed(struct session *session,
                            const struct wire_confirm *confirm);
void http_publish_refused(struct session *session, uint64_t id, uint64_t count,
                          const struct refusal *refusal);

/* ---- http_group.c ---- */

void http_pull_begin(struct session *session, struct exchange *exchange,
                     const struct http_request *request);
void http_pull_arrived(struct session *session, struct exchange *exchange);
void http_pull_deliver(struct session *session, const char *topic,
                       const struct wire_delivery *deliveries, size_t count);
void http_pull_gap(struct session *session, const char *topic,
                   struct seq_range range);
void http_pull_done(struct session *session, uint64_t id, uint64_t lease,
                    uint64_t lease_ms);
void http_settle_arrived(struct session *session, struct exchange *exchange);
void http_settle_done(struct session *session, uint64_t id, struct slice topic,
                      const struct wire_settled_range *ranges, size_t count);

/* ---- http_messages.c ---- */

void http_peek_begin(struct session *session, struct exchange *exchange);
void http_search_begin(struct session *session, struct exchange *exchange,
                       const struct http_request *request);
void http_looked(struct session *session, uint64_t id,
                 const struct search_result *result);

/* ---- http_operate.c: seek, redrive, discard ---- */

struct operation_done;

void http_operate_arrived(struct session *session, struct exchange *exchange);
void http_operated(struct session *session, const struct operation_done *done);

/* ---- http_dead.c: the dead, and explain ---- */

void http_dead_begin(struct session *session, struct exchange *exchange,
                     const struct http_request *request);
void http_look_arrived(struct session *session, struct exchange *exchange);

#endif
