#include "tools/godwit/failures.h"

#include "proto/limits.h"
#include "proto/text.h"
#include "tools/godwit/command.h"
#include "tools/godwit/human.h"
#include "tools/godwit/message.h"
#include "tools/godwit/table.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

char *ago(char text[AGO_LEN], uint64_t time_us, uint64_t now_us)
{
    char about[HUMAN_LEN];

    if (time_us == 0) {
        snprintf(text, AGO_LEN, "-");
    } else if (time_us <= now_us) {
        snprintf(text, AGO_LEN, "%s ago", human_about(about, now_us - time_us));
    } else {
        snprintf(text, AGO_LEN, "in %s", human_about(about, time_us - now_us));
    }
    return text;
}

static void add_failure(struct table *table, const struct json *failure)
{
    char text[HUMAN_LEN];
    char *reason = message_shown(json_text(json_get(failure, "reason"), NULL));
    bool dead = json_flag(json_get(failure, "dead"));

    table_add(table,
              human_count(text, json_number(json_get(failure, "attempt"), 0)));
    human_time(text, json_number(json_get(failure, "time_us"), 0));
    snprintf(text + 23, sizeof text - 23, "Z"); /* milliseconds will do */
    table_add(table, text);
    table_add(table, json_text(json_get(failure, "cause"), NULL));
    table_add(table, dead ? "dead" : "again");
    table_add(table, reason);
    free(reason);
}

void failures_print(const struct json *history)
{
    static const struct column columns[] = { { "ATTEMPT", ALIGN_RIGHT },
                                             { "WHEN", ALIGN_LEFT },
                                             { "CAUSE", ALIGN_LEFT },
                                             { "THEN", ALIGN_LEFT },
                                             { "REASON", ALIGN_LEFT } };
    struct table *table = table_new(columns, COUNT_OF(columns));

    if (table == NULL) {
        return;
    }
    for (size_t i = 0; i < json_count(history); i++) {
        add_failure(table, json_at(history, i));
    }
    table_print(table, stdout);
    table_free(table);
}

/* "9" or "1-9" in `len` bytes. */
static bool read_range(const char *text, size_t len, uint64_t *first,
                       uint64_t *last)
{
    const char *dash = memchr(text, '-', len);
    size_t head = dash != NULL ? (size_t)(dash - text) : len;

    if (!text_decimal(slice_of(text, head), first)) {
        return false;
    }
    *last = *first;
    if (dash != NULL
        && !text_decimal(slice_of(dash + 1, len - head - 1), last)) {
        return false;
    }
    return *first > 0 && *first <= *last && *last < UINT64_MAX;
}

static void put_range(struct json_writer *w, uint64_t first, uint64_t last)
{
    char text[24];

    json_begin(w, NULL, '[');
    snprintf(text, sizeof text, "%" PRIu64, first);
    json_put_text(w, NULL, slice_text(text));
    snprintf(text, sizeof text, "%" PRIu64, last);
    json_put_text(w, NULL, slice_text(text));
    json_end(w, ']');
}

bool failures_put_seqs(struct json_writer *w, const char *option,
                       const char *list)
{
    const char *at = list;

    json_begin(w, "ranges", '[');
    for (size_t count = 1; at != NULL; count++) {
        size_t len = strcspn(at, ",");
        uint64_t first;
        uint64_t last;

        if (!read_range(at, len, &first, &last)) {
            fail(EXIT_USAGE,
                 "--%s %s: expected numbers and ranges such as 1-9,12,20-25",
                 option, list);
            return false;
        }
        if (count > RANGE_COUNT_MAX) {
            fail(EXIT_USAGE, "--%s: more than %d ranges", option,
                 RANGE_COUNT_MAX);
            return false;
        }
        put_range(w, first, last);
        at = at[len] == ',' ? at + len + 1 : NULL;
    }
    json_end(w, ']');
    return true;
}
