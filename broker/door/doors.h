/* The three doors' entries, called by the worker's connection handler. */
#ifndef GODWIT_BROKER_DOOR_DOORS_H
#define GODWIT_BROKER_DOOR_DOORS_H

#include "broker/door/session.h"

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

#endif
