/* A line in the log now and then while a recovery takes its time, whatever it
 * is that takes it: the store tells how far it is only between two files. */
#ifndef GODWIT_BROKER_PROGRESS_H
#define GODWIT_BROKER_PROGRESS_H

#include "proto/error.h"

#include <stdint.h>

struct progress;

/* From now on a line every two seconds. */
MUST_CHECK enum status progress_start(struct progress **out, struct error *err);
/* The store's callback: so far. */
void progress_note(void *progress, uint64_t done_bytes, uint64_t total_bytes);
void progress_stop(struct progress *progress); /* accepts NULL */

#endif
