/* godwit topic: named, durable sequences of messages. */
#include "tools/godwit/commands.h"
#include "tools/godwit/resource.h"

static const struct resource_column columns[] = {
    { { "TOPIC", ALIGN_LEFT }, "name", AS_TEXT },
    { { "LAST SEQ", ALIGN_RIGHT }, "last_seq", AS_COUNT },
};

static const struct resource topics = { "topic", "/v1/topics", "topics",
                                        columns, COUNT_OF(columns) };

static int create(int argc, char **argv)
{
    static const struct help help = {
        .usage = "godwit topic create NAME [options]",
        .text = "Creates a topic. Names are 1 to 128 of A-Z a-z 0-9 . _ - and\n"
                "do not begin with . or -.\n",
        .examples = "  godwit topic create orders\n",
    };
    struct session_options so;
    struct json_writer w = { 0 };
    struct parsed parsed;
    int code;

    if (!command_parse(&parsed, &help, NULL, session_args(&so), 1, 1, argc,
                       argv)) {
        return parsed.code;
    }
    if (!check_name("topic", parsed.operands.at[0])) {
        return EXIT_USAGE;
    }
    json_begin(&w, NULL, '{');
    json_put_text(&w, "name", slice_text(parsed.operands.at[0]));
    json_end(&w, '}');
    code = resource_post(&topics, &so, json_done(&w), NULL);
    json_writer_fini(&w);
    if (code == EXIT_OK) {
        fprintf(stderr, "topic %s created\n", parsed.operands.at[0]);
    }
    return code;
}

static int list(int argc, char **argv)
{
    return resource_list(&topics, argc, argv);
}

static int show(int argc, char **argv)
{
    return resource_show(&topics, argc, argv);
}

static int delete (int argc, char **argv)
{
    return resource_delete(&topics, argc, argv);
}

int cmd_topic(int argc, char **argv)
{
    static const struct command commands[] = {
        { "create", "make a new topic", create },
        { "list", "all topics with their last seq", list },
        { "show", "one topic", show },
        { "delete", "delete a topic with its messages", delete },
        { NULL, NULL, NULL },
    };

    return command_dispatch(commands, "godwit topic",
                            "A topic is a named, durable sequence of messages; "
                            "their seq counts from "
                            "1\nwithout holes.\n",
                            NULL, argc, argv);
}
