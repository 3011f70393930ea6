/* Every fixed bound of the wire and of memory in one place. Sizes and lens are
 * in bytes, times in milliseconds unless the name says otherwise. What an
 * operator may change, and from which default, is in broker/config.h. */
#ifndef GODWIT_PROTO_LIMITS_H
#define GODWIT_PROTO_LIMITS_H

#include <stdint.h>

enum {
    /* names and messages */
    NAME_LEN_MAX = 128,           /* app, topic, group: [A-Za-z0-9._-]+ */
    PATTERN_LEN_MAX = 128,        /* the same plus '*' */
    KEY_LEN_MAX = 1024,           /* message key, UTF-8 */
    HEADER_COUNT_MAX = 32,        /* headers of one message */
    HEADER_NAME_LEN_MAX = 128,    /* UTF-8, not empty */
    HEADER_VALUE_LEN_MAX = 4096,  /* UTF-8 */
    BODY_LEN_MAX = 1024 * 1024,   /* message body, any bytes */
    TAG_LEN_MAX = 128,            /* UTF-8 */
    MESSAGE_ID_LEN_MAX = 128,     /* UTF-8 */
    PUBLISH_DELAY_DAYS_MAX = 366, /* delay, and how far ahead deliver-at is */
    TTL_DAYS_MAX = 10 * 366,      /* time to live, from when it is due */
    ATOMIC_LEN_MAX = 2 * 1024 * 1024, /* records of an all-or-nothing batch */
    /* the encoded Message: body, key and headers with their tags */
    MESSAGE_LEN_MAX = 1024 * 1024 + 160 * 1024,
    SECRET_LEN_MAX = 128,
    SECRET_RANDOM_LEN = 24, /* random bytes in a secret that we make */
    NONCE_LEN_MIN = 8,
    NONCE_LEN_MAX = 64,
    REASON_LEN_MAX = 256,
    CLIENT_LEN_MAX = 256,   /* what a client calls itself */
    SIGNATURE_LEN_MAX = 32, /* HMAC-SHA256 */

    /* one frame or request */
    FRAME_LEN_MAX = 4 * 1024 * 1024, /* WebSocket message payload */
    PUBLISH_COUNT_MAX = 10000,       /* messages in one publish request */
    RANGE_COUNT_MAX = 1024,          /* ranges in one settle request */
    SETTLE_OUTCOMES_MAX = 16384,     /* stretches in the answer to one settle */
    /* messages and stretches that settle requests look at in a loop turn: ... */
    SETTLE_LOOKS_SESSION = 16384, /* ... those of one session, and ... */
    SETTLE_LOOKS_TURN = 65536,    /* ... all of a worker */
    OPERATE_LOOKS_TURN = 8192, /* the same of discards and undos, and ranges */
    TRIM_LOOKS_TURN = 8192, /* the same of what topics keep no more, and of what
                             * was open before a seek, or in a group or topic
                             * that was deleted */
    OUTCOMES_HIGH = 4096,   /* unanswered of a session; then it is not read */
    REPLY_ITEM_COUNT_MAX = 65536, /* deliveries, ranges or gaps in one reply */
    UNKNOWN_FIELD_COUNT_MAX = 64, /* of a newer version, in one message */
    HTTP_HEAD_LEN_MAX = 8 * 1024, /* request line and headers */
    HTTP_HEADER_COUNT_MAX = 64,
    HTTP_BODY_LEN_MAX = 4 * 1024 * 1024,
    CONTROL_LEN_MAX = 125, /* RFC 6455 section 5.5 */
    JSON_DEPTH_MAX = 16,
    JSON_VALUE_COUNT_MAX = 256 * 1024, /* each costs up to 256 bytes, parsed */
    HELLO_LEN_MAX = 8 * 1024, /* a frame of somebody who has not said hello */

