/* Subprotocol godwit.v1.proto: frames' payloads to wire structs and back, by
 * hand (proto/pb.h), so that bodies are never copied and nothing is allocated
 * for a message. The tests hold it against the code that protoc-c generates
 * from godwit.proto. No I/O, no threads: one codec a thread.
 *
 * Unknown fields of requests and replies are skipped, up to
 * UNKNOWN_FIELD_COUNT_MAX in each; a scalar that occurs twice has its last
 * value; a Request or Reply has exactly one kind. A Message may hold nothing
 * that is not known here, and nothing twice. */
#ifndef GODWIT_PROTO_CODEC_H
#define GODWIT_PROTO_CODEC_H

#include "proto/wire.h"

/* Scratch memory for one decode at a time (message slices, ranges, arena). */
struct codec;

struct codec *codec_new(void); /* NULL when memory is short */
void codec_free(struct codec *codec);

/* ---- requests (broker side decodes, client side writes) ---- */

/* Decode one Request. On success the slices point into `payload` or into the
 * codec's scratch, both good until the next decode. Messages of a publish are
 * NOT checked yet (codec_message_check), nor is a name more than short enough.
 * On failure *refusal explains, and out->kind and out->id hold the request's if
 * that much was readable, else 0. STATUS_UNSUPPORTED: a kind of request that is
 * not known here. STATUS_NOMEM. */
MUST_CHECK enum status codec_request_read(struct codec *codec,
                                          struct slice payload,
                                          struct wire_request *out,
                                          struct refusal *refusal);

/* Is this slice a well-formed Message within the limits: known fields only,
 * nothing twice, texts UTF-8 without NUL, header names present and unique,
 * body, delays and time to live bounded? Fills *out (may be NULL) with the
 * parts; after a refusal there is nothing of use in it. Fast for key + body.
 * Not asked here, because it takes a clock: how far ahead deliver_at_ms is; nor
 * whether there is a delay besides it. */
MUST_CHECK enum status codec_message_check(struct slice message,
                                           struct wire_message *out,
                                           struct refusal *refusal);

/* Each appends one payload. STATUS_NOMEM only. */
MUST_CHECK enum status codec_hello_write(struct bytes *to, uint64_t id,
                                         const struct wire_hello *hello);
MUST_CHECK enum status codec_publish_write(struct bytes *to, uint64_t id,
                                           const struct wire_publish *publish);
MUST_CHECK enum status codec_attach_write(struct bytes *to, uint64_t id,
                                          const struct wire_attach *attach);
MUST_CHECK enum status codec_detach_write(struct bytes *to, uint64_t id);
MUST_CHECK enum status codec_settle_write(struct bytes *to, uint64_t id,
                                          const struct wire_settle *settle);
MUST_CHECK enum status codec_ping_write(struct bytes *to, uint64_t id);

/* One Message. */
size_t codec_message_len(const struct wire_message *message);
MUST_CHECK enum status codec_message_write(struct bytes *to,
                                           const struct wire_message *message);

/* A Settle alone, without the Request around it (HTTP body). */
MUST_CHECK enum status codec_settle_body_read(struct codec *codec,
                                              struct slice payload,
                                              struct wire_request *out,
                                              struct refusal *refusal);
MUST_CHECK enum status
codec_settle_body_write(struct bytes *to, uint64_t id,
                        const struct wire_settle *settle);

/* ---- replies (broker side writes, client side decodes) ---- */

MUST_CHECK enum status codec_welcome_write(struct bytes *to, uint64_t id,
                                           const struct wire_welcome *welcome);
MUST_CHECK enum status codec_confirm_write(struct bytes *to,
                                           const struct wire_confirm *confirm);
MUST_CHECK enum status codec_refused_write(struct bytes *to, uint64_t id,
                                           uint64_t count,
                                           const struct refusal *refusal);
MUST_CHECK enum status
codec_attached_write(struct bytes *to, uint64_t id,
                     const struct wire_attached *attached);
