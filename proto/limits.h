/* Every fixed bound in one place. Sizes and lens are in bytes, times in
 * milliseconds unless the name says otherwise. What an operator may change is
 * in broker/config.h; its defaults are here. */
#ifndef GODWIT_PROTO_LIMITS_H
#define GODWIT_PROTO_LIMITS_H

enum {
    /* names and messages */
    NAME_LEN_MAX = 128,           /* app, topic, group: [A-Za-z0-9._-]+ */
    PATTERN_LEN_MAX = 128,        /* the same plus '*' */
    KEY_LEN_MAX = 1024,           /* message key, UTF-8 */
    HEADER_COUNT_MAX = 32,        /* headers of one message */
    HEADER_NAME_LEN_MAX = 128,    /* UTF-8, not empty */
    HEADER_VALUE_LEN_MAX = 4096,  /* UTF-8 */
    BODY_LEN_MAX = 1024 * 1024,   /* message body, any bytes */
    /* the encoded Message: body, key and headers with their tags */
    MESSAGE_LEN_MAX = 1024 * 1024 + 160 * 1024,
    SECRET_LEN_MAX = 128,
    NONCE_LEN_MIN = 8,
    NONCE_LEN_MAX = 64,
    REASON_LEN_MAX = 256,
    CLIENT_LEN_MAX = 256,    /* what a client calls itself */
    SIGNATURE_LEN_MAX = 32,  /* HMAC-SHA256 */

    /* one frame or request */
    FRAME_LEN_MAX = 4 * 1024 * 1024, /* WebSocket message payload */
    PUBLISH_COUNT_MAX = 10000,       /* messages in one publish request */
    RANGE_COUNT_MAX = 1024,          /* ranges in one settle request */
    REPLY_ITEM_COUNT_MAX = 65536,    /* deliveries, ranges or gaps in one reply */
    UNKNOWN_FIELD_COUNT_MAX = 64,    /* of a newer version, in one message */
    HTTP_HEAD_LEN_MAX = 8 * 1024,    /* request line and headers */
    HTTP_HEADER_COUNT_MAX = 64,
    HTTP_BODY_LEN_MAX = 4 * 1024 * 1024,
    CONTROL_LEN_MAX = 125,   /* RFC 6455 section 5.5 */
    JSON_DEPTH_MAX = 16,

    /* groups */
    GROUP_PATTERN_COUNT_MAX = 32,
    APP_GRANT_COUNT_MAX = 64,
    CREDIT_MESSAGES_MAX = 65536,
    CREDIT_BYTES_MAX = 64 * 1024 * 1024,
    LEASE_MS_MIN = 100,
    LEASE_MS_MAX = 12 * 60 * 60 * 1000,
    LEASE_MS_DEFAULT = 30 * 1000,
    DELAY_MS_MAX = 7 * 24 * 60 * 60 * 1000,
    PULL_COUNT_MAX = 1000,
    PULL_WAIT_MS_MAX = 60 * 1000,
    BACKOFF_MS_MIN = 1000,           /* after the first nack */
    BACKOFF_MS_MAX = 5 * 60 * 1000,  /* doubled up to this, plus jitter */

    /* the log */
    BATCH_LEN_MAX = 4 * 1024 * 1024, /* one commit batch, all of it */
    SUBMISSION_LEN = 8 * 1024 * 1024, /* byte ring of one worker */
    WORKER_COUNT_MAX = 64,

    /* clocks */
    TIMESTAMP_SKEW_MS_MAX = 60 * 1000, /* of a signed hello */
};

#endif
