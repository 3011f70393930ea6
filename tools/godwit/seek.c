/* godwit group seek: a group begins anew somewhere else. */
#include "tools/godwit/commands.h"

#include "tools/godwit/human.h"
#include "tools/godwit/session.h"
#include "tools/godwit/table.h"
#include "tools/godwit/where.h"

#include <stdlib.h>

static const struct help help = {
    .usage = "godwit group seek GROUP [TOPIC] --to WHERE [options]",
    .text =
        "Lets a group begin anew on a topic, or on all that it takes: messages "
        "from\nthere on come (again), also those that are dead; what lies "
        "before is done, and\nwhat is dead there stays dead.\n\n" WHERE_HELP
        "A seq needs the TOPIC it is of.\n",
    .examples =
        "  godwit group seek billing orders --to 1201\n"
        "  godwit group seek billing --to 2h\n"
        "  godwit group seek billing --to latest    # skip what waits\n",
};

struct options {
    const char *group;
    const char *topic; /* NULL: all */
    struct where to;
    bool json;
};

static const char *put_body(struct json_writer *w, const struct options *o)
{
    json_begin(w, NULL, '{');
    if (o->topic != NULL) {
        json_put_text(w, "topic", slice_text(o->topic));
    }
    where_put(w, "to", &o->to);
    json_end(w, '}');
    return json_done(w);
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
    int code = session_resolve(so);

    snprintf(path, sizeof path, "/v1/groups/%s/seek", o->group);
    if (code == EXIT_OK) {
        code = session_open_http(&session, so);
    }
    if (code == EXIT_OK) {
        code = session_call(&session, "POST", path, put_body(&w, o), &answer);
    }
    if (code == EXIT_OK) {
        code = show(answer, o);
    }
    json_free(answer);
    json_writer_fini(&w);
    session_close(&session);
    return code;
}

static bool check(struct options *o, const char *to)
{
    if (!check_name("group", o->group)
        || (o->topic != NULL && !check_name("topic", o->topic))
        || !where_read("--to", to, &o->to)) {
        return false;
    }
    if (o->to.kind == WHERE_NOT_SAID) {
        fail(EXIT_USAGE, "--to is missing: where shall the group begin anew?");
        return false;
    }
    if (o->to.kind == WHERE_SEQ && o->topic == NULL) {
        fail(EXIT_USAGE,
             "--to %s is a seq of one topic, which is named behind the group: "
             "godwit group seek %s TOPIC --to %s",
             to, o->group, to);
        return false;
    }
    return true;
}

int cmd_seek(int argc, char **argv)
{
    struct session_options so;
    struct options o = { 0 };
    const char *to = NULL;
    const struct arg table[] = {
        { "to", ARG_TEXT, &to, "WHERE", "where it begins anew, as above", 0,
          0 },
        { "json", ARG_FLAG, &o.json, NULL, "the broker's answer as JSON", 0,
          0 },
        { NULL, ARG_FLAG, NULL, NULL, NULL, 0, 0 },
    };
    struct parsed parsed;

    if (!command_parse(&parsed, &help, table, session_args(&so), 1, 2, argc,
                       argv)) {
        return parsed.code;
    }
    o.group = parsed.operands.at[0];
    o.topic = parsed.operands.count > 1 ? parsed.operands.at[1] : NULL;
    return check(&o, to) ? run(&o, &so) : EXIT_USAGE;
}