    /* connections */
    NET_RECEIVE_LEN = 256 * 1024,   /* one buffer a worker; a read fills it */
    NET_READ_COUNT_MAX = 2,         /* reads of one connection per loop turn */
    NET_ACCEPT_COUNT_MAX = 64,      /* accepts per listener and loop turn */
    NET_ACCEPT_PAUSE_MS = 100,      /* when descriptors ran out */
    NET_DESCRIPTOR_PART = 4,        /* a fourth of the process's, and ... */
    NET_DESCRIPTOR_RESERVE = 64,    /* ... at least this, not for connections */
    NET_LISTENER_COUNT_MAX = 8,     /* sockets of one worker */
    NET_SPARE_COUNT = 16,           /* empty buffers a worker keeps, each ... */
    NET_SPARE_LEN_MAX = 256 * 1024, /* ... of at most this */
    NET_INPUT_LEN_MAX =
        256 * 1024 * 1024, /* half requests and frames of a worker */
    NET_OUTPUT_LEN_MAX = 256 * 1024 * 1024, /* waits to be sent, of a worker */
    NET_UNKNOWN_OUTPUT_HIGH = 32 * 1024, /* congested, before the login ... */
    NET_UNKNOWN_OUTPUT_LOW = 8 * 1024,   /* ... until it is below this */
    NET_UNKNOWN_PART = 8,         /* before their login all share 1/8 of both */
    NET_ENCRYPT_LEN = 256 * 1024, /* plain bytes encrypted at a time */
    WRITE_STALL_MS = 30 * 1000,   /* bytes wait and the peer takes none */
    CLOSE_WAIT_MS = 3000,         /* for the peer's half of a close */
    LINGER_LEN_MAX = 16 * 1024 * 1024, /* bytes thrown away while closing */
    WS_FRAGMENT_COUNT_MAX = 1024,      /* frames of one message */
    WS_PONG_BACKLOG_MAX = 64 * 1024, /* above: only the latest ping answered */

    /* the catalog */
    APP_COUNT_MAX = 16384,
    TOPIC_COUNT_MAX = 65536,
    KEEP_HOURS_MAX = 100 * 366 * 24, /* messages, by a topic's retention */
    GROUP_COUNT_MAX = 16384,
    NONCE_COUNT_MAX = 256 * 1024,    /* of signed logins, per NONCE_KEEP_MS */
    NONCE_APP_COUNT_MAX = 64 * 1024, /* of them, of one app */
    NONCE_KEEP_MS =
        2 * 60 * 1000, /* twice the skew: no timestamp lives longer */

    /* groups */
    LANE_COUNT_MAX = 1000000, /* pairs of a group and a topic it takes */
    GROUP_PATTERN_COUNT_MAX = 32,
    FROM_TIME_TOPIC_COUNT_MAX = 256, /* topics of a group that begins at a
                                      * time: a search in the log for each */
    APP_GRANT_COUNT_MAX = 64,
    GROUP_IN_FLIGHT_DEFAULT = 262144,
    GROUP_IN_FLIGHT_MAX = 16 * 1024 * 1024, /* unsettled of one group */
    ATTEMPTS_DEFAULT = 20,                  /* then a message is dead */
    ATTEMPTS_MAX = 1000000,
    BACKOFF_COUNT_MAX = 16, /* steps of a group's own backoff */
    FILTER_LEN_MAX = 1024,  /* a group's filter, a search's */
    FILTER_TERMS_MAX = 64,  /* comparisons in it, list members each */
    FILTER_DEPTH_MAX = 32,  /* parentheses and negations */
    KEYS_WAITING_MAX = 8 * 1024 * 1024, /* messages behind their key, of one
                                         * worker; 8 bytes each */
    REDRIVE_UNDO_MAX = 65536, /* stretches of a redrive that can be undone */
    HISTORY_MAX = 16,         /* failures remembered of one message */
    DEAD_COUNT_MAX = 1024 * 1024, /* ranges of dead messages of one lane; then
                                   * none dies any more, attempts go on */
    CREDIT_MESSAGES_MAX = 65536,
    CREDIT_BYTES_MAX = 64 * 1024 * 1024,
    LEASE_MS_MIN = 100,
    LEASE_MS_MAX = 12 * 60 * 60 * 1000,
    LEASE_MS_DEFAULT = 30 * 1000,
    DELAY_MS_MAX = 7 * 24 * 60 * 60 * 1000,
    PULL_COUNT_MAX = 1000,
    PULL_COUNT_DEFAULT = 100,
    PULL_WAIT_MS_MAX = 60 * 1000,
    SEARCH_MESSAGES_MAX = 20000, /* looked at for one search request, ... */
    SEARCH_BYTES_MAX = 8 * 1024 * 1024, /* ... of so much, ... */
    SEARCH_US_MAX = 50 * 1000,          /* ... for so long; then it answers */
    SEARCH_TURN_US = 1000,  /* for all searches of a worker, in a loop turn */
    SEARCH_COUNT_MAX = 64,  /* searches of a worker under way, and ... */
    TAIL_WAITING_MAX = 256, /* ... those that wait for messages to come */
    BACKOFF_MS_MIN = 1000,  /* after the first nack */
    BACKOFF_MS_MAX = 5 * 60 * 1000, /* doubled up to this, plus jitter */

