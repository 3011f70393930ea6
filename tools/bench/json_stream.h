/* One connection that speaks godwit.v1.json, as a browser does, with the shape
 * of a client of client/godwit.h that has no thread of its own. It publishes
 * bodies of plain letters only, and a connection that breaks stays so. One
 * thread. It is a client of its own because the stream of client/godwit.h
 * speaks protobuf only: its cost in this process is not that of any client a
 * user would have. */
#ifndef GODWIT_BENCH_JSON_STREAM_H
#define GODWIT_BENCH_JSON_STREAM_H

#include "client/godwit.h"

struct json_stream;

/* As godwit_open(); the options' texts must outlive it. */
enum godwit_status json_stream_open(struct json_stream **out,
                                    const struct godwit_options *options,
                                    const char **problem);
void json_stream_close(struct json_stream *s); /* accepts NULL */

/* GODWIT_AGAIN: the window is full. Sent by the next json_stream_step(), or
 * when a frame is full. Completed unless the connection breaks. */
enum godwit_status json_stream_publish(struct json_stream *s, const char *topic,
                                       const struct godwit_message *message,
                                       godwit_confirm_fn done, void *arg);

/* Attach when the connection stands. Verdicts are GODWIT_ACK and GODWIT_NACK. */
void json_stream_subscribe(struct json_stream *s,
                           const struct godwit_subscription *subscription);

void json_stream_interest(struct json_stream *s, struct godwit_interest *out);
void json_stream_step(struct json_stream *s);

#endif
