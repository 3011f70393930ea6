/* godwit peek: one message of a topic. */
#include "tools/godwit/commands.h"

#include "tools/godwit/look.h"
#include "tools/godwit/outlet.h"
#include "tools/godwit/when.h"
#include "tools/godwit/where.h"

#include <inttypes.h>
#include <unistd.h>

static const struct help help = {
    .usage = "godwit peek TOPIC WHERE [options]",
    .text = "Shows one message of a topic: the one of this seq, the earliest "
            "or latest there\nis, or the first one stored at a time or later. "
            "No group knows of it: nothing\nis taken or "
            "acked.\n\n" WHERE_HELP,
    .examples = "  godwit peek orders 1201\n"
                "  godwit peek orders latest --json | jq .headers\n"
                "  godwit peek pictures 17 --body > 17.png\n",
};

struct options {
    const char *topic;
    const char *said;
    struct where where;
    bool json;
    bool body;
};

/* The answer is a list with the message in it, unless it is asked for by seq. */
static void put_path(struct query *q, const struct options *o)
{
    if (o->where.kind == WHERE_SEQ) {
        query_path(q, "/v1/topics/%s/messages/%" PRIu64, o->topic, o->where.at);
        return;
    }
    query_path(q, "/v1/topics/%s/messages", o->topic);
    query_number(q, o->where.kind == WHERE_LATEST ? "newest" : "max", 1);
    if (o->where.kind == WHERE_TIME) {
        query_number(q, "since", o->where.at);
    }
}

static int show(const struct json *message, const struct options *o)
{
    const struct message_style json = { .json = true };
    struct outlet outlet = { 0 };
    enum status status;

    if (o->body) {
        status = message_body(&outlet.text, message);
    } else {
        status = o->json ? message_line(&outlet.text, message, &json)
                         : message_card(&outlet.text, message, wall_us());
    }
    if (status == STATUS_OK) {
        status = outlet_write(&outlet, STDOUT_FILENO);
    }
    outlet_fini(&outlet);
    return status == STATUS_OK ? EXIT_OK : look_print_failed(status);
}

static int show_answer(const struct json *answer, const struct options *o)
{
    bool list = o->where.kind != WHERE_SEQ;
    const struct json *message =
        list ? json_at(json_get(answer, "messages"), 0) : answer;
    const struct json *gap =
        list ? json_at(json_get(answer, "gaps"), 0) : json_get(answer, "gap");

    if (gap != NULL) {
        return fail(EXIT_NOT_FOUND,
                    "message %s of %s is lost: damaged on the broker's disk",
                    o->said, o->topic);
    }
    if (message == NULL) {
        return fail(EXIT_NOT_FOUND, "topic %s holds no message%s%s", o->topic,
                    o->where.kind == WHERE_TIME ? " since " : "",
                    o->where.kind == WHERE_TIME ? o->said : "");
    }
    return show(message, o);
}

int cmd_peek(int argc, char **argv)
{
    struct session_options so;
    struct options o = { 0 };
    const struct arg table[] = {
        { "json", ARG_FLAG, &o.json, NULL, "as one JSON object", 0, 0 },
        { "body", ARG_FLAG, &o.body, NULL, "the bytes of its body alone", 0,
          0 },
        { NULL, ARG_FLAG, NULL, NULL, NULL, 0, 0 },
    };
    struct session session = { 0 };
    struct query path = { 0 };
    struct json *answer = NULL;
    struct parsed parsed;
    int code;

    if (!command_parse(&parsed, &help, table, session_args(&so), 2, 2, argc,
                       argv)) {
        return parsed.code;
    }
    o.topic = parsed.operands.at[0];
    o.said = parsed.operands.at[1];
    if (!check_name("topic", o.topic) || !where_read("", o.said, &o.where)) {
        return EXIT_USAGE;
    }
    put_path(&path, &o);
    code = session_resolve(&so);
    if (code == EXIT_OK) {
        code = session_open_http(&session, &so);
    }
    if (code == EXIT_OK) {
        code = session_call(&session, "GET", query_done(&path), NULL, &answer);
    }
    if (code == EXIT_OK) {
        code = show_answer(answer, &o);
    }
    json_free(answer);
    query_fini(&path);
    session_close(&session);
    return code;
}
