/* What is behind struct godwit, for the library's own files. The parts:
 *
 *   client.c     open, close, waiting, the thread
 *   engine.c     the connection's life: connect, hello, read, ping, try again
 *   publish.c    godwit_publish, frames of publishes, confirms and refusals
 *   subscribe.c  attach, deliveries, settlements
 *   call.c       HTTP requests, for godwit_call and pull.c
 *
 * The engine is everything that engine_step() does. It runs on one thread: our
 * own, or whichever calls godwit_step(). Callbacks run there and no lock is
 * held then, so they may call anything that does not wait. */
#ifndef GODWIT_CLIENT_CLIENT_H
#define GODWIT_CLIENT_CLIENT_H

#include "client/auth.h"
#include "client/godwit.h"
#include "client/http.h"
#include "client/link.h"
#include "client/settle.h"
#include "client/window.h"
#include "proto/codec.h"

enum {
    CLIENT_PING_MS = 20 * 1000, /* of silence, before the broker is asked */
    CLIENT_PING_COUNT_MAX = 2,  /* unanswered, then the connection is dead */
    PUBLISH_FRAME_LEN = 64 * 1024,
    PUBLISH_FRAME_COUNT = 1024
};

/* Ids of requests: a publish has its index, all others begin here. */
#define REQUEST_ID_FIRST (UINT64_C(1) << 62)

/*   WAITING --> LINKING --> GREETING --> RUNNING     --> ENDED from any
 *      ^-----------+-----------+------------'        */
enum phase {
    PHASE_WAITING,
    PHASE_LINKING,
    PHASE_GREETING,
    PHASE_RUNNING,
    PHASE_ENDED
};

enum attachment { DETACHED, ATTACHING, ATTACHED, DETACHING };

struct publish_order; /* publish.c */

struct figures {
    _Atomic uint64_t confirmed, duplicates, refused, resent;
    _Atomic uint64_t delivered, settled, connects;
};

/* Grouped by who may touch it, not by size. */
/* NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding) */
struct godwit {
    /* fixed since godwit_open */
    struct url url;
    struct tls_context *trust; /* NULL without TLS */
    struct auth auth;
    char app[NAME_LEN_MAX + 1];
    char secret[SECRET_LEN_MAX + 1];
    struct godwit_options options;
    uint64_t producer;
    bool own_thread;
    pthread_t thread;
    int wake_fd; /* eventfd; -1 without an own thread */

    /* publishers; the window says what it shares with the engine */
    pthread_mutex_t publish_lock;
    pthread_cond_t room;
    struct window window;
    bool closed_to_publishers;               /* under publish_lock, as is: */
    const struct publish_order *batch_waits; /* others do not take its room */
    _Atomic uint32_t room_waiters;

    /* any thread, under the lock */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    _Atomic uint32_t change_waiters; /* looked at without the lock */
    enum godwit_state state;
    enum status ended_why; /* when ENDED */
    char text[512];        /* the last failure */
    struct settler settler;
    bool answering; /* a batch is out of the settler, its callback runs */
    struct godwit_subscription subscription; /* its group is the next */
    char group[NAME_LEN_MAX + 1];
    uint32_t subscriptions; /* made so far */
    struct http_pool http;

    /* any thread, without a lock */
    _Atomic bool sleeping;     /* the engine's thread is about to poll */
    _Atomic bool stopping;     /* godwit_close was called */
    _Atomic bool settling;     /* something may have been gathered */
    _Atomic uint32_t wanted;   /* number of the subscription wanted; 0: none */
    _Atomic uint64_t wake_end; /* sleeping publishes wait for this window.end */
    _Atomic uint64_t told;     /* below it all callbacks have returned */
    struct figures figures;

    /* the engine's */
    enum phase phase;
    struct link link;
    struct codec *codec;
    uint64_t next_id;
    uint64_t hello_id;
    uint64_t attach_id;
    uint64_t detach_id;
    enum attachment attachment;
    uint32_t attached;    /* the number of the subscription that is */
    uint64_t deadline_ms; /* of WAITING and of LINKING..GREETING */
    uint64_t alone_since_ms;
    uint64_t heard_ms;
    uint64_t running_since_ms;
    uint64_t corked_ms; /* since when publishes wait for company; 0: not */
    uint32_t pings;
    uint32_t ping_ms;
    uint32_t tries;
    size_t frame_len;
    uint64_t random;
    bool more; /* step again without waiting */
    struct slice gathered[PUBLISH_COUNT_MAX];
};

