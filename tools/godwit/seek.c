/* godwit group seek: a group begins anew somewhere else. */
#include "tools/godwit/commands.h"

#include "proto/text.h"
#include "tools/godwit/human.h"
#include "tools/godwit/session.h"
#include "tools/godwit/table.h"
#include "tools/godwit/when.h"

#include <stdlib.h>

static const struct help help = {
    .usage = "godwit group seek GROUP --to SEQ|AGE|TIME|earliest|latest "
             "[options]",
    .text =
        "Lets a group begin anew on a topic: messages from there on come "
        "(again), also\nthose that are dead; what lies before is done, and "
        "what is dead there stays\ndead. Without --topic: on all topics that "
        "the group takes.\n\n"
        "A time is 2026-11-20, 2026-11-20T14:09:37 (UTC), or how long ago: "
        "15m, 2h, 7d.\n",
    .examples =
        "  godwit group seek billing --topic orders --to 1201\n"
        "  godwit group seek billing --to 2h\n"
        "  godwit group seek billing --to latest    # skip what waits\n",
};

struct options {
    const char *group;
    const char *topic;
    const char *to;
    bool json;
};

/* {"topic", and one of "seq", "time_us" and "to"} */
static int put_body(struct json_writer *w, const struct options *o)
{
    uint64_t value;

    json_begin(w, NULL, '{');
    if (o->topic != NULL) {
        json_put_text(w, "topic", slice_text(o->topic));
    }
    if (strcmp(o->to, "earliest") == 0 || strcmp(o->to, "latest") == 0) {
        json_put_text(w, "to", slice_text(o->to));
    } else if (text_decimal(slice_text(o->to), &value)) {
        if (o->topic == NULL) {
            return fail(EXIT_USAGE,
                        "--to %s is a seq of one topic: name it, "
                        "--topic",
                        o->to);
        }
        json_put_number(w, "seq", value);
    } else if (when_parse(o->to, wall_us(), &value)) {
        json_put_number(w, "time_us", value);
    } else {
        return fail(EXIT_USAGE,
                    "--to %s: expected a seq, earliest, latest, how long ago "
                    "(2h) or a time (2026-11-20T14:09)",
                    o->to);
    }
    json_end(w, '}');
    return EXIT_OK;
}

static int print_seeks(const struct json *seeks)
{
    static const struct column columns[] = { { "TOPIC", ALIGN_LEFT },
                                             { "BEGINS WITH", ALIGN_RIGHT } };
    struct table *table = table_new(columns, COUNT_OF(columns));
    char text[HUMAN_LEN];

    if (table == NULL) {
        return fail(EXIT_FAILED, "out of memory");
    }
    for (size_t i = 0; i < json_count(seeks); i++) {
        const struct json *seek = json_at(seeks, i);

        table_add(table, json_text(json_get(seek, "topic"), "-"));
        table_add(table,
                  human_count(text, json_number(json_get(seek, "seq"), 0)));
    }
    if (json_count(seeks) == 0) {
        fputs("the group takes no topic that is there\n", stderr);
    } else {
        table_print(table, stdout);
    }
    table_free(table);
    return EXIT_OK;
}

static int show(const struct json *answer, const struct options *o)
{
    char *text;

    if (!o->json) {
        return print_seeks(json_get(answer, "seeks"));
    }
    text = json_display(answer);
    puts(text != NULL ? text : "");
    free(text);
    return EXIT_OK;
}

static int run(const struct options *o, struct session_options *so)
{
    struct session session = { 0 };
    struct json_writer w = { 0 };
    struct json *answer = NULL;
    char path[256];
    int code = put_body(&w, o);

    snprintf(path, sizeof path, "/v1/groups/%s/seek", o->group);
    if (code == EXIT_OK) {
        code = session_resolve(so);
    }
    if (code == EXIT_OK) {
        code = session_open_http(&session, so);
    }
    if (code == EXIT_OK) {
        code = session_call(&session, "POST", path, json_done(&w), &answer);
    }
    if (code == EXIT_OK) {
        code = show(answer, o);
    }
    json_free(answer);
    json_writer_fini(&w);
    session_close(&session);
    return code;
}

int cmd_seek(int argc, char **argv)
{
    struct session_options so;
    struct options o = { 0 };
    const struct arg table[] = {
        { "to", ARG_TEXT, &o.to, "WHERE",
          "the seq that comes first, or earliest, latest, " WHEN_VALUE, 0, 0 },
        { "topic", ARG_TEXT, &o.topic, "NAME", "on this topic alone", 0, 0 },
        { "json", ARG_FLAG, &o.json, NULL, "the broker's answer as JSON", 0,
          0 },
        { NULL, ARG_FLAG, NULL, NULL, NULL, 0, 0 },
    };
    struct parsed parsed;

    if (!command_parse(&parsed, &help, table, session_args(&so), 1, 1, argc,
                       argv)) {
        return parsed.code;
    }
    o.group = parsed.operands.at[0];
    if (!check_name("group", o.group)
        || (o.topic != NULL && !check_name("topic", o.topic))) {
        return EXIT_USAGE;
    }
    if (o.to == NULL) {
        return fail(EXIT_USAGE, "--to is missing: a seq, earliest, latest, how "
                                "long ago (2h) or a time (2026-11-20T14:09)");
    }
    return run(&o, &so);
}
