#include "tools/godwit/where.h"

#include "proto/text.h"
#include "tools/godwit/command.h"
#include "tools/godwit/when.h"

#include <string.h>

static bool understood(const char *text, struct where *out)
{
    if (strcmp(text, "earliest") == 0) {
        out->kind = WHERE_EARLIEST;
    } else if (strcmp(text, "latest") == 0) {
        out->kind = WHERE_LATEST;
    } else if (text_decimal(slice_text(text), &out->at)) {
        out->kind = WHERE_SEQ;
        return out->at > 0;
    } else if (when_parse(text, wall_us(), &out->at)) {
        out->kind = WHERE_TIME;
        return out->at > 0;
    }
    return out->kind != WHERE_NOT_SAID;
}

bool where_read(const char *option, const char *text, struct where *out)
{
    *out = (struct where) { 0 };
    if (text == NULL || understood(text, out)) {
        return true;
    }
    fail(EXIT_USAGE,
         "%s%s%s: expected earliest, latest, a seq (from 1), how long ago (2h) "
         "or a time (2026-11-20T14:09, in UTC)",
         option, option[0] != '\0' ? " " : "", text);
    return false;
}

void where_put(struct json_writer *w, const char *name,
               const struct where *where)
{
    switch (where->kind) {
    case WHERE_NOT_SAID:
        break;
    case WHERE_EARLIEST:
    case WHERE_LATEST:
        json_put_text(
            w, name,
            slice_text(where->kind == WHERE_EARLIEST ? "earliest" : "latest"));
        break;
    case WHERE_SEQ:
    case WHERE_TIME:
        json_begin(w, name, '{');
        json_put_number(w, where->kind == WHERE_SEQ ? "seq" : "time_us",
                        where->at);
        json_end(w, '}');
        break;
    }
}
