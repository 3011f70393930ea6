/* Looking through the messages of one topic without a group: those that match
 * an order, from a seq on, or the newest of them. Goes in bounded bits, so that
 * a worker can do other things in between, and ends at the bounds of
 * proto/limits.h (SEARCH_...): whoever wants more asks again from next_seq on.
 * One thread: the dispatch's. */
#ifndef GODWIT_BROKER_SEARCH_H
#define GODWIT_BROKER_SEARCH_H

#include "broker/dispatch/dispatch.h"
#include "broker/router/filter.h"

struct search_order {
    uint64_t from;     /* 0: from the first one that is kept */
    uint64_t to;       /* 0: to the end */
    uint64_t since_us; /* stored at this wall time or later; 0: any */
    uint64_t until_us; /* ... or earlier; 0: any */
    uint64_t count_max;
    bool newest;      /* the last count_max instead of the first */
    struct slice key; /* at NULL: any */
    struct slice tag;
    struct filter *filter; /* NULL: any */
};

struct search;

/* What is found, in the order of the seqs. */
struct search_out {
    /* Its slices live until it returns; the attempt is 0. */
    void (*found)(void *arg, const char *topic,
                  const struct wire_delivery *delivery);
    /* Lost on the disk. */
    void (*lost)(void *arg, const char *topic, struct seq_range range);
    /* Take note of all commits there are: what the store does not have may have
     * been deleted by one of them. */
    void (*catch_up)(void *arg);
    void *arg;
};

enum search_state {
    SEARCH_GOES_ON, /* its bit of time is over: run it again */
    SEARCH_BOUND,   /* asked for enough, or looked at enough: it ends here */
    SEARCH_DONE,    /* all that was asked for has been looked at */
    SEARCH_AT_END   /* of the topic, with more asked for: run it again when
                     * there is a message next_seq */
};

/* What is known about a search so far. */
struct search_result {
    uint64_t next_seq; /* go on here; newest: where what comes later begins */
    uint64_t scanned;  /* messages looked at */
    uint64_t found;
    uint64_t first_seq; /* of the topic */
    uint64_t last_seq;
    struct seq_range deleted; /* asked for by seq, and not kept; first 0: none */
    bool done;                /* nothing is left of what was asked for */
};

/* Copies the texts; takes the filter in any case. STATUS_NOMEM. */
MUST_CHECK enum status search_new(struct search **out, uint32_t topic,
                                  const struct search_order *order);
void search_free(struct search *search); /* accepts NULL */

/* STATUS_OK: *state. STATUS_NOT_FOUND: the topic is gone. STATUS_IO: the disk
 * failed at next_seq. Ends the bit at `until_us` (monotonic), after one message
 * at least. */
MUST_CHECK enum status search_run(struct search *search,
                                  struct dispatch *dispatch,
                                  const struct search_out *out,
                                  uint64_t until_us, enum search_state *state);
void search_result(const struct search *search, const struct dispatch *dispatch,
                   struct search_result *out);

#endif
