/* What is counted: the instructions within metered(), by callgrind, which looks
 * for that name (--toggle-collect). Without callgrind nothing is. */
#ifndef GODWIT_TEST_BENCH_METER_H
#define GODWIT_TEST_BENCH_METER_H

#include "proto/check.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What becomes of a message. A scene goes through all of them; a step meters
 * one. */
enum part {
    PART_TAKE = 1,   /* a frame's bytes to records in the submission ring */
    PART_APPEND,     /* records to a batch of the log; without the sync */
    PART_APPLY,      /* the keeper takes note of the batch */
    PART_CHECKPOINT, /* and writes it into the keydir */
    PART_ANSWER,     /* commit to confirms and deliveries, on the wire */
    PART_SETTLE      /* acks to their outcomes, their way through the log too */
};

struct step {
    const char *name; /* in figures.tsv */
    void (*run)(const struct step *step);
    size_t body_len;
    enum part part;
    unsigned groups;
    unsigned frame_count; /* messages in a frame; 0: as many as a client puts */
    bool ranges;          /* settle in ranges */
};

/* The step is warmed up: forget what was counted so far. */
void meter_begin(void);
void metered(void (*work)(void *arg), void *arg);
/* It was for so many messages. Says so, and makes callgrind write its counts. */
void meter_end(const struct step *step, uint64_t messages);

/* From now on each step has so many instructions a message more, for nothing:
 * what the harness has to find. */
void meter_waste(unsigned instructions);

/* End the process, unless good. What goes wrong in a step is no result. */
void must(bool good, const char *what);

extern const struct step broker_steps[];
extern const size_t broker_step_count;
extern const struct step module_steps[];
extern const size_t module_step_count;

#endif
