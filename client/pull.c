/* Pulling: one HTTP request for a batch, one for each settlement of it. */
#include "client/client.h"
#include "proto/name.h"

#include <stdio.h>
#include <stdlib.h>

#define PROTOBUF "application/protobuf"

struct godwit_batch {
    char group[NAME_LEN_MAX + 1];
    uint64_t lease;
    size_t count;
    struct bytes body; /* the answer: all slices point into it */
    struct godwit_delivery *deliveries;
    char (*topics)[NAME_LEN_MAX + 1];
    bool *settled; /* of each delivery: an ack of the rest leaves it out */
    struct godwit_text_header *headers;
};

void godwit_batch_free(struct godwit_batch *batch)
{
    if (batch != NULL) {
        bytes_fini(&batch->body);
        free(batch->deliveries);
        free(batch->topics);
        free(batch->settled);
        free(batch->headers);
        free(batch);
    }
}

size_t godwit_batch_count(const struct godwit_batch *batch)
{
    return batch->count;
}

const struct godwit_delivery *godwit_batch_at(const struct godwit_batch *batch,
                                              size_t index)
{
    return index < batch->count ? &batch->deliveries[index] : NULL;
}

static struct slice bytes_slice(const struct bytes *b)
{
    return b->at == NULL ? slice_of("", 0)
                         : slice_of(bytes_begin(b), bytes_len(b));
}

/* ---- refusals ---- */

/* Of an answer without a refusal in JSON, as a proxy may give it. */
static enum status status_of_code(int code)
{
    switch (code) {
    case 400:
        return STATUS_INVALID;
    case 401:
        return STATUS_UNAUTHENTICATED;
    case 403:
        return STATUS_FORBIDDEN;
    case 404:
        return STATUS_NOT_FOUND;
    case 408:
    case 504:
        return STATUS_TIMEOUT;
    case 413:
        return STATUS_TOO_LARGE;
    default:
        return STATUS_IO;
    }
}

/* The string behind `"name":` in the broker's JSON refusals, which have no two
 * of one name; what cannot be found that way is shown as it is. */
static struct slice json_text(struct slice json, const char *name)
{
    char wanted[32];
    const uint8_t *at;
    const uint8_t *end = json.at + json.len;
    const uint8_t *begin;
    int len = snprintf(wanted, sizeof wanted, "\"%s\":", name);

    CHECK(len > 0 && (size_t)len < sizeof wanted);
    at = json.len == 0 ? NULL : memmem(json.at, json.len, wanted, (size_t)len);
    if (at == NULL) {
        return slice_of(NULL, 0);
    }
    at += len;
    while (at < end && (*at == ' ' || *at == '"')) {
        at++;
    }
    for (begin = at; at < end && *at != '"'; at++) {
        at += *at == '\\' && end - at > 1;
    }
    return slice_of(begin, (size_t)(at - begin));
}

static enum status refused(struct godwit *c, const char *what,
                           struct http_response *response)
{
    struct slice json = bytes_slice(&response->body);
    struct slice text = json_text(json, "text");
    struct slice word = json_text(json, "status");
    enum status status =
        status_from_word(word.len == 0 ? "" : (const char *)word.at, word.len,
                         status_of_code(response->code));
    char words[512];

    if (text.len == 0) {
        text = json;
    }
    (void)snprintf(words, sizeof words, "%s refused with HTTP %d: %.*s", what,
                   response->code, (int)(text.len > 300 ? 300 : text.len),
                   text.len == 0 ? "" : (const char *)text.at);
    bytes_fini(&response->body);
    return client_note(c, status, words);
}

/* Ask; an answer other than 200 is turned into its status and words. */
static enum status ask(struct godwit *c, const char *what,
                       const struct http_request *request, uint64_t deadline_ms,
                       struct http_response *out)
{
    enum status status = client_http(c, request, deadline_ms, out);

    if (status == STATUS_OK && out->code != 200) {
        status = refused(c, what, out);
    }
    return status;
}

/* ---- pull ---- */

static enum status batch_room(struct godwit_batch *batch, size_t count,
                              size_t header_count)
{
    batch->deliveries = calloc(count + 1, sizeof *batch->deliveries);
    batch->topics = calloc(count + 1, sizeof *batch->topics);
    batch->settled = calloc(count + 1, sizeof *batch->settled);
    batch->headers = calloc(header_count + 1, sizeof *batch->headers);
    return batch->deliveries == NULL || batch->topics == NULL
                   || batch->settled == NULL || batch->headers == NULL
               ? STATUS_NOMEM
               : STATUS_OK;
}

