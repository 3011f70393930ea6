/* libgodwit: the C client of the Godwit message broker. The one public header.
 *
 * A client is one connection to the broker that comes back by itself. By
 * default it owns a thread; callbacks then run on that thread and must not
 * block. With `own_thread = false` nothing happens until the caller's loop
 * calls godwit_step(), and callbacks run inside it.
 *
 * Every publish completes exactly once: GODWIT_OK means that the message is on
 * the broker's disk (fdatasync has returned). What was not confirmed when a
 * connection broke is sent again under the same producer sequence, and the
 * broker drops what it has already, across its restart too.
 *
 * All functions may be called from any thread unless they say otherwise. Texts
 * are UTF-8 and end with NUL; times are milliseconds unless named. */
#ifndef GODWIT_H
#define GODWIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define GODWIT_API __attribute__((visibility("default")))
#else
#define GODWIT_API
#endif

/* The numbers are the wire's (PROTOCOL.md). */
enum godwit_status {
    GODWIT_OK = 0,
    GODWIT_AGAIN = 1, /* at a bound: the window is full, ... */
    GODWIT_NO_MEMORY = 2,
    GODWIT_INVALID = 3,
    GODWIT_TOO_LARGE = 4,
    GODWIT_NOT_FOUND = 5,
    GODWIT_EXISTS = 6,
    GODWIT_UNAUTHENTICATED = 7,
    GODWIT_FORBIDDEN = 8,
    GODWIT_CORRUPT = 9,
    GODWIT_IO = 10,
    GODWIT_FROZEN = 11, /* the broker's store stopped after an error */
    GODWIT_NO_SPACE = 12,
    GODWIT_CLOSED = 13,
    GODWIT_TIMEOUT = 14,
    GODWIT_NEWER = 15,
    GODWIT_UNSUPPORTED = 16,
    GODWIT_BUSY = 17,
    GODWIT_INTERNAL = 18
};

GODWIT_API const char *godwit_status_text(enum godwit_status status);
GODWIT_API const char *godwit_version(void);

/* ---- a client ---- */

struct godwit;

enum godwit_state {
    GODWIT_CONNECTING, /* also while it waits before the next try */
    GODWIT_CONNECTED,  /* authenticated; publishes flow */
    GODWIT_ENDED       /* closed, or a refusal that trying again cannot mend */
};

/* `text` says why (a refusal's sentence, a socket error); "" when all is well.
 * Valid during the call only. */
typedef void (*godwit_state_fn)(void *arg, enum godwit_state state,
                                enum godwit_status why, const char *text);

struct godwit_options {
    const char *url; /* "ws://127.0.0.1:7654" or "wss://..."; http(s) too */
    const char *app;
    const char *secret;
    bool own_thread; /* default true */
    uint32_t window; /* unconfirmed publishes at most; default 1000 */
    const char
        *ca_file; /* wss: trust this certificate instead of the system's */
    bool sign;    /* HMAC instead of bearer; default true */
    uint32_t connect_timeout_ms; /* one try; default 5000 */
    uint32_t retry_min_ms;       /* default 50; doubles with jitter ... */
    uint32_t retry_max_ms;       /* ... up to this; default 5000 */
    /* Give up after this long without a connection; 0: never. Publishes that
     * wait then complete with GODWIT_TIMEOUT (stored or not: unknown). */
    uint32_t give_up_ms;
    godwit_state_fn on_state; /* may be NULL */
    void *state_arg;
};

/* Fill in the defaults. */
GODWIT_API void godwit_options_init(struct godwit_options *options);

/* Make a client and begin to connect; does not wait. Copies the options.
 * GODWIT_INVALID with a sentence in *error_text (static; may be NULL): a bad
 * URL or missing field. */
GODWIT_API enum godwit_status godwit_open(struct godwit **out,
                                          const struct godwit_options *options,
                                          const char **error_text);

/* Wait until it is connected. GODWIT_TIMEOUT, or the refusal that ended it. */
GODWIT_API enum godwit_status godwit_wait_connected(struct godwit *client,
                                                    uint32_t timeout_ms);

/* The last failure in words, copied into `text`. */
GODWIT_API void godwit_last_error(struct godwit *client, char *text,
                                  size_t len);

/* Wait until every publish and settlement so far is completed. */
GODWIT_API enum godwit_status godwit_flush(struct godwit *client,
                                           uint32_t timeout_ms);

/* Close the connection, complete what waits with GODWIT_CLOSED, free all. Not
 * from within a callback. Accepts NULL. */
GODWIT_API void godwit_close(struct godwit *client);

/* ---- publishing ---- */

struct godwit_header {
    const char *name;
    const char *value;
};

