#include "tools/godwit/when.h"

#include "tools/godwit/args.h"

#include <string.h>
#include <time.h>

uint64_t wall_us(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* `count` digits at *at, moved behind them. */
static bool digits(const char **at, int count, int *value)
{
    *value = 0;
    for (int i = 0; i < count; i++, ++*at) {
        if (**at < '0' || **at > '9') {
            return false;
        }
        *value = *value * 10 + (**at - '0');
    }
    return true;
}

static bool sign(const char **at, const char *any_of)
{
    if (**at == '\0' || strchr(any_of, **at) == NULL) {
        return false;
    }
    ++*at;
    return true;
}

/* ".123456": one to six digits. */
static bool fraction(const char **at, uint64_t *us)
{
    int count = 0;

    *us = 0;
    for (; **at >= '0' && **at <= '9' && count < 6; ++*at, count++) {
        *us = *us * 10 + (uint64_t)(**at - '0');
    }
    for (int i = count; i < 6; i++) {
        *us *= 10;
    }
    return count > 0;
}

static bool clock_time(const char **at, struct tm *utc, uint64_t *us)
{
    if (!digits(at, 2, &utc->tm_hour) || !sign(at, ":")
        || !digits(at, 2, &utc->tm_min)) {
        return false;
    }
    if (sign(at, ":")) {
        if (!digits(at, 2, &utc->tm_sec)) {
            return false;
        }
        if (sign(at, ".") && !fraction(at, us)) {
            return false;
        }
    }
    return utc->tm_hour < 24 && utc->tm_min < 60 && utc->tm_sec < 61;
}

static bool date_time(const char *at, uint64_t *time_us)
{
    struct tm utc = { 0 };
    struct tm same;
    uint64_t us = 0;
    time_t seconds;

    if (!digits(&at, 4, &utc.tm_year) || !sign(&at, "-")
        || !digits(&at, 2, &utc.tm_mon) || !sign(&at, "-")
        || !digits(&at, 2, &utc.tm_mday)) {
        return false;
    }
    if (sign(&at, "T ") && !clock_time(&at, &utc, &us)) {
        return false;
    }
    (void)sign(&at, "Z");
    if (*at != '\0' || utc.tm_year < 1970) {
        return false;
    }
    utc.tm_year -= 1900;
    utc.tm_mon -= 1;
    same = utc;
    seconds = timegm(&same);
    /* The 31st of February would be taken for a day in March. */
    if (same.tm_mday != utc.tm_mday || same.tm_mon != utc.tm_mon
        || seconds < 0) {
        return false;
    }
    *time_us = (uint64_t)seconds * 1000000 + us;
    return true;
}

bool when_parse(const char *text, uint64_t now_us, uint64_t *time_us)
{
    uint64_t age_ms;

    if (strcmp(text, "now") == 0) {
        *time_us = now_us;
        return true;
    }
    if (args_number(ARG_AGE, text, &age_ms)) {
        if (age_ms > now_us / 1000) {
            return false;
        }
        *time_us = now_us - age_ms * 1000;
        return true;
    }
    return date_time(text, time_us);
}
