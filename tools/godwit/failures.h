/* Why a message failed, and which messages are meant: what explain and dead
 * have in common. */
#ifndef GODWIT_TOOLS_FAILURES_H
#define GODWIT_TOOLS_FAILURES_H

#include "tools/godwit/json.h"

enum { AGO_LEN = 64 };

/* "3 min ago", "in 18 s"; "-" for 0. */
char *ago(char text[AGO_LEN], uint64_t time_us, uint64_t now_us);

/* The history of an explanation as a small table on stdout. */
void failures_print(const struct json *history);

/* "1-9,12,20" as "ranges":[["1","9"],...]. False: said on stderr. */
bool failures_put_seqs(struct json_writer *w, const char *option,
                       const char *list);

#endif
