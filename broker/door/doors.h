/* The three doors' entries, called by the worker's connection handler. */
#ifndef GODWIT_BROKER_DOOR_DOORS_H
#define GODWIT_BROKER_DOOR_DOORS_H

#include "broker/session/session.h"

struct broker_metrics;

extern const struct door door_proto;
extern const struct door door_json;
extern const struct door door_http;

/* One WebSocket message. stream_proto.c, stream_json.c. */
void stream_proto_message(struct session *session, uint8_t *payload,
                          size_t len);
void stream_json_message(struct session *session, const uint8_t *payload,
                         size_t len);
/* One HTTP request; authenticates each. http_api.c. */
void http_api_request(struct session *session,
                      const struct http_request *request,
                      const struct broker_metrics *metrics);
/* A WebSocket upgrade. Without an Authorization header the new stream has
 * `hello_ms` to say who it is. http_upgrade.c. */
void http_api_upgrade(struct session *session,
                      const struct http_request *request, uint64_t hello_ms);
/* What GET /metrics says: Prometheus text format 0.0.4, appended. STATUS_NOMEM.
 * metrics.c. */
MUST_CHECK enum status metrics_write(const struct broker_metrics *metrics,
                                     struct bytes *to);
/* What GET /health says, {"status":"green|yellow|red","reasons":[...],...}, and
 * its code: 200, red: 503. STATUS_NOMEM. health.c. */
MUST_CHECK enum status health_write(const struct broker_metrics *metrics,
                                    struct bytes *to, int *code);

#endif
