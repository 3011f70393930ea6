/* godwit peek: one message of a topic. */
#include "tools/godwit/commands.h"

#include "proto/text.h"
#include "tools/godwit/look.h"
#include "tools/godwit/outlet.h"
#include "tools/godwit/when.h"

#include <inttypes.h>
#include <unistd.h>

static const struct help help = {
    .usage = "godwit peek TOPIC SEQ [options]",
    .text = "Shows one message of a topic. No group knows of it: nothing is "
            "taken or acked.\nSEQ is a number, or first or last.\n",
    .examples = "  godwit peek orders 1201\n"
                "  godwit peek orders last --json | jq .headers\n"
                "  godwit peek pictures 17 --body > 17.png\n",
};

struct options {
    const char *topic;
    const char *which;
    bool json;
    bool body;
};

/* The path, and whether its answer is a list with the message in it. */
static bool put_path(struct query *q, const struct options *o, bool *list)
{
    uint64_t seq;

    *list = strcmp(o->which, "first") == 0 || strcmp(o->which, "last") == 0;
    if (*list) {
        query_path(q, "/v1/topics/%s/messages", o->topic);
        query_number(q, o->which[0] == 'l' ? "newest" : "max", 1);
        return true;
    }
    if (!text_decimal(slice_text(o->which), &seq) || seq == 0) {
        fail(EXIT_USAGE, "\"%s\" is no seq: a number from 1, first or last",
             o->which);
        return false;
    }
    query_path(q, "/v1/topics/%s/messages/%" PRIu64, o->topic, seq);
    return true;
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

static int show_answer(const struct json *answer, bool list,
                       const struct options *o)
{
    const struct json *message =
        list ? json_at(json_get(answer, "messages"), 0) : answer;
    const struct json *gap =
        list ? json_at(json_get(answer, "gaps"), 0) : json_get(answer, "gap");

    if (gap != NULL) {
        return fail(EXIT_NOT_FOUND,
                    "message %s of %s is lost: damaged on the broker's disk",
                    o->which, o->topic);
    }
    if (message == NULL) {
        return fail(EXIT_NOT_FOUND, "topic %s holds no message", o->topic);
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
    bool list;
    int code;

    if (!command_parse(&parsed, &help, table, session_args(&so), 2, 2, argc,
                       argv)) {
        return parsed.code;
    }
    o.topic = parsed.operands.at[0];
    o.which = parsed.operands.at[1];
    if (!check_name("topic", o.topic) || !put_path(&path, &o, &list)) {
        return EXIT_USAGE;
    }
    code = session_resolve(&so);
    if (code == EXIT_OK) {
        code = session_open_http(&session, &so);
    }
    if (code == EXIT_OK) {
        code = session_call(&session, "GET", query_done(&path), NULL, &answer);
    }
    if (code == EXIT_OK) {
        code = show_answer(answer, list, &o);
    }
    json_free(answer);
    query_fini(&path);
    session_close(&session);
    return code;
}
