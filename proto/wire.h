/* The wire's words as C structs. The proto codec (proto/codec.h), the JSON door
 * and the broker's sessions all speak these. Slices point into the frame they
 * were decoded from and live as long as it does. */
#ifndef GODWIT_PROTO_WIRE_H
#define GODWIT_PROTO_WIRE_H

#include "proto/bytes.h"
#include "proto/limits.h"
#include "proto/refusal.h"
#include "proto/seqset.h"

enum request_kind {
    REQUEST_HELLO = 1,
    REQUEST_PUBLISH,
    REQUEST_ATTACH,
    REQUEST_DETACH,
    REQUEST_SETTLE,
    REQUEST_PING
};

struct wire_header {
    struct slice name;
    struct slice value;
};

/* A message taken apart. */
struct wire_message {
    struct slice key;
    struct slice body;
    struct slice tag;
    struct slice id;        /* empty: none */
    uint64_t delay_ms;      /* 0: none; not together with deliver_at_ms */
    uint64_t deliver_at_ms; /* since 1970; 0: at once */
    uint64_t ttl_ms;        /* from when it is due; 0: for ever */
    size_t header_count;
    struct wire_header headers[HEADER_COUNT_MAX];
};

struct wire_hello {
    struct slice app;
    struct slice secret; /* empty: signed */
    uint64_t timestamp_ms;
    struct slice nonce;
    struct slice signature; /* 32 bytes */
    struct slice client;
    uint64_t producer;
};

struct wire_publish {
    struct slice topic;
    uint64_t producer_seq;        /* of the first, 0: none */
    const struct slice *messages; /* each an encoded Message, checked or not as
                                   * the decoder's contract says */
    size_t count;
    bool atomic; /* all of them are stored, or none */
};

struct wire_attach {
    struct slice group;
    uint64_t credit_messages;
    uint64_t credit_bytes;
};

enum settle_action {
    SETTLE_ACK = 1,
    SETTLE_NACK,
    SETTLE_RELEASE,
    SETTLE_EXTEND,
    SETTLE_REJECT /* it is dead at once */
};

struct wire_settle {
    struct slice topic;
    enum settle_action action;
    const struct seq_range *ranges;
    size_t count;
    uint64_t delay_ms; /* nack: 0 = the broker's backoff; extend: more time */
    struct slice reason;
    uint64_t lease; /* HTTP only */
};

struct wire_request {
    enum request_kind kind;
    uint64_t id;
    union {
        struct wire_hello hello;
        struct wire_publish publish;
        struct wire_attach attach;
        struct wire_settle settle;
    };
};

enum settle_outcome { OUTCOME_ACCEPTED = 1, OUTCOME_LATE, OUTCOME_UNKNOWN };

/* The word for people and in JSON, such as "accepted". */
const char *outcome_word(enum settle_outcome outcome);

struct wire_settled_range {
    uint64_t first;
    uint64_t last;
    enum settle_outcome outcome;
    uint64_t holder;
};

struct wire_welcome {
    struct slice broker;
    uint64_t body_len_max;
    uint64_t frame_len_max;
};

struct wire_confirm {
    uint64_t id;
    uint64_t count;
    uint64_t seq;
    bool duplicate;
    /* the receipt: where the first one was written; segment 0: there is none */
    uint32_t segment;
    uint32_t offset;
    uint64_t checksum; /* record_receipt() over all of them */
};

struct wire_attached {
    struct slice group;
    uint64_t lease_ms;
    uint64_t lease;
};

/* One message on its way to a subscriber; `message` is the encoded Message. */
struct wire_delivery {
    uint64_t seq;
    uint32_t attempt;
    uint64_t time_us;
    struct slice message;
};

enum reply_kind {
    REPLY_WELCOME = 1,
    REPLY_CONFIRM,
    REPLY_REFUSED,
    REPLY_ATTACHED,
    REPLY_DETACHED,
    REPLY_DELIVER,
    REPLY_SETTLED,
    REPLY_GAP,
    REPLY_PONG,
    REPLY_NOTICE
};

#endif
