/* godwit group: durable consumer groups. */
#include "proto/limits.h"
#include "tools/godwit/commands.h"
#include "tools/godwit/resource.h"

#include <inttypes.h>

static const struct resource_column columns[] = {
    { { "GROUP", ALIGN_LEFT }, "name", AS_TEXT },
    { { "LEASE", ALIGN_RIGHT }, "lease_ms", AS_MS },
    { { "ACKED", ALIGN_RIGHT }, "acked", AS_LANES },
    { { "READY", ALIGN_RIGHT }, "ready", AS_LANES },
    { { "DELAYED", ALIGN_RIGHT }, "delayed", AS_LANES },
    { { "IN FLIGHT", ALIGN_RIGHT }, "in_flight", AS_LANES },
    { { "TOPICS", ALIGN_LEFT }, "topics", AS_TEXT },
};

static const struct resource groups = { "group", "/v1/groups", "groups",
                                        columns, COUNT_OF(columns) };

static int post_group(const char *name, const char *topics, const char *from,
                      uint64_t lease_ms, struct session_options *so)
{
    struct json_writer w = { 0 };
    int code;

    json_begin(&w, NULL, '{');
    json_put_text(&w, "name", slice_text(name));
    json_put_split(&w, "topics", topics);
    json_put_text(&w, "from", slice_text(from));
    json_put_number(&w, "lease_ms", lease_ms);
    json_end(&w, '}');
    code = resource_post(&groups, so, json_done(&w), NULL);
    json_writer_fini(&w);
    if (code == EXIT_OK) {
        fprintf(stderr, "group %s created\n", name);
    }
    return code;
}

static int create(int argc, char **argv)
{
    static const struct help help = {
        .usage =
            "godwit group create NAME --topics PATTERN[,PATTERN...] [options]",
        .text = "Creates a group. Every group gets every message of its "
                "topics, and the\n"
                "subscribers of a group share them. In a pattern, * stands for "
                "any\n"
                "characters: trade.* takes trade.paid and trade.sent, also "
                "topics that\n"
                "are created later.\n",
        .examples = "  godwit group create billing --topics orders\n"
                    "  godwit group create audit --topics 'trade.*,orders' "
                    "--from latest\n",
    };
    struct session_options so;
    const char *topics = NULL;
    const char *from = "earliest";
    uint64_t lease_ms = LEASE_MS_DEFAULT;
    const struct arg table[] = {
        { "topics", ARG_TEXT, &topics, "PATTERNS",
          "topics by name or pattern, with commas between", 0, 0 },
        { "from", ARG_TEXT, &from, "earliest|latest",
          "begin with what is stored, or with what comes; default earliest", 0,
          0 },
        { "lease", ARG_SECONDS, &lease_ms, "SECONDS",
          "a delivered message comes again when it was not acked in this time; "
          "default 30",
          LEASE_MS_MIN, LEASE_MS_MAX },
        { NULL, ARG_FLAG, NULL, NULL, NULL, 0, 0 },
    };
    struct parsed parsed;

    if (!command_parse(&parsed, &help, table, session_args(&so), 1, 1, argc,
                       argv)) {
        return parsed.code;
    }
    if (!check_name("group", parsed.operands.at[0])) {
        return EXIT_USAGE;
    }
    if (topics == NULL) {
        return fail(EXIT_USAGE, "--topics is missing: which topics shall the "
                                "group take?");
    }
    if (strcmp(from, "earliest") != 0 && strcmp(from, "latest") != 0) {
        return fail(EXIT_USAGE, "--from %s: expected earliest or latest", from);
    }
    if (!check_patterns("topics", topics)) {
        return EXIT_USAGE;
    }
    return post_group(parsed.operands.at[0], topics, from, lease_ms, &so);
}

static int list(int argc, char **argv)
{
    return resource_list(&groups, argc, argv);
}

static int show(int argc, char **argv)
{
    return resource_show(&groups, argc, argv);
}

static int delete (int argc, char **argv)
{
    return resource_delete(&groups, argc, argv);
}

int cmd_group(int argc, char **argv)
{
    static const struct command commands[] = {
        { "create", "make a new group", create },
        { "list", "all groups with what waits in them", list },
        { "show", "one group, topic by topic", show },
        { "delete", "delete a group and what it has acked", delete },
        { NULL, NULL, NULL },
    };

    return command_dispatch(commands, "godwit group",
                            "A group takes the messages of some topics and "
                            "remembers which are done. "
                            "Each\ngroup gets every message; the members of "
                            "one group share them.\n",
                            NULL, argc, argv);
}
