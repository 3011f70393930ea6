/* A whole broker in one thread: one worker with its loop, its net and its
 * doors, over a real store; the journal's and the keeper's work is done by
 * calls, when the caller wants it. With clients on the loopback in the same
 * thread, and a clock that goes by turns of the loop. So the same input makes
 * the same instructions, run after run.
 *
 * What goes wrong here is no result: it is told, and the process ends. */
#ifndef GODWIT_TEST_BENCH_BED_H
#define GODWIT_TEST_BENCH_BED_H

#include "broker/config.h"
#include "broker/metrics.h"
#include "broker/worker.h"

struct bed {
    char dir[512];
    struct config config;
    struct store *store;
    struct store_recovery recovery;
    struct ring *commits; /* consumers: the worker, the keeper */
    struct submission *submission;
    struct workers workers;
    struct worker *worker;
    struct broker_metrics metrics;
    struct worker_metrics worker_metrics;
    struct store_commit commit; /* the last one appended */
    struct store_span span;
    char secret[SECRET_LEN_MAX + 1];
    uint16_t port;
};

void bed_open(struct bed *bed);
void bed_close(struct bed *bed);

/* ---- the threads, one after the other ---- */

/* The loop once, without waiting. What came in goes out in the next turn. */
void bed_turn(struct bed *bed);
/* The journal: what is in the submission ring (there is something) into a
 * batch; then its sync, and the worker may see it. */
bool bed_has_records(const struct bed *bed);
void bed_append(struct bed *bed);
void bed_tell(struct bed *bed);
/* The keeper: takes note of the batch. */
void bed_apply(struct bed *bed);
void bed_checkpoint(struct bed *bed);
/* All of that until nothing is left to do. */
void bed_settle(struct bed *bed);

/* ---- clients ---- */

struct peer {
    int fd;
    uint64_t next_id;
    uint64_t received; /* bytes, all in all */
};

/* Connected, upgraded, logged in. */
void peer_open(struct peer *peer, struct bed *bed);
void peer_close(struct peer *peer);
/* Send all of it; the broker reads while the socket is full. */
void peer_send(struct peer *peer, struct bed *bed, struct slice bytes);
/* Take what has come: how much. It is forgotten, unless `into` is given. */
size_t peer_receive(struct peer *peer, struct bytes *into);
/* A request of the HTTP API, answered by 200 or 201. */
void bed_post(struct bed *bed, const char *path, const char *json);
void peer_attach(struct peer *peer, struct bed *bed, const char *group);

/* A masked binary frame around the payload. */
void put_frame(struct bytes *to, struct slice payload);

#endif
