#include "proto/name.h"

#include "proto/limits.h"

static bool is_name_byte(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')
           || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
}

static bool valid(struct slice text, size_t len_max, bool stars)
{
    if (text.len == 0 || text.len > len_max || text.at[0] == '.'
        || text.at[0] == '-') {
        return false;
    }
    for (size_t i = 0; i < text.len; i++) {
        if (!is_name_byte(text.at[i]) && !(stars && text.at[i] == '*')) {
            return false;
        }
    }
    return true;
}

bool name_valid(struct slice name)
{
    return valid(name, NAME_LEN_MAX, false);
}

bool pattern_valid(struct slice pattern)
{
    return valid(pattern, PATTERN_LEN_MAX, true);
}

/* Only the latest star is ever tried again: what an earlier one could take over
 * the latest one can take too. That keeps hostile patterns at len x len. */
bool pattern_matches(struct slice pattern, struct slice name)
{
    size_t p = 0;
    size_t n = 0;
    size_t star = SIZE_MAX; /* the latest star's place in the pattern */
    size_t resume = 0;      /* where the name goes on behind that star */

    while (n < name.len) {
        if (p < pattern.len && pattern.at[p] == '*') {
            star = p++;
            resume = n;
        } else if (p < pattern.len && pattern.at[p] == name.at[n]) {
            p++;
            n++;
        } else if (star != SIZE_MAX) {
            p = star + 1;
            n = ++resume;
        } else {
            return false;
        }
    }
    while (p < pattern.len && pattern.at[p] == '*') {
        p++;
    }
    return p == pattern.len;
}
