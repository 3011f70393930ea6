#include "broker/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LOG_LINE_LEN_MAX = 1024 };

static const struct {
    const char *word;
    int priority; /* syslog's, for the journal of systemd */
} levels[] = {
    [LOG_ERROR] = { "error", 3 },
    [LOG_WARN] = { "warn", 4 },
    [LOG_INFO] = { "info", 6 },
    [LOG_DEBUG] = { "debug", 7 },
};

static atomic_int level_max = LOG_INFO;

void log_set_level(enum log_level level)
{
    atomic_store(&level_max, (int)level);
}

bool log_level_parse(const char *word, enum log_level *out)
{
    for (size_t i = 0; i < COUNT_OF(levels); i++) {
        if (strcmp(word, levels[i].word) == 0) {
            *out = (enum log_level)i;
            return true;
        }
    }
    return false;
}

/* systemd stamps the time itself and wants the priority; a person wants both
 * in words. */
static size_t write_head(char *line, size_t len, enum log_level level)
{
    struct timespec now;
    struct tm utc;
    char stamp[32];

    if (getenv("JOURNAL_STREAM") != NULL) {
        return (size_t)snprintf(line, len, "<%d>", levels[level].priority);
    }
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &utc);
    return (size_t)snprintf(line, len, "%s.%03ldZ %-5s ", stamp,
                            now.tv_nsec / 1000000, levels[level].word);
}

void log_line(enum log_level level, const char *format, ...)
{
    char line[LOG_LINE_LEN_MAX];
    va_list args;
    size_t head;
    size_t used;

    if ((int)level > atomic_load_explicit(&level_max, memory_order_relaxed)) {
        return;
    }
    head = write_head(line, sizeof line, level);
    va_start(args, format);
    vsnprintf(line + head, sizeof line - head - 1, format, args);
    va_end(args);
    used = strlen(line);
    for (size_t i = head; i < used; i++) {
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f) {
            line[i] = '?';
        }
    }
    line[used++] = '\n';
    /* Nobody to tell when stderr is gone. */
    if (write(STDERR_FILENO, line, used) < 0) {
        return;
    }
}