struct godwit_message {
    const char *key; /* NULL: none */
    const struct godwit_header *headers;
    size_t header_count;
    const void *body;
    size_t body_len;
    const char *tag; /* for groups with a filter; NULL: none */
    /* NULL: none. Of the messages of a topic with one id the broker stores one,
     * as long as it remembers the id (the last 131,072 of all topics), whoever
     * sends it and across restarts; the others are confirmed as duplicates. All
     * who publish to the topic share its ids: numbers that each of them counts
     * for itself would lose messages. */
    const char *id;
    uint64_t delay_ms; /* not delivered before so long after it is stored ... */
    uint64_t deliver_at_ms; /* ... or before this time since 1970; 0: at once */
    uint64_t ttl_ms;        /* not delivered so long after that; 0: for ever */
};

/* What the broker promised, to ask a data folder or a backup for it later
 * (`godwit verify --receipt`): messages seq..seq+count-1 of the topic were
 * written, the first one at `offset` of `segment`; `checksum` is over all of
 * them. One for all messages that were confirmed in one go. */
struct godwit_receipt {
    uint64_t seq;
    uint64_t count;
    uint32_t segment;
    uint32_t offset;
    uint64_t checksum;
};

struct godwit_confirm {
    enum godwit_status status;
    uint64_t seq;   /* in its topic; 0 when refused, or a duplicate not known */
    bool duplicate; /* not stored: an earlier sending of it had arrived, or
                     * another message with its id */
    const char *text; /* a refusal's sentence, or "" */
    /* NULL for a refusal, a duplicate, and when the broker gave none. Valid
     * during the call only. */
    const struct godwit_receipt *receipt;
    size_t index; /* which one of godwit_publish_atomic(), from 0 */
};

typedef void (*godwit_confirm_fn)(void *arg, const struct godwit_confirm *c);

/* Send a message; copies it. `done` (may be NULL) is called exactly once if and
 * only if GODWIT_OK is returned. With a full window it waits for room, except
 * in a callback or without an own thread: then GODWIT_AGAIN. Messages of one
 * client are stored in the order of the calls. */
GODWIT_API enum godwit_status
godwit_publish(struct godwit *client, const char *topic,
               const struct godwit_message *message, godwit_confirm_fn done,
               void *arg);

/* Send messages that are stored all or none: when one of them is refused, so
 * are the others, with its reason, and after a crash of the broker there are
 * all or none. `done` is called for each. At most as many as the window holds,
 * 10,000 and about 2 MiB (GODWIT_TOO_LARGE); all have an id or none has. */
GODWIT_API enum godwit_status
godwit_publish_atomic(struct godwit *client, const char *topic,
                      const struct godwit_message *messages, size_t count,
                      godwit_confirm_fn done, void *arg);

/* The same as godwit_publish(), and wait. `confirm->text` and
 * `confirm->receipt` are good until the next call of this function on the
 * thread. GODWIT_TIMEOUT: it may still be stored. */
GODWIT_API enum godwit_status
godwit_publish_wait(struct godwit *client, const char *topic,
                    const struct godwit_message *message,
                    struct godwit_confirm *confirm, uint32_t timeout_ms);

/* ---- subscribing ---- */

struct godwit_delivery {
    const char *topic;
    uint64_t seq;
    uint32_t attempt; /* from 1 */
    uint64_t time_us; /* when it was stored, since 1970 */
    const char *key;  /* not ended by NUL: key_len; NULL and 0 when none */
    size_t key_len;
    const void *body;
    size_t body_len;
    const struct godwit_text_header *headers;
    size_t header_count;
    /* As the publisher said; texts not ended by NUL, NULL and 0 when none. */
    const char *tag;
    size_t tag_len;
    const char *id;
    size_t id_len;
    uint64_t delay_ms;
    uint64_t deliver_at_ms;
    uint64_t ttl_ms;
};

struct godwit_text_header {
    const char *name; /* not ended by NUL */
    size_t name_len;
    const char *value;
    size_t value_len;
};

enum godwit_verdict {
    GODWIT_ACK,     /* done with it */
    GODWIT_NACK,    /* failed: again after the broker's backoff */
    GODWIT_RELEASE, /* somebody else may have it at once */
    GODWIT_LATER,   /* the application will call godwit_settle() */
    GODWIT_REJECT   /* will never succeed: to the dead letters at once */
};

/* The slices live until the handler returns. */
typedef enum godwit_verdict (*godwit_handler_fn)(
    void *arg, const struct godwit_delivery *delivery);