/* How many headers there are in all of it. STATUS_INVALID: no messages. */
static enum status count_headers(const struct wire_pulled *pulled,
                                 size_t *count)
{
    struct wire_message message;
    struct refusal refusal;

    *count = 0;
    for (size_t i = 0; i < pulled->count; i++) {
        if (!name_valid(pulled->topics[i])
            || codec_message_check(pulled->deliveries[i].message, &message,
                                   &refusal)
                   != STATUS_OK) {
            return STATUS_INVALID;
        }
        *count += message.header_count;
    }
    return STATUS_OK;
}

static enum status batch_fill(struct godwit_batch *batch,
                              const struct wire_pulled *pulled)
{
    struct wire_message message;
    struct refusal refusal;
    size_t header_count;
    enum status status = count_headers(pulled, &header_count);

    if (status == STATUS_OK) {
        status = batch_room(batch, pulled->count, header_count);
    }
    if (status != STATUS_OK) {
        return status;
    }
    header_count = 0;
    for (size_t i = 0; i < pulled->count; i++) {
        status = codec_message_check(pulled->deliveries[i].message, &message,
                                     &refusal);
        CHECK(status == STATUS_OK);
        memcpy(batch->topics[i], pulled->topics[i].at, pulled->topics[i].len);
        batch->deliveries[i].topic = batch->topics[i];
        delivery_fill(&batch->deliveries[i], batch->headers + header_count,
                      &pulled->deliveries[i], &message);
        header_count += message.header_count;
    }
    batch->lease = pulled->lease;
    batch->count = pulled->count;
    return STATUS_OK;
}

static enum status batch_read(struct godwit_batch *batch)
{
    struct codec *codec = codec_new();
    struct slice body = bytes_slice(&batch->body);
    struct wire_pulled pulled;
    enum status status =
        codec == NULL ? STATUS_NOMEM : codec_pulled_read(codec, body, &pulled);

    if (status == STATUS_OK) {
        status = batch_fill(batch, &pulled);
    }
    codec_free(codec);
    return status;
}

enum godwit_status godwit_pull(struct godwit *c, const char *group,
                               uint32_t max, uint32_t wait_ms,
                               struct godwit_batch **out)
{
    char path[NAME_LEN_MAX + 64];
    struct http_request request = { .method = "POST",
                                    .path = path,
                                    .accept = PROTOBUF };
    struct http_response response = { .code = 0 };
    struct godwit_batch *batch;
    enum status status;

    if (group == NULL || !name_valid(slice_text(group))) {
        return public_status(
            client_note(c, STATUS_INVALID, "pull: no valid group name"));
    }
    (void)snprintf(path, sizeof path, "/v1/groups/%s/pull?max=%u&wait=%u",
                   group, max, (wait_ms + 999) / 1000);
    status = ask(c, "pull", &request,
                 clock_ms() + wait_ms + 1000 + HTTP_SLACK_MS, &response);
    if (status != STATUS_OK) {
        return public_status(status);
    }
    batch = calloc(1, sizeof *batch);
    if (batch == NULL) {
        bytes_fini(&response.body);
        return GODWIT_NO_MEMORY;
    }
    batch->body = response.body;
    (void)snprintf(batch->group, sizeof batch->group, "%s", group);
    status = batch_read(batch);
    if (status != STATUS_OK) {
        godwit_batch_free(batch);
        return public_status(
            client_note(c, status == STATUS_NOMEM ? status : STATUS_IO,
                        "pull: the broker's answer is malformed"));
    }
    *out = batch;
    return GODWIT_OK;
}

/* ---- settle ---- */

static void add_outcome(const struct wire_reply *reply, uint64_t *accepted)
{
    for (size_t i = 0; i < reply->settled.count; i++) {
        const struct wire_settled_range *range = &reply->settled.ranges[i];
        if (range->outcome == OUTCOME_ACCEPTED && range->last >= range->first) {
            *accepted += range->last - range->first + 1;
        }
    }
}

static enum status settled_read(const struct http_response *response,
                                uint64_t *accepted)
{
    struct codec *codec = codec_new();
    struct wire_reply reply;
    enum status status = codec == NULL
                             ? STATUS_NOMEM
                             : codec_settled_body_read(
                                 codec, bytes_slice(&response->body), &reply);

    if (status == STATUS_OK) {
        add_outcome(&reply, accepted);
    }
    codec_free(codec);
    return status;
}

