/* A time as people say it on the command line. */
#ifndef GODWIT_TOOLS_WHEN_H
#define GODWIT_TOOLS_WHEN_H

#include <stdbool.h>
#include <stdint.h>

#define WHEN_VALUE "AGE|TIME"

/* "15m", "2h", "7d": so long before `now_us`; "2026-11-20",
 * "2026-11-20T14:09", "...:37", "...:37.123456", with or without a Z behind it,
 * and with a space for the T: in UTC, as all times are shown; "now". Wall
 * clock, microseconds since 1970. False: it is none of these. */
bool when_parse(const char *text, uint64_t now_us, uint64_t *time_us);

uint64_t wall_us(void);

#endif
