/* Settlements on their way: gathered into ranges by topic and action, sent,
 * answered. Pure; the client's lock guards it.
 *
 *   add -> gathering -> waiting -> on the wire -> taken by the caller
 *                          ^            |
 *                          +------------+
 *                      acks, after a reconnect */
#ifndef GODWIT_CLIENT_SETTLE_H
#define GODWIT_CLIENT_SETTLE_H

#include "proto/limits.h"
#include "proto/wire.h"

enum {
    SETTLE_LOOK_MAX = 64, /* gathering batches looked at by an add */
    SETTLE_SPARE_MAX = 256
};

/* One request, made or in the making. */
struct settle_batch {
    struct settle_batch *next;
    enum settle_action action;
    char topic[NAME_LEN_MAX + 1];
    char reason[REASON_LEN_MAX + 1];
    uint64_t delay_ms;
    struct seqset set;
    uint64_t id;    /* 0: never sent */
    uint64_t epoch; /* which gathering it came from */
    bool on_wire;   /* sent on this connection */
};

struct settle_list {
    struct settle_batch *first;
    struct settle_batch *last;
};

struct settler {
    struct settle_list gathering;
    struct settle_list closed; /* waiting and on the wire, in order */
    struct settle_batch *spare;
    size_t spare_count;
    size_t count; /* gathering and closed */
    uint64_t epoch;
};

void settler_init(struct settler *s);
void settler_fini(struct settler *s);

/* What is to be done to one range. */
struct settle_order {
    enum settle_action action;
    struct slice topic;
    struct seq_range range;
    uint64_t delay_ms;
    struct slice reason;
};

/* STATUS_AGAIN: too many unanswered. STATUS_NOMEM. Texts are within their
 * bounds. */
MUST_CHECK enum status settler_add(struct settler *s,
                                   const struct settle_order *order);

/* What was gathered is to be sent now. */
void settler_close(struct settler *s);

/* The first batch that waits to be sent, or NULL. */
struct settle_batch *settler_waiting(struct settler *s);

/* Take the batch with this id out; NULL: none. The caller gives it back with
 * settler_recycle(). */
struct settle_batch *settler_take(struct settler *s, uint64_t id);
void settler_recycle(struct settler *s, struct settle_batch *batch);

/* A new lease: acks wait to be sent again, in `dropped` are all others, or all
 * of them if `everything`; the caller recycles them. */
void settler_renew(struct settler *s, bool everything,
                   struct settle_list *dropped);

/* Is all that was added in `epoch` and before answered? */
bool settler_done(const struct settler *s, uint64_t epoch);

static inline bool settler_idle(const struct settler *s)
{
    return s->gathering.first == NULL && s->closed.first == NULL;
}

#endif