struct godwit_subscription {
    const char *group;
    uint32_t credit_messages; /* unsettled at once; 0: 1000 */
    uint32_t credit_bytes;    /* 0: 16 MiB */
    godwit_handler_fn handler;
    /* Messages damaged on the broker's disk that will not come; may be NULL. */
    void (*on_gap)(void *arg, const char *topic, uint64_t first, uint64_t last);
    /* The lease of these messages, which are not settled yet, ends in so long:
     * settle or extend them now. Only of groups that ask for it; may be NULL. */
    void (*on_notice)(void *arg, const char *topic, uint64_t first,
                      uint64_t last, uint64_t ends_in_ms);
    /* The broker's answer to a settlement, range by range; may be NULL.
     * `outcome` is "accepted", "late" or "unknown"; "refused" with `status`. */
    void (*on_settled)(void *arg, const char *topic, uint64_t first,
                       uint64_t last, const char *outcome,
                       enum godwit_status status);
    void *arg;
};

/* Attach to a group, again after each reconnect. One per client: GODWIT_EXISTS.
 * Does not wait; a refusal comes through on_state (GODWIT_ENDED). */
GODWIT_API enum godwit_status
godwit_subscribe(struct godwit *client, const struct godwit_subscription *sub);
/* Stop; what is unsettled goes back to the group. */
GODWIT_API enum godwit_status godwit_unsubscribe(struct godwit *client);

enum godwit_action {
    GODWIT_DO_ACK = 1,
    GODWIT_DO_NACK = 2,
    GODWIT_DO_RELEASE = 3,
    GODWIT_DO_EXTEND = 4,
    GODWIT_DO_REJECT = 5
};

/* Settle messages first..last of a topic. Acks are gathered and sent as ranges.
 * delay_ms: nack, 0 = the group's backoff; extend, more time from now. `reason`
 * (NULL: none) stands in the message's history, for nack and reject. */
GODWIT_API enum godwit_status godwit_settle(struct godwit *client,
                                            enum godwit_action action,
                                            const char *topic, uint64_t first,
                                            uint64_t last, uint64_t delay_ms,
                                            const char *reason);

/* ---- pulling, over HTTP; each call waits for its answer ---- */

struct godwit_batch;

/* Up to `max` messages of a group, waiting up to wait_ms for the first. An
 * empty batch is GODWIT_OK with a count of 0. */
GODWIT_API enum godwit_status godwit_pull(struct godwit *client,
                                          const char *group, uint32_t max,
                                          uint32_t wait_ms,
                                          struct godwit_batch **out);
GODWIT_API size_t godwit_batch_count(const struct godwit_batch *batch);
GODWIT_API const struct godwit_delivery *
godwit_batch_at(const struct godwit_batch *batch, size_t index);
/* Settle some of it, as with godwit_settle(). *accepted (may be NULL): how many
 * were accepted. What was to be nacked, released or rejected, even if no answer
 * came, is left out by godwit_batch_ack(). */
GODWIT_API enum godwit_status
godwit_batch_settle(struct godwit *client, struct godwit_batch *batch,
                    enum godwit_action action, const char *topic,
                    uint64_t first, uint64_t last, uint64_t delay_ms,
                    const char *reason, uint64_t *accepted);
/* Ack the rest: all of it but what godwit_batch_settle() was called for (other
 * than to extend it). One request a topic; after a failure, call it again for
 * what is left. */
GODWIT_API enum godwit_status godwit_batch_ack(struct godwit *client,
                                               struct godwit_batch *batch,
                                               uint64_t *accepted);
GODWIT_API void godwit_batch_free(struct godwit_batch *batch); /* NULL: fine */

/* ---- anything else of the HTTP interface (topics, groups, apps, health) ---- */

struct godwit_response {
    int code;   /* HTTP */
    char *body; /* ended by NUL; free with godwit_response_fini() */
    size_t body_len;
};

/* One authenticated request; `path` as "/v1/topics"; body may be NULL (JSON
 * otherwise). GODWIT_OK when an answer came, whatever its code. */
GODWIT_API enum godwit_status
godwit_call(struct godwit *client, const char *method, const char *path,
            const char *body, struct godwit_response *out, uint32_t timeout_ms);
GODWIT_API void godwit_response_fini(struct godwit_response *response);

/* ---- driven from the caller's own loop (own_thread = false) ---- */

struct godwit_interest {
    int fd; /* -1: none now */
    bool read;
    bool write;
    int timeout_ms; /* call godwit_step() after this at the latest; -1: none */
};

/* What to wait for. Ask again after each step and each call on the client. */
GODWIT_API void godwit_interest(struct godwit *client,
                                struct godwit_interest *out);
/* Do what can be done without blocking. */
GODWIT_API enum godwit_status godwit_step(struct godwit *client);

struct godwit_figures {
    uint64_t published, confirmed, duplicates, refused, resent;
    uint64_t delivered, settled;
    uint64_t connects;    /* times a connection was made */
    uint64_t unconfirmed; /* now */
};
GODWIT_API void godwit_figures(struct godwit *client,
                               struct godwit_figures *out);

#ifdef __cplusplus
}
#endif

#endif
