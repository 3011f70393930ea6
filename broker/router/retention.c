/* How a topic's messages may be kept: which words go together. */
#include "broker/router/catalog_impl.h"

#define KEEP_MS_MAX (UINT64_C(3600000) * KEEP_HOURS_MAX)

static bool is_wrong(struct retention_fault *fault, const char *limit,
                     const char *text)
{
    *fault = (struct retention_fault) { .limit = limit, .text = text };
    return false;
}

static bool settled_valid(const struct retention *r,
                          struct retention_fault *fault)
{
    static const char text[] =
        "an upper bound drops what is not settled too: it goes with keep "
        "\"limit\", and this topic keeps \"settled\"";

    if (r->ms_max > 0) {
        return is_wrong(fault, "keep_ms_max", text);
    }
    if (r->bytes_max > 0) {
        return is_wrong(fault, "keep_bytes_max", text);
    }
    return r->count_max == 0 || is_wrong(fault, "keep_count_max", text);
}

static bool limit_valid(const struct retention *r,
                        struct retention_fault *fault)
{
    if (r->ms_min > 0) {
        return is_wrong(fault, "keep_ms_min",
                        "a least time goes with keep \"settled\", and this "
                        "topic keeps \"limit\"");
    }
    return r->ms_max > 0 || r->bytes_max > 0 || r->count_max > 0
           || is_wrong(fault, "keep",
                       "keep \"limit\" needs a limit: keep_ms_max, "
                       "keep_bytes_max or keep_count_max");
}

static bool within(uint64_t value, const char *limit,
                   struct retention_fault *fault)
{
    *fault = (struct retention_fault) {
        .limit = limit,
        .text = "longer than a topic may be told to keep",
        .used = value,
        .allowed = KEEP_MS_MAX,
    };
    return value <= KEEP_MS_MAX;
}

bool retention_valid(const struct retention *r, struct retention_fault *fault)
{
    if (!within(r->ms_min, "keep_ms_min", fault)
        || !within(r->ms_max, "keep_ms_max", fault)) {
        return false;
    }
    switch (r->keep) {
    case KEEP_SETTLED:
        return settled_valid(r, fault);
    case KEEP_LIMIT:
        return limit_valid(r, fault);
    }
    return is_wrong(fault, "keep", "a topic keeps \"settled\" or \"limit\"");
}

bool retention_equal(const struct retention *a, const struct retention *b)
{
    return a->keep == b->keep && a->ms_min == b->ms_min
           && a->ms_max == b->ms_max && a->bytes_max == b->bytes_max
           && a->count_max == b->count_max;
}
