#include "broker/router/catalog.h"

#include "broker/router/catalog_impl.h"
#include "proto/name.h"

#include <stdlib.h>

static bool has(const struct patterns *patterns, struct slice pattern)
{
    for (size_t i = 0; i < patterns->count; i++) {
        if (slice_is(pattern, patterns->at[i])) {
            return true;
        }
    }
    return false;
}

enum status patterns_append(struct patterns *patterns, struct slice pattern)
{
    void *at =
        realloc(patterns->at, (patterns->count + 1) * sizeof patterns->at[0]);

    if (at == NULL) {
        return STATUS_NOMEM;
    }
    CHECK(pattern.len <= PATTERN_LEN_MAX);
    patterns->at = at;
    memcpy(patterns->at[patterns->count], pattern.at, pattern.len);
    patterns->at[patterns->count][pattern.len] = '\0';
    patterns->count++;
    return STATUS_OK;
}

static enum status add_one(struct patterns *patterns, struct slice pattern,
                           struct refusal *refusal)
{
    if (pattern.len > PATTERN_LEN_MAX) {
        (void)refuse(refusal, STATUS_INVALID, "pattern_len",
                     "a pattern is longer than a name may be");
        refusal->used = pattern.len;
        refusal->allowed = PATTERN_LEN_MAX;
        return STATUS_INVALID;
    }
    if (!pattern_valid(pattern)) {
        return refuse(refusal, STATUS_INVALID, "pattern",
                      "a pattern is letters, digits, '.', '_', '-' and '*', "
                      "and does not begin with '.' or '-'");
    }
    if (has(patterns, pattern)) {
        return STATUS_OK;
    }
    if (patterns->count >= APP_GRANT_COUNT_MAX) {
        (void)refuse(refusal, STATUS_TOO_LARGE, "patterns",
                     "too many patterns");
        refusal->used = patterns->count + 1;
        refusal->allowed = APP_GRANT_COUNT_MAX;
        return STATUS_TOO_LARGE;
    }
    if (patterns_append(patterns, pattern) != STATUS_OK) {
        return refuse(refusal, STATUS_NOMEM, "memory", "out of memory");
    }
    return STATUS_OK;
}

enum status patterns_add(struct patterns *patterns, struct slice pattern,
                         struct refusal *refusal)
{
    for (;;) {
        const uint8_t *comma =
            pattern.len == 0 ? NULL : memchr(pattern.at, ',', pattern.len);
        size_t len = comma == NULL ? pattern.len : (size_t)(comma - pattern.at);
        enum status status =
            add_one(patterns, slice_of(pattern.at, len), refusal);

        if (status != STATUS_OK || comma == NULL) {
            return status;
        }
        pattern = slice_of(comma + 1, pattern.len - len - 1);
    }
}

void patterns_fini(struct patterns *patterns)
{
    free(patterns->at);
    *patterns = (struct patterns) { 0 };
}

bool patterns_match(const struct patterns *patterns, struct slice name)
{
    for (size_t i = 0; i < patterns->count; i++) {
        if (pattern_matches(slice_text(patterns->at[i]), name)) {
            return true;
        }
    }
    return false;
}

bool patterns_equal(const struct patterns *a, const struct patterns *b)
{
    if (a->count != b->count) {
        return false;
    }
    for (size_t i = 0; i < a->count; i++) {
        if (!has(b, slice_text(a->at[i]))) {
            return false;
        }
    }
    return true;
}
