/* One line on stderr that is written over while work goes on. Nothing at all
 * when stderr is no terminal. */
#ifndef GODWIT_TOOLS_PROGRESS_H
#define GODWIT_TOOLS_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
    bool on;
    bool shown;
    const char *what; /* "confirmed" */
    uint64_t total;   /* 0: not known */
    bool bytes;       /* what is counted */
    uint64_t last_ns;
    uint64_t last_count;
};

void progress_begin(struct progress *p, const char *what, uint64_t total);
/* The same, and what is counted are bytes. */
void progress_begin_bytes(struct progress *p, const char *what, uint64_t total);
/* Cheap when it is not yet time for a new line (five a second at most). */
void progress_show(struct progress *p, uint64_t count);
/* Take the line away until the next one, because something else is printed. */
void progress_clear(struct progress *p);
/* Take the line away. */
void progress_end(struct progress *p);

#endif