static enum status settle(struct godwit *c, const struct godwit_batch *batch,
                          const struct wire_settle *order, uint64_t *accepted)
{
    char path[NAME_LEN_MAX + 32];
    struct bytes body = { .at = NULL };
    struct http_request request = { .method = "POST",
                                    .path = path,
                                    .accept = PROTOBUF,
                                    .content_type = PROTOBUF };
    struct http_response response = { .code = 0 };
    enum status status = codec_settle_body_write(&body, 1, order);

    if (status != STATUS_OK) {
        return status;
    }
    (void)snprintf(path, sizeof path, "/v1/groups/%s/settle", batch->group);
    request.body = slice_of(bytes_begin(&body), bytes_len(&body));
    status = ask(c, "settle", &request, clock_ms() + HTTP_SLACK_MS, &response);
    bytes_fini(&body);
    if (status != STATUS_OK) {
        return status;
    }
    status = settled_read(&response, accepted);
    bytes_fini(&response.body);
    return status == STATUS_OK
               ? status
               : client_note(c, STATUS_IO,
                             "settle: the broker's answer is malformed");
}

static void remember(struct godwit_batch *batch, const char *topic,
                     uint64_t first, uint64_t last)
{
    for (size_t i = 0; i < batch->count; i++) {
        const struct godwit_delivery *d = &batch->deliveries[i];

        if (d->seq >= first && d->seq <= last
            && strcmp(batch->topics[i], topic) == 0) {
            batch->settled[i] = true;
        }
    }
}

enum godwit_status godwit_batch_settle(struct godwit *c,
                                       struct godwit_batch *batch,
                                       enum godwit_action action,
                                       const char *topic, uint64_t first,
                                       uint64_t last, uint64_t delay_ms,
                                       const char *reason, uint64_t *accepted)
{
    struct seq_range range = { first, last };
    struct wire_settle order = { .action = (enum settle_action)action,
                                 .ranges = &range,
                                 .count = 1,
                                 .delay_ms = delay_ms,
                                 .lease = batch->lease };
    uint64_t count = 0;
    enum status status;

    if (topic == NULL || !name_valid(slice_text(topic)) || first == 0
        || first > last || action < GODWIT_DO_ACK || action > GODWIT_DO_REJECT
        || delay_ms > DELAY_MS_MAX
        || (reason != NULL && strlen(reason) > REASON_LEN_MAX)) {
        return public_status(
            client_note(c, STATUS_INVALID, "settle: a part is out of range"));
    }
    order.topic = slice_text(topic);
    if (reason != NULL) {
        order.reason = slice_text(reason);
    }
    status = settle(c, batch, &order, &count);
    /* Whether a nack without an answer counted is not known: an ack must not
     * undo it. It comes again when its lease is over. */
    if (action != GODWIT_DO_EXTEND
        && (status == STATUS_OK || action != GODWIT_DO_ACK)) {
        remember(batch, topic, first, last);
    }
    if (status == STATUS_OK && accepted != NULL) {
        *accepted = count;
    }
    return public_status(status);
}

/* All of the topic at index `begin`, up to `end`. */
static void remember_acked(struct godwit_batch *batch, size_t begin, size_t end)
{
    for (size_t i = begin; i < end; i++) {
        if (strcmp(batch->topics[i], batch->topics[begin]) == 0) {
            batch->settled[i] = true;
        }
    }
}

/* One request for what is not settled of the topic at index `begin`, wherever
 * it lies in the batch: each request waits for the broker's disk. What is
 * beyond RANGE_COUNT_MAX runs stays for the next one. */
static enum status ack_topic(struct godwit *c, struct godwit_batch *batch,
                             size_t begin, uint64_t *accepted)
{
    struct seq_range ranges[RANGE_COUNT_MAX];
    struct wire_settle order = { .topic = slice_text(batch->topics[begin]),
                                 .action = SETTLE_ACK,
                                 .ranges = ranges,
                                 .lease = batch->lease };
    size_t end = begin;
    enum status status;

    for (; end < batch->count; end++) {
        uint64_t seq = batch->deliveries[end].seq;

        if (batch->settled[end] || !slice_is(order.topic, batch->topics[end])) {
            continue;
        }
        if (order.count > 0 && seq == ranges[order.count - 1].last + 1) {
            ranges[order.count - 1].last = seq;
        } else if (order.count < RANGE_COUNT_MAX) {
            ranges[order.count++] = (struct seq_range) { seq, seq };
        } else {
            break;
        }
    }
    status = settle(c, batch, &order, accepted);
    if (status == STATUS_OK) {
        remember_acked(batch, begin, end);
    }
    return status;
}

enum godwit_status godwit_batch_ack(struct godwit *c,
                                    struct godwit_batch *batch,
                                    uint64_t *accepted)
{
    uint64_t count = 0;
    enum status status = STATUS_OK;

    for (size_t i = 0; i < batch->count && status == STATUS_OK; i++) {
        if (!batch->settled[i]) {
            status = ack_topic(c, batch, i, &count);
        }
    }
    if (accepted != NULL) {
        *accepted = count;
    }
    return public_status(status);
}
