/* Numbers as people read them. Each function writes into `text` and returns it;
 * HUMAN_LEN is room enough. */
#ifndef GODWIT_TOOLS_HUMAN_H
#define GODWIT_TOOLS_HUMAN_H

#include <stddef.h>
#include <stdint.h>

enum { HUMAN_LEN = 32 };

char *human_count(char text[HUMAN_LEN], uint64_t value); /* 19,999 */
char *human_real(char text[HUMAN_LEN], double value);    /* 4,321 or 3.21 */
char *human_bytes(char text[HUMAN_LEN], double bytes);   /* 1.5 MiB */
char *human_duration(char text[HUMAN_LEN], uint64_t ns); /* 271 µs, 2.5 s */
char *human_ms(char text[HUMAN_LEN], uint64_t ms);  /* 30 s, 250 ms: exact */
char *human_age(char text[HUMAN_LEN], uint64_t ms); /* 7 d, 36 h, 90 s: exact */
/* About so long, in one unit: 12 s, 3 min, 5 h, 8 d; less than a second in ms. */
char *human_about(char text[HUMAN_LEN], uint64_t us);
/* UTC: 2026-11-20T14:09:37.123456Z */
char *human_time(char text[HUMAN_LEN], uint64_t time_us);

/* "message" or "messages". */
const char *plural(uint64_t count, const char *one, const char *many);

uint64_t now_ns(void); /* monotonic */

/* A callback's argument that is a time and no pointer: it saves a slot, and the
 * keeping of slots, for every message on its way. */
static inline void *time_as_arg(uint64_t ns)
{
    return (void *)(uintptr_t)ns; /* NOLINT(performance-no-int-to-ptr) */
}

static inline uint64_t time_of_arg(const void *arg)
{
    return (uint64_t)(uintptr_t)arg;
}

_Static_assert(sizeof(void *) >= sizeof(uint64_t), "a time fits an argument");

#endif