MUST_CHECK enum status codec_detached_write(struct bytes *to, uint64_t id,
                                            struct slice reason);
MUST_CHECK enum status
codec_settled_write(struct bytes *to, uint64_t id, struct slice topic,
                    const struct wire_settled_range *ranges, size_t count);
/* A Settled alone, without the Reply around it (HTTP body). */
MUST_CHECK enum status
codec_settled_body_write(struct bytes *to, uint64_t id, struct slice topic,
                         const struct wire_settled_range *ranges, size_t count);
MUST_CHECK enum status codec_gap_write(struct bytes *to, struct slice topic,
                                       struct seq_range range);
MUST_CHECK enum status codec_pong_write(struct bytes *to, uint64_t id);

/* The lease of these messages, which the member holds, is about to end. */
struct wire_notice {
    struct slice topic;
    struct seq_range range;
    uint64_t ends_in_ms;
};
MUST_CHECK enum status codec_notice_write(struct bytes *to,
                                          const struct wire_notice *notice);

/* A Deliver: its length must be known before it is written, so first add up
 * codec_delivery_len() of each, then begin with the sum, then write each. */
size_t codec_delivery_len(const struct wire_delivery *delivery);
MUST_CHECK enum status codec_deliver_begin(struct bytes *to, struct slice topic,
                                           size_t deliveries_len);
MUST_CHECK enum status
codec_delivery_write(struct bytes *to, const struct wire_delivery *delivery);

/* Messages first .. last of a topic are lost. */
struct wire_gap {
    struct slice topic;
    struct seq_range range;
};

/* One decoded reply. Arrays point into the codec's scratch. */
struct wire_reply {
    enum reply_kind kind;
    uint64_t id; /* of all but deliver, gap and notice */
    union {
        struct wire_welcome welcome;
        struct wire_confirm confirm;
        struct {
            uint64_t count;
            struct refusal refusal;
        } refused;
        struct wire_attached attached;
        struct {
            struct slice reason;
        } detached;
        struct {
            struct slice topic;
            const struct wire_delivery *deliveries;
            size_t count;
        } deliver;
        struct {
            struct slice topic;
            const struct wire_settled_range *ranges;
            size_t count;
        } settled;
        struct wire_gap gap;
        struct wire_notice notice;
    };
};

/* STATUS_INVALID: no Reply. STATUS_UNSUPPORTED: of a kind that is not known
 * here, to be ignored. STATUS_NOMEM. The messages of a deliver are not checked,
 * and a refusal's `limit` lives in the codec until the next decode. */
MUST_CHECK enum status codec_reply_read(struct codec *codec,
                                        struct slice payload,
                                        struct wire_reply *out);

/* A Settled alone; out->kind is then REPLY_SETTLED. */
MUST_CHECK enum status codec_settled_body_read(struct codec *codec,
                                               struct slice payload,
                                               struct wire_reply *out);

/* ---- Pulled: the answer to an HTTP pull ---- */

MUST_CHECK enum status codec_pulled_begin(struct bytes *to, uint64_t lease,
                                          uint64_t lease_ms);
/* Then, for each topic in turn, a Deliver as a field of Pulled. */
MUST_CHECK enum status
codec_pulled_deliver(struct bytes *to, struct slice topic,
                     const struct wire_delivery *deliveries, size_t count);
MUST_CHECK enum status codec_pulled_gap(struct bytes *to, struct slice topic,
                                        struct seq_range range);

struct wire_pulled {
    uint64_t lease;
    uint64_t lease_ms;
    size_t count; /* deliveries, with their topic each */
    const struct wire_delivery *deliveries;
    const struct slice *topics;
    size_t gap_count;
    const struct wire_gap *gaps;
};
MUST_CHECK enum status codec_pulled_read(struct codec *codec,
                                         struct slice payload,
                                         struct wire_pulled *out);

#endif
