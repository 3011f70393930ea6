#include "tools/godwit/progress.h"

#include "tools/godwit/human.h"

#include <stdio.h>
#include <unistd.h>

enum { SHOW_EVERY_NS = 200 * 1000 * 1000 };

void progress_begin(struct progress *p, const char *what, uint64_t total)
{
    *p = (struct progress) { .on = isatty(STDERR_FILENO) == 1,
                             .what = what,
                             .total = total,
                             .last_ns = now_ns() };
}

void progress_begin_bytes(struct progress *p, const char *what, uint64_t total)
{
    progress_begin(p, what, total);
    p->bytes = true;
}

static char *amount(const struct progress *p, char text[HUMAN_LEN],
                    double value)
{
    return p->bytes ? human_bytes(text, value) : human_real(text, value);
}

static char *exact(const struct progress *p, char text[HUMAN_LEN],
                   uint64_t value)
{
    return p->bytes ? human_bytes(text, (double)value)
                    : human_count(text, value);
}

void progress_show(struct progress *p, uint64_t count)
{
    char text[HUMAN_LEN];
    char of[HUMAN_LEN + 8] = "";
    char rate[HUMAN_LEN];
    uint64_t now;

    if (!p->on) {
        return;
    }
    now = now_ns();
    if (now - p->last_ns < SHOW_EVERY_NS) {
        return;
    }
    if (p->total > 0) {
        snprintf(of, sizeof of, " of %s", exact(p, text, p->total));
    }
    amount(p, rate,
           (double)(count - p->last_count) * 1e9 / (double)(now - p->last_ns));
    fprintf(stderr, "\r\033[K%s%s %s, %s/s", exact(p, text, count), of, p->what,
            rate);
    p->shown = true;
    p->last_ns = now;
    p->last_count = count;
}

void progress_clear(struct progress *p)
{
    if (p->shown) {
        fputs("\r\033[K", stderr);
    }
    p->shown = false;
}

void progress_end(struct progress *p)
{
    progress_clear(p);
    p->on = false;
}
