#include "tools/godwit/human.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

char *human_count(char text[HUMAN_LEN], uint64_t value)
{
    char digits[24];
    size_t len = (size_t)snprintf(digits, sizeof digits, "%" PRIu64, value);
    size_t at = 0;

    for (size_t i = 0; i < len; i++) {
        if (i > 0 && (len - i) % 3 == 0) {
            text[at++] = ',';
        }
        text[at++] = digits[i];
    }
    text[at] = '\0';
    return text;
}

char *human_real(char text[HUMAN_LEN], double value)
{
    if (value >= 100) {
        return human_count(text, (uint64_t)(value + 0.5));
    }
    snprintf(text, HUMAN_LEN, value >= 10 ? "%.1f" : "%.2f", value);
    return text;
}

char *human_bytes(char text[HUMAN_LEN], double bytes)
{
    static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
    size_t unit = 0;

    while (bytes >= 1024 && unit + 1 < sizeof units / sizeof units[0]) {
        bytes /= 1024;
        unit++;
    }
    snprintf(text, HUMAN_LEN, unit == 0 || bytes >= 100 ? "%.0f %s" : "%.1f %s",
             bytes, units[unit]);
    return text;
}

char *human_duration(char text[HUMAN_LEN], uint64_t ns)
{
    static const char *const units[] = { "ns", "µs", "ms", "s" };
    double value = (double)ns;
    size_t unit = 0;

    while (value >= 999.5 && unit + 1 < sizeof units / sizeof units[0]) {
        value /= 1000;
        unit++;
    }
    snprintf(text, HUMAN_LEN,
             unit == 0 || value >= 99.95 ? "%.0f %s"
             : value >= 9.995            ? "%.1f %s"
                                         : "%.2f %s",
             value, units[unit]);
    return text;
}

char *human_ms(char text[HUMAN_LEN], uint64_t ms)
{
    if (ms > 0 && ms < 1000) {
        snprintf(text, HUMAN_LEN, "%" PRIu64 " ms", ms);
    } else {
        snprintf(text, HUMAN_LEN, "%.12g s", (double)ms / 1e3);
    }
    return text;
}

char *human_age(char text[HUMAN_LEN], uint64_t ms)
{
    static const struct {
        const char *name;
        uint64_t ms;
    } units[] = { { "d", 24 * 3600 * 1000 },
                  { "h", 3600 * 1000 },
                  { "min", 60 * 1000 } };

    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (ms > 0 && ms % units[i].ms == 0) {
            snprintf(text, HUMAN_LEN, "%" PRIu64 " %s", ms / units[i].ms,
                     units[i].name);
            return text;
        }
    }
    return human_ms(text, ms);
}

char *human_about(char text[HUMAN_LEN], uint64_t us)
{
    static const struct {
        const char *name;
        uint64_t us; /* from here on it is told in the unit ... */
        uint64_t unit_us;
    } units[] = {
        { "d", UINT64_C(48) * 3600 * 1000000, UINT64_C(24) * 3600 * 1000000 },
        { "h", UINT64_C(120) * 60 * 1000000, UINT64_C(3600) * 1000000 },
        { "min", 120 * 1000000, 60 * 1000000 },
        { "s", 1000000, 1000000 },
        { "ms", 0, 1000 }
    };
    size_t i = 0;

    while (us < units[i].us) {
        i++;
    }
    snprintf(text, HUMAN_LEN, "%" PRIu64 " %s", us / units[i].unit_us,
             units[i].name);
    return text;
}

char *human_time(char text[HUMAN_LEN], uint64_t time_us)
{
    time_t seconds = (time_t)(time_us / 1000000);
    struct tm utc;
    size_t len;

    gmtime_r(&seconds, &utc);
    len = strftime(text, HUMAN_LEN, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(text + len, HUMAN_LEN - len, ".%06uZ",
             (unsigned)(time_us % 1000000));
    return text;
}

const char *plural(uint64_t count, const char *one, const char *many)
{
    return count == 1 ? one : many;
}

uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}