    /* the log */
    BATCH_LEN_MAX = 4 * 1024 * 1024,  /* one commit batch, all of it */
    SUBMISSION_LEN = 8 * 1024 * 1024, /* byte ring of one worker */
    WORKER_COUNT_MAX = 64,

    SEGMENT_POOL_MAX = 4, /* files kept for the next segments, while they are
                           * at most a quarter of what the disk has free */
    SEGMENT_MIB_MIN = 16, /* configured; holds the longest record of any kind */
    SEGMENT_MIB_MAX = 1024,
    /* What the log is told of settled messages comes in records that fit the
     * segment which a start on a full disk makes, however small. */
    SETTLED_RECORD_LEN_MAX = 26 * 1024,

    /* the broker's memory */
    COMMIT_SLOTS = 4096,               /* commits not yet taken by all */
    PLACES_MAX = 2 * COMMIT_SLOTS,     /* of one worker's records in the log,
                                        * not read yet; beyond that confirms
                                        * carry no receipt */
    HELD_BYTES_MAX = 64 * 1024 * 1024, /* publishes held back, of one worker */
    CHANGE_WAITING_MAX = 10000,        /* catalog changes of one worker */
    SESSION_PENDING_HIGH = 8192,       /* answers a session waits for; from
                                        * here on it is not read ... */
    SESSION_PENDING_LOW = 4096,        /* ... until they are so few */
    UNTOLD_FAILURES_MAX = 256 * 1024,  /* failures of one group the log has not
                                        * been told; then no deliveries, ... */
    UNTOLD_RANGES_MAX = 256 * 1024,    /* nor with so many ranges untold */
    REASONS_BYTES_MAX = 8 * 1024 * 1024, /* nor when their reasons have so much;
                                          * further ones are not kept */
    PULL_BYTES_MAX = 3 * 1024 * 1024,    /* messages in one pull's answer */
    REPLAY_BYTES_MAX = 128 * 1024 * 1024,  /* of log, from one checkpoint to the
                                            * next: what a start replays; */
    REPLAY_BYTES_EARLY = 16 * 1024 * 1024, /* so many when they are quick */

    /* the store's memory */
    PRODUCER_COUNT_MAX = 131072,   /* producers remembered */
    PRODUCER_HOLES_MAX = 4,        /* ranges not stored, of one producer */
    MESSAGE_IDS_MAX = 131072,      /* message ids remembered */
    HISTORIES_PENDING_MAX = 65536, /* failures in no checkpoint yet */
    RUNS_PENDING_MAX = 1 << 20,    /* runs of messages in no checkpoint yet */
    FACTS_PENDING_MAX = 1 << 16,   /* other records in no checkpoint yet */
    LANES_CACHED_MAX = 4096,       /* settled sets the keeper holds ready; while
                                    * it looks what may go, twice as many and
                                    * those of one topic */
    STORE_VIEW_COUNT_MAX = 128,    /* open views, one a thread */

    /* the client's memory */
    WINDOW_COUNT_MAX = 1000 * 1000,      /* publishes not confirmed yet ... */
    WINDOW_BYTES_MAX = 64 * 1024 * 1024, /* ... and their blocks */
    SETTLE_BATCH_COUNT_MAX = 65536,      /* settle requests not answered yet */

    /* clocks */
    TIMESTAMP_SKEW_MS_MAX = 60 * 1000, /* of a signed hello */
};

/* Too large for an enum's int. */
#define DAY_MS               (UINT64_C(24) * 60 * 60 * 1000)
#define PUBLISH_DELAY_MS_MAX (PUBLISH_DELAY_DAYS_MAX * DAY_MS)
#define TTL_MS_MAX           (TTL_DAYS_MAX * DAY_MS)
/* The end of the year 9999: in microseconds it is still a number. */
#define DELIVER_AT_MS_MAX UINT64_C(253402300799999)

#endif
