/* How a group gives out: the defaults, the bounds, and which options do not go
 * together. */
#include "broker/router/catalog.h"

#include "broker/router/catalog_impl.h"
#include "broker/router/filter.h"

struct group_options group_options_default(void)
{
    return (struct group_options) {
        .mode = MODE_SHARED,
        .priority = PRIORITY_NORMAL,
        .lease_ms = LEASE_MS_DEFAULT,
        .attempts_max = ATTEMPTS_DEFAULT,
        .in_flight_max = GROUP_IN_FLIGHT_DEFAULT,
    };
}

const char *group_mode_word(enum group_mode mode)
{
    switch (mode) {
    case MODE_SHARED:
        return "shared";
    case MODE_ORDERED:
        return "ordered";
    case MODE_EXCLUSIVE:
        return "exclusive";
    }
    return "unknown";
}

const char *group_priority_word(enum group_priority priority)
{
    switch (priority) {
    case PRIORITY_LOW:
        return "low";
    case PRIORITY_NORMAL:
        return "normal";
    case PRIORITY_HIGH:
        return "high";
    }
    return "unknown";
}

struct group_options options_asked(const struct catalog_request *request,
                                   const struct group_options *otherwise)
{
    const struct group_options *said = &request->options;
    struct group_options out = *otherwise;

    if ((request->given & OPTION_MODE) != 0) {
        out.mode = said->mode;
    }
    if ((request->given & OPTION_PRIORITY) != 0) {
        out.priority = said->priority;
    }
    if ((request->given & OPTION_LEASE) != 0) {
        out.lease_ms = said->lease_ms;
    }
    if ((request->given & OPTION_ATTEMPTS) != 0) {
        out.attempts_max = said->attempts_max;
    }
    if ((request->given & OPTION_BACKOFF) != 0) {
        memcpy(out.backoff_ms, said->backoff_ms, sizeof out.backoff_ms);
        out.backoff_count = said->backoff_count;
    }
    if ((request->given & OPTION_IN_FLIGHT) != 0) {
        out.in_flight_max = said->in_flight_max;
    }
    if ((request->given & OPTION_NOTICE) != 0) {
        out.notice_ms = said->notice_ms;
    }
    if ((request->given & OPTION_PAUSED) != 0) {
        out.paused = said->paused;
    }
    if ((request->given & OPTION_FILTER) != 0) {
        out.filter = said->filter;
    }
    return out;
}

static enum status outside(struct refusal *refusal, const char *limit,
                           const char *text, uint64_t used, uint64_t allowed)
{
    (void)refuse(refusal, STATUS_INVALID, limit, "%s", text);
    refusal->used = used;
    refusal->allowed = allowed;
    return STATUS_INVALID;
}

static enum status check_words(const struct group_options *o,
                               struct refusal *refusal)
{
    if (o->mode < MODE_SHARED || o->mode > MODE_EXCLUSIVE) {
        return refuse(refusal, STATUS_INVALID, "mode",
                      "a group is shared, ordered or exclusive");
    }
    if (o->priority < PRIORITY_LOW || o->priority > PRIORITY_HIGH) {
        return refuse(refusal, STATUS_INVALID, "priority",
                      "a priority is low, normal or high");
    }
    return STATUS_OK;
}

static enum status check_lease(const struct group_options *o,
                               struct refusal *refusal)
{
    if (o->lease_ms < LEASE_MS_MIN) {
        return outside(refusal, "lease_ms_min",
                       "the lease is shorter than it may be", o->lease_ms,
                       LEASE_MS_MIN);
    }
    if (o->lease_ms > LEASE_MS_MAX) {
        return outside(refusal, "lease_ms",
                       "the lease is longer than it may be", o->lease_ms,
                       LEASE_MS_MAX);
    }
    if (o->notice_ms >= o->lease_ms) {
        return outside(refusal, "notice_ms",
                       "the notice comes before the end of the lease, so that "
                       "it is shorter than the lease",
                       o->notice_ms, o->lease_ms - 1);
    }
    return STATUS_OK;
}

static enum status check_backoff(const struct group_options *o,
                                 struct refusal *refusal)
{
    if (o->backoff_count > BACKOFF_COUNT_MAX) {
        return outside(refusal, "backoff_count",
                       "too many steps in the backoff", o->backoff_count,
                       BACKOFF_COUNT_MAX);
    }
    for (size_t i = 0; i < o->backoff_count; i++) {
        if (o->backoff_ms[i] == 0 || o->backoff_ms[i] > DELAY_MS_MAX) {
            return outside(refusal, "backoff_ms",
                           "a step of the backoff is at least 1 ms, and "
                           "bounded",
                           o->backoff_ms[i], DELAY_MS_MAX);
        }
    }
    /* Behind the last attempt there is nothing to wait for. */
    if (o->attempts_max > 0 && o->backoff_count > o->attempts_max - 1) {
        return outside(refusal, "backoff_count",
                       "the backoff has more steps than there are waits "
                       "between the attempts (max_attempts)",
                       o->backoff_count, o->attempts_max - 1);
    }
    return STATUS_OK;
}

static enum status check_filter(const struct group_options *o,
                                struct refusal *refusal)
{
    struct filter *filter;
    enum status status;

    if (o->filter == NULL) {
        return STATUS_OK;
    }
    status = filter_compile(&filter, slice_text(o->filter), refusal);
    if (status == STATUS_OK) {
        filter_free(filter);
    }
    return status;
}

enum status options_check(const struct group_options *o,
                          struct refusal *refusal)
{
    enum status status = check_words(o, refusal);

    if (status == STATUS_OK) {
        status = check_lease(o, refusal);
    }
    if (status == STATUS_OK && o->attempts_max > ATTEMPTS_MAX) {
        status = outside(refusal, "max_attempts",
                         "more attempts than there may be (0: no end)",
                         o->attempts_max, ATTEMPTS_MAX);
    }
    if (status == STATUS_OK) {
        status = check_backoff(o, refusal);
    }
    if (status == STATUS_OK
        && (o->in_flight_max == 0 || o->in_flight_max > GROUP_IN_FLIGHT_MAX)) {
        status = outside(refusal, "max_in_flight",
                         "a group has at least one message in flight, and "
                         "a bounded number",
                         o->in_flight_max, GROUP_IN_FLIGHT_MAX);
    }
    return status == STATUS_OK ? check_filter(o, refusal) : status;
}

bool options_sound(const struct group_options *o)
{
    struct refusal ignored;

    return check_words(o, &ignored) == STATUS_OK && o->lease_ms >= LEASE_MS_MIN
           && o->lease_ms <= LEASE_MS_MAX && o->notice_ms <= LEASE_MS_MAX
           && o->backoff_count <= BACKOFF_COUNT_MAX && o->in_flight_max > 0
           && o->in_flight_max <= GROUP_IN_FLIGHT_MAX;
}

static bool texts_equal(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

bool options_equal(const struct group_options *a, const struct group_options *b)
{
    return a->mode == b->mode && a->priority == b->priority
           && a->lease_ms == b->lease_ms && a->attempts_max == b->attempts_max
           && a->backoff_count == b->backoff_count
           && memcmp(a->backoff_ms, b->backoff_ms,
                     a->backoff_count * sizeof a->backoff_ms[0])
                  == 0
           && a->in_flight_max == b->in_flight_max
           && a->notice_ms == b->notice_ms && texts_equal(a->filter, b->filter);
}
