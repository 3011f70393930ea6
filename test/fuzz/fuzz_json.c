/* links: godwit_door godwit_router godwit_net godwit_storage godwit_proto */
/* JSON of clients: frames, and the bodies of HTTP requests, operators' too. What
 * is taken must keep to the bounds, and its messages must be sound or refused
 * by the codec; what is refused must say why, and be writable as JSON. */
#include "broker/door/json.h"
#include "broker/door/json_operation.h"
#include "broker/door/json_read.h"
#include "broker/router/filter.h"
#include "proto/codec.h"
#include "proto/utf8.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t len);

static void check_refusal(enum status status, const struct refusal *refusal)
{
    struct bytes text = { 0 };
    struct json json = json_to(&text);

    if (status == STATUS_OK) {
        return;
    }
    CHECK(refusal->status == status && refusal->text[0] != '\0');
    json_begin_object(&json, NULL);
    json_refusal(&json, refusal);
    json_end_object(&json);
    CHECK(json.status == STATUS_OK);
    CHECK(utf8_valid(slice_of(text.at, bytes_len(&text))));
    bytes_fini(&text);
}

static void check_publish(const struct wire_publish *publish)
{
    CHECK(publish->count > 0 && publish->count <= PUBLISH_COUNT_MAX);
    for (size_t i = 0; i < publish->count; i++) {
        struct wire_message message;
        struct refusal refusal;
        enum status status =
            codec_message_check(publish->messages[i], &message, &refusal);

        /* What we encoded ourselves can only be too large or named twice. */
        CHECK(status == STATUS_OK || refusal.text[0] != '\0');
    }
}

static void check_settle(const struct wire_settle *settle)
{
    CHECK(settle->count > 0 && settle->count <= RANGE_COUNT_MAX);
    CHECK(settle->topic.len > 0 && settle->topic.len <= NAME_LEN_MAX);
    for (size_t i = 0; i < settle->count; i++) {
        CHECK(settle->ranges[i].first > 0
              && settle->ranges[i].first <= settle->ranges[i].last);
    }
}

static void read_frame(struct slice text)
{
    struct json_scratch scratch = { 0 };
    struct wire_request request;
    struct refusal refusal;
    uint64_t count;
    enum status status =
        json_request_read(&scratch, text, &request, &count, &refusal);

    CHECK(count > 0);
    check_refusal(status, &refusal);
    if (status == STATUS_OK && request.kind == REQUEST_PUBLISH) {
        check_publish(&request.publish);
        CHECK(count == request.publish.count);
    } else if (status == STATUS_OK && request.kind == REQUEST_SETTLE) {
        check_settle(&request.settle);
    }
    json_scratch_fini(&scratch);
}

static void read_bodies(struct slice text)
{
    struct json_scratch scratch = { 0 };
    struct wire_publish publish = { 0 };
    struct wire_settle settle;
    struct refusal refusal;
    enum status status = json_batch_read(&scratch, text, &publish, &refusal);

    check_refusal(status, &refusal);
    if (status == STATUS_OK) {
        check_publish(&publish);
    }
    json_scratch_fini(&scratch);
    status = json_settle_read(&scratch, text, &settle, &refusal);
    check_refusal(status, &refusal);
    if (status == STATUS_OK) {
        check_settle(&settle);
    }
    json_scratch_fini(&scratch);
}

static void read_changes(struct slice text)
{
    for (int class = CATALOG_APP; class <= CATALOG_GROUP; class ++) {
        struct catalog_request request = {
            .op = CATALOG_CREATE,
            .class = (enum catalog_class) class,
        };
        struct refusal refusal;

        check_refusal(json_change_read(text, &request, &refusal), &refusal);
        CHECK(request.topics.count <= APP_GRANT_COUNT_MAX);
        catalog_request_fini(&request);
    }
}

static void read_operations(struct slice text)
{
    for (int kind = OPERATION_SEEK; kind <= OPERATION_DISCARD; kind++) {
        struct json_operation asked;
        const struct operation *o = &asked.operation;
        struct refusal refusal;
        enum status status = json_operation_read(
            &asked, (enum operation_kind)kind, text, &refusal);

        check_refusal(status, &refusal);
        if (status != STATUS_OK) {
            continue;
        }
        CHECK(o->topic.len <= NAME_LEN_MAX);
        CHECK(seqset_range_count(&o->ranges) <= RANGE_COUNT_MAX);
        CHECK(seqset_range_count(&o->ranges) == 0 || o->topic.len > 0);
        CHECK((o->kind == OPERATION_SEEK) == (o->to != 0));
        CHECK(o->cause <= CAUSE_REJECT);
        seqset_fini(&asked.operation.ranges);
        filter_free(o->filter);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t len)
{
    struct slice text = slice_of(at, len);
    struct bytes decoded = { 0 };

    read_frame(text);
    read_bodies(text);
    read_changes(text);
    read_operations(text);
    if (base64_decode(&decoded, text) == STATUS_OK) {
        struct bytes again = { 0 };
        struct json json = json_to(&again);

        json_base64(&json, NULL, slice_of(decoded.at, bytes_len(&decoded)));
        CHECK(bytes_len(&again) == len + 2
              && (len == 0 || memcmp(again.at + 1, at, len) == 0));
        bytes_fini(&again);
    }
    bytes_fini(&decoded);
    return 0;
}
