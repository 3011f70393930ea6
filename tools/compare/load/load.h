/* The work that each peer is given, and its figures. One measurement a process,
 * one thread. */
#ifndef GODWIT_COMPARE_LOAD_H
#define GODWIT_COMPARE_LOAD_H

#include "tools/bench/histogram.h"
#include "tools/compare/load/peer.h"

enum {
    STAMP_LEN = 16, /* of a body: when it was due, and its number */
    SUBSCRIBERS_MAX = 1000,
    STALL_MS_DEFAULT = 20 * 1000
};

struct load_options {
    const struct driver *driver;
    const char *name;
    uint64_t port;
    uint64_t size;
    uint64_t count;
    uint64_t window;
    uint64_t connections;
    uint64_t rate;
    uint64_t stall_ms; /* without any progress */
};

struct load {
    struct load_options o;
    struct place place;
    struct peer **peers; /* producers first */
    size_t peer_count;
    size_t producer_count;
    size_t opened;
    int epoll;
    char *body;
    /* what happened */
    uint64_t sent;
    uint64_t confirmed;
    uint64_t delivered;
    uint64_t acked;
    uint64_t first_ns; /* of the first delivery */
    uint64_t counted_from_ns;
    struct histogram delivery_ns;
    struct histogram late_ns;
    char text[PEER_TEXT_LEN]; /* why it failed */
};

/* Each prints its figures as one line of JSON. False: load->text says why. */
bool load_publish(struct load *load);
bool load_fill(struct load *load);
bool load_fanout(struct load *load); /* endtoend is that with one group */
bool load_latency(struct load *load);
bool load_idle(struct load *load);
bool load_first(struct load *load);
bool load_ping(struct load *load);

void load_fini(struct load *load);

#endif
