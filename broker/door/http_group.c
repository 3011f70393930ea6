/* Pulling and settling over HTTP. Both go to the group's worker first. What is
 * pulled is encoded as it comes: its slices live only as long as the call. */
#include "broker/door/http_exchange.h"

#include "broker/door/json_read.h"
#include "proto/codec.h"

void http_pull_deliver(struct session *session, const char *topic,
                       const struct wire_delivery *deliveries, size_t count)
{
    struct exchange *exchange = http_exchange_of(session);
    struct json json;

    if (exchange == NULL || exchange->status != STATUS_OK) {
        return;
    }
    if (exchange->protobuf) {
        exchange->status = codec_pulled_deliver(
            &exchange->messages, slice_text(topic), deliveries, count);
        return;
    }
    json = json_to(&exchange->messages);
    json.comma = bytes_len(&exchange->messages) > 0;
    for (size_t i = 0; i < count; i++) {
        json_delivery(&json, topic, &deliveries[i]);
    }
    exchange->status = json.status;
}

void http_pull_gap(struct session *session, const char *topic,
                   struct seq_range range)
{
    struct exchange *exchange = http_exchange_of(session);
    struct json json;

    if (exchange == NULL || exchange->status != STATUS_OK) {
        return;
    }
    if (exchange->protobuf) {
        exchange->status =
            codec_pulled_gap(&exchange->gaps, slice_text(topic), range);
        return;
    }
    json = json_to(&exchange->gaps);
    json.comma = bytes_len(&exchange->gaps) > 0;
    json_begin_object(&json, NULL);
    json_word(&json, "topic", topic);
    json_u64(&json, "first", range.first);
    json_u64(&json, "last", range.last);
    json_end_object(&json);
    exchange->status = json.status;
}

static enum status write_pulled_proto(const struct exchange *exchange,
                                      uint64_t lease, uint64_t lease_ms,
                                      struct bytes *body)
{
    enum status status = codec_pulled_begin(body, lease, lease_ms);

    if (status == STATUS_OK) {
        status = bytes_append(body, http_content(&exchange->messages).at,
                              bytes_len(&exchange->messages));
    }
    if (status == STATUS_OK) {
        status = bytes_append(body, http_content(&exchange->gaps).at,
                              bytes_len(&exchange->gaps));
    }
    return status;
}

static enum status write_pulled_json(const struct exchange *exchange,
                                     uint64_t lease, uint64_t lease_ms,
                                     struct bytes *body)
{
    struct json json = json_to(body);

    json_begin_object(&json, NULL);
    json_u64(&json, "lease", lease);
    json_u64(&json, "lease_ms", lease_ms);
    json_begin_array(&json, "messages");
    json_raw(&json, NULL, http_content(&exchange->messages));
    json_end_array(&json);
    json_begin_array(&json, "gaps");
    json_raw(&json, NULL, http_content(&exchange->gaps));
    json_end_array(&json);
    json_end_object(&json);
    return json.status;
}

void http_pull_done(struct session *session, uint64_t id, uint64_t lease,
                    uint64_t lease_ms)
{
    struct exchange *exchange = http_exchange_of(session);
    struct bytes body = { 0 };
    bool protobuf;

    (void)id;
    if (exchange == NULL) {
        return;
    }
    protobuf = exchange->protobuf;
    if (exchange->status == STATUS_OK) {
        exchange->status =
            protobuf ? write_pulled_proto(exchange, lease, lease_ms, &body)
                     : write_pulled_json(exchange, lease, lease_ms, &body);
    }
    if (exchange->status != STATUS_OK) {
        /* What was pulled comes again when its lease is over. */
        bytes_fini(&body);
        http_respond_no_memory(session);
        return;
    }
    http_respond_bytes(session, 200, protobuf ? PROTOBUF_TYPE : JSON_TYPE,
                       &body);
}

void http_pull_begin(struct session *session, struct exchange *exchange,
                     const struct http_request *request)
{
    struct refusal refusal;

    if (http_pull_read(request, &exchange->count_max, &exchange->wait_ms,
                       &refusal)
        != STATUS_OK) {
        http_respond_refusal(session, &refusal);
        return;
    }
    http_go_to_group(session, exchange);
}

void http_pull_arrived(struct session *session, struct exchange *exchange)
{
    struct http_route route = exchange->route;

    session_pull(session, CALL_ID, slice_text(route.name), exchange->count_max,
                 exchange->wait_ms);
}

/* ---- settle ---- */

void http_settle_done(struct session *session, uint64_t id, struct slice topic,
                      const struct wire_settled_range *ranges, size_t count)
{
    struct exchange *exchange = http_exchange_of(session);
    struct bytes body = { 0 };
    struct json json = json_to(&body);

    if (exchange == NULL) {
        return;
    }
    if (exchange->protobuf) {
        if (codec_settled_body_write(&body, id, topic, ranges, count)
            != STATUS_OK) {
            bytes_fini(&body);
            http_respond_no_memory(session);
            return;
        }
        http_respond_bytes(session, 200, PROTOBUF_TYPE, &body);
        return;
    }
    json_begin_object(&json, NULL);
    json_text(&json, "topic", topic);
    json_settled_ranges(&json, ranges, count);
    json_end_object(&json);
    http_respond_json(session, 200, json.status, &body);
}

static void settle_proto(struct session *session, const char *group,
                         struct slice body)
{
    struct wire_request request;
    struct refusal refusal;

    if (codec_settle_body_read(session_codec(session), body, &request, &refusal)
        != STATUS_OK) {
        http_respond_refusal(session, &refusal);
        return;
    }
    session_settle_in(session, CALL_ID, slice_text(group), &request.settle);
}

static void settle_json(struct session *session, const char *group,
                        struct slice body)
{
    struct json_scratch scratch = { 0 };
    struct wire_settle settle;
    struct refusal refusal;

    if (json_settle_read(&scratch, body, &settle, &refusal) == STATUS_OK) {
        session_settle_in(session, CALL_ID, slice_text(group), &settle);
    } else {
        http_respond_refusal(session, &refusal);
    }
    json_scratch_fini(&scratch);
}

/* The answer may come from within the call and end the exchange; the body must
 * outlive it. */
void http_settle_arrived(struct session *session, struct exchange *exchange)
{
    struct http_route route = exchange->route;
    struct bytes body = exchange->body;

    exchange->body = (struct bytes) { 0 };
    if (exchange->body_protobuf) {
        settle_proto(session, route.name, http_content(&body));
    } else {
        settle_json(session, route.name, http_content(&body));
    }
    bytes_fini(&body);
}
