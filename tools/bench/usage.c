#include "tools/bench/usage.h"

#include <inttypes.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

/* A /proc file of the broker, ended by NUL. */
static bool read_proc(uint64_t pid, const char *name, char *text, size_t len)
{
    char path[64];
    FILE *file;

    snprintf(path, sizeof path, "/proc/%" PRIu64 "/%s", pid, name);
    file = fopen(path, "re");
    if (file == NULL) {
        return false;
    }
    text[fread(text, 1, len - 1, file)] = '\0';
    fclose(file);
    return true;
}

/* In stat, fields 14 and 15 are the times in ticks; the name, field 2, is in
 * brackets and may hold anything. In status, RssAnon leaves out the mapped
 * files of the store, which are the page cache's and not a connection's. */
static struct usage usage_of_pid(uint64_t pid)
{
    struct usage usage = { 0 };
    char text[4096];
    const char *at;

    if (!read_proc(pid, "stat", text, sizeof text)) {
        return usage;
    }
    at = strrchr(text, ')');
    for (int field = 2; at != NULL && field < 14; field++) {
        at = strchr(at + 1, ' ');
    }
    if (at != NULL) {
        char *rest;

        usage.cpu_seconds = strtod(at, &rest);
        usage.cpu_seconds += strtod(rest, NULL);
        usage.cpu_seconds /= (double)sysconf(_SC_CLK_TCK);
    }
    if (at == NULL || !read_proc(pid, "status", text, sizeof text)) {
        return usage;
    }
    at = strstr(text, "RssAnon:");
    if (at != NULL) {
        usage.rss_bytes = strtod(at + strlen("RssAnon:"), NULL) * 1024;
        usage.known = true;
    }
    return usage;
}

/* The value of a metric without labels. */
static bool metric(const char *text, const char *name, double *value)
{
    size_t len = strlen(name);

    for (const char *at = text; at != NULL && *at != '\0';
         at = strchr(at, '\n')) {
        at += *at == '\n';
        if (strncmp(at, name, len) == 0 && at[len] == ' ') {
            *value = strtod(at + len, NULL);
            return true;
        }
    }
    return false;
}

struct usage usage_of_broker(struct session *s, uint64_t pid)
{
    struct usage usage = { 0 };
    char *text;

    if (pid != 0) {
        return usage_of_pid(pid);
    }
    text = session_fetch(s, "/metrics");
    usage.known =
        text != NULL
        && metric(text, "process_resident_memory_bytes", &usage.rss_bytes)
        && metric(text, "process_cpu_seconds_total", &usage.cpu_seconds);
    free(text);
    return usage;
}

static double seconds_of(struct timeval t)
{
    return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

double usage_own_cpu(void)
{
    struct rusage used;

    if (getrusage(RUSAGE_SELF, &used) != 0) {
        return 0;
    }
    return seconds_of(used.ru_utime) + seconds_of(used.ru_stime);
}