/* ---- client.c ---- */

/* Monotonic. */
uint64_t clock_ms(void);
struct timespec clock_deadline(uint64_t deadline_ms);

void client_lock(struct godwit *c);
void client_unlock(struct godwit *c);
/* Is the caller a callback of this client? */
bool client_in_callback(const struct godwit *c);
/* There is something to do for the engine. */
void client_wake(struct godwit *c);
/* Somebody waits for a change of state, window or settlements: look again. */
void client_changed(struct godwit *c);
/* Keep the words of a failure for godwit_last_error. Returns the status. */
enum status client_note(struct godwit *c, enum status status, const char *text);
static inline enum godwit_status public_status(enum status status)
{
    return (enum godwit_status)status;
}
/* Wait until `ready` says so. STATUS_TIMEOUT, STATUS_INVALID in a callback.
 * `ready` is called with the lock held. */
typedef bool (*client_ready_fn)(struct godwit *c, void *arg);
MUST_CHECK enum status client_wait(struct godwit *c, client_ready_fn ready,
                                   void *arg, uint64_t deadline_ms);

/* ---- engine.c ---- */

MUST_CHECK enum status engine_init(struct godwit *c);
void engine_fini(struct godwit *c);
void engine_step(struct godwit *c);
/* What to wait for, and for how long (-1: for ever). */
struct link_interest engine_interest(struct godwit *c, int *timeout_ms);
/* Is there work that came without a readable socket? */
bool engine_pressed(struct godwit *c);
void engine_end(struct godwit *c, enum status why, const char *text);
/* The connection is no good: close it and try again later, or end. */
void engine_fail(struct godwit *c, enum status status, const char *text);

/* ---- publish.c ---- */

void publish_send(struct godwit *c);
/* Is it time to send some? */
bool publish_due(struct godwit *c);
/* A few wait for company, for at most two milliseconds. */
bool publish_corked(const struct godwit *c);
/* Before sleeping: from which amount on publishers should wake us. */
void publish_set_wake(struct godwit *c);
bool publish_confirmed(struct godwit *c, const struct wire_confirm *confirm);
bool publish_refused(struct godwit *c, uint64_t id, uint64_t count,
                     const struct refusal *refusal);
/* Complete all with this and take no more. */
void publish_end(struct godwit *c, enum status why, const char *text);
/* The window has room again. */
void publish_room(struct godwit *c);

/* ---- subscribe.c ---- */

void subscribe_send(struct godwit *c);
bool subscribe_due(struct godwit *c);
void subscribe_disconnected(struct godwit *c);
void subscribe_end(struct godwit *c);
void subscribe_attached(struct godwit *c, const struct wire_reply *reply);
void subscribe_detached(struct godwit *c, const struct wire_reply *reply);
void subscribe_delivered(struct godwit *c, const struct wire_reply *reply);
void subscribe_settled(struct godwit *c, const struct wire_reply *reply);
/* False: the id is not one of a settlement. */
bool subscribe_refused(struct godwit *c, uint64_t id,
                       const struct refusal *refusal);
void subscribe_gap(struct godwit *c, const struct wire_reply *reply);
void subscribe_notice(struct godwit *c, const struct wire_reply *reply);
/* All but the topic; `headers` has room for HEADER_COUNT_MAX. The slices are
 * those of `message`. */
void delivery_fill(struct godwit_delivery *out,
                   struct godwit_text_header *headers,
                   const struct wire_delivery *from,
                   const struct wire_message *message);

/* ---- call.c ---- */

/* One request over HTTP, with a connection from the pool. */
MUST_CHECK enum status client_http(struct godwit *c,
                                   const struct http_request *request,
                                   uint64_t deadline_ms,
                                   struct http_response *out);

#endif
