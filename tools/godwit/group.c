/* godwit group: durable consumer groups. */
#include "proto/limits.h"
#include "proto/text.h"
#include "tools/godwit/commands.h"
#include "tools/godwit/resource.h"
#include "tools/godwit/where.h"

#include <string.h>

enum { PAUSE_PATH_LEN = 256 };

static const struct resource_column columns[] = {
    { { "GROUP", ALIGN_LEFT }, "name", AS_TEXT },
    { { "MODE", ALIGN_LEFT }, "mode", AS_TEXT },
    { { "LEASE", ALIGN_RIGHT }, "lease_ms", AS_MS },
    { { "ACKED", ALIGN_RIGHT }, "acked", AS_LANES },
    { { "READY", ALIGN_RIGHT }, "ready", AS_LANES },
    { { "DELAYED", ALIGN_RIGHT }, "delayed", AS_LANES },
    { { "IN FLIGHT", ALIGN_RIGHT }, "in_flight", AS_LANES },
    { { "DEAD", ALIGN_RIGHT }, "dead", AS_LANES },
    { { "HELD BY", ALIGN_LEFT }, "held_by", AS_HELD },
    { { "TOPICS", ALIGN_LEFT }, "topics", AS_TEXT },
};

static const struct resource groups = { "group",  "GROUP", "/v1/groups",
                                        "groups", columns, COUNT_OF(columns) };

/* ---- options ---- */

enum { GROUP_ARG_COUNT = 12, CREATE_ARG_COUNT = 3 };
#define NOT_GIVEN UINT64_MAX

/* As the command line says them; NULL and NOT_GIVEN: not at all. */
struct group_args {
    const char *topics;
    const char *from;
    const char *mode;
    const char *filter;
    const char *backoff;
    const char *priority;
    uint64_t lease_ms;
    uint64_t notice_ms;
    uint64_t attempts_max;
    uint64_t in_flight_max;
    bool paused;
    struct where where;                /* of from, when it was checked */
    struct arg table[GROUP_ARG_COUNT]; /* group_args() fills it */
};

/* The table lives as long as the options. Its first CREATE_ARG_COUNT are of a
 * new group alone and left out for an update. */
static const struct arg *group_args(struct group_args *o, bool create)
{
    const struct arg table[GROUP_ARG_COUNT] = {
        { "topics", ARG_TEXT, &o->topics, "PATTERNS",
          "topics by name or pattern, with commas between", 0, 0 },
        { "from", ARG_TEXT, &o->from, "WHERE",
          "where it begins; default earliest", 0, 0 },
        { "paused", ARG_FLAG, &o->paused, NULL,
          "give nothing out until `godwit group resume`", 0, 0 },
        { "mode", ARG_TEXT, &o->mode, "shared|ordered|exclusive",
          "shared: subscribers take turns (default); ordered: one message of a "
          "key after the other; exclusive: all to one subscriber, the others "
          "stand by",
          0, 0 },
        { "filter", ARG_TEXT, &o->filter, "EXPR",
          "take only messages for which this is true; '' for all", 0, 0 },
        { "lease", ARG_SECONDS, &o->lease_ms, "SECONDS",
          "a delivered message comes again when it was not acked in this time; "
          "default 30",
          LEASE_MS_MIN, LEASE_MS_MAX },
        { "notice", ARG_SECONDS, &o->notice_ms, "SECONDS",
          "tell a subscriber so long before its lease ends; default 0: not", 0,
          LEASE_MS_MAX },
        { "max-attempts", ARG_COUNT, &o->attempts_max, "N",
          "after so many failed deliveries a message is dead; 0: never; "
          "default 20",
          0, ATTEMPTS_MAX },
        { "backoff", ARG_TEXT, &o->backoff, "TIMES",
          "wait so long after the first failure, the second, ... (1,5,30: "
          "seconds; or 500ms, 2m); '' for 1 s, doubled up to 5 min",
          0, 0 },
        { "max-in-flight", ARG_COUNT, &o->in_flight_max, "N",
          "so many messages out at a time; default 262144", 1,
          GROUP_IN_FLIGHT_MAX },
        { "priority", ARG_TEXT, &o->priority, "low|normal|high",
          "of the group among others that have something to give", 0, 0 },
        { NULL, ARG_FLAG, NULL, NULL, NULL, 0, 0 },
    };

    *o = (struct group_args) { .lease_ms = NOT_GIVEN,
                               .notice_ms = NOT_GIVEN,
                               .attempts_max = NOT_GIVEN,
                               .in_flight_max = NOT_GIVEN };
    memcpy(o->table, table, sizeof table);
    return create ? o->table : o->table + CREATE_ARG_COUNT;
}

/* Is it one of the words, or not given? False: said on stderr. */
static bool check_word(const char *option, const char *word,
                       const char *const *words, const char *want)
{
    for (; word != NULL && *words != NULL; words++) {
        if (strcmp(word, *words) == 0) {
            return true;
        }
    }
    if (word != NULL) {
        fail(EXIT_USAGE, "--%s %s: expected %s", option, word, want);
    }
    return word == NULL;
}

/* "5", "0.5", "500ms", "2m": in milliseconds. */
static bool read_wait(const char *text, uint64_t *ms)
{
    size_t len = strlen(text);
    uint64_t value;

    if (len > 2 && len < 20 && strcmp(text + len - 2, "ms") == 0) {
        char digits[20];

        snprintf(digits, sizeof digits, "%.*s", (int)len - 2, text);
        return text_decimal(slice_text(digits), ms);
    }
    if (args_number(ARG_SECONDS, text, &value)
        || args_number(ARG_AGE, text, &value)) {
        *ms = value;
        return true;
    }
    return false;
}

/* Puts the steps; `w` may be NULL, to look only. */
static bool each_wait(const char *list, struct json_writer *w)
{
    while (list[0] != '\0') {
        size_t len = strcspn(list, ",");
        char text[32];
        uint64_t ms;

        snprintf(text, sizeof text, "%.*s", len < 31 ? (int)len : 31, list);
        if (!read_wait(text, &ms)) {
            fail(EXIT_USAGE,
                 "--backoff: \"%.*s\" is no time; expected such as 1,5,30 or "
                 "500ms,2m",
                 (int)len, list);
            return false;
        }
        if (w != NULL) {
            json_put_number(w, NULL, ms);
        }
        list += len;
        list += list[0] == ',';
    }
    return true;
}

static bool check_args(const struct group_args *o)
{
    static const char *const modes[] = { "shared", "ordered", "exclusive",
                                         NULL };
    static const char *const priorities[] = { "low", "normal", "high", NULL };

    return check_word("mode", o->mode, modes, "shared, ordered or exclusive")
           && check_word("priority", o->priority, priorities,
                         "low, normal or high")
           && (o->backoff == NULL || each_wait(o->backoff, NULL));
}

static void put_number(struct json_writer *w, const char *name, uint64_t value)
{
    if (value != NOT_GIVEN) {
        json_put_number(w, name, value);
    }
}

static void put_text(struct json_writer *w, const char *name, const char *text)
{
    if (text != NULL) {
        json_put_text(w, name, slice_text(text));
    }
}

/* What was given. */
static void put_options(struct json_writer *w, const struct group_args *o)
{
    put_text(w, "mode", o->mode);
    put_text(w, "filter", o->filter);
    put_text(w, "priority", o->priority);
    put_number(w, "lease_ms", o->lease_ms);
    put_number(w, "notice_ms", o->notice_ms);
    put_number(w, "max_attempts", o->attempts_max);
    put_number(w, "max_in_flight", o->in_flight_max);
    if (o->backoff != NULL) {
        json_begin(w, "backoff_ms", '[');
        (void)each_wait(o->backoff, w);
        json_end(w, ']');
    }
}

/* ---- create, update, pause, resume ---- */

static int post_group(const char *name, const struct group_args *o,
                      struct session_options *so)
{
    struct json_writer w = { 0 };
    int code;

    json_begin(&w, NULL, '{');
    json_put_text(&w, "name", slice_text(name));
    json_put_split(&w, "topics", o->topics);
    where_put(&w, "from", &o->where);
    put_options(&w, o);
    if (o->paused) {
        json_put_bool(&w, "paused", true);
    }
    json_end(&w, '}');
    so->filter = o->filter;
    code = resource_post(&groups, so, json_done(&w), NULL);
    json_writer_fini(&w);
    if (code == EXIT_OK) {
        fprintf(stderr, "group %s created%s\n", name,
                o->paused ? ", paused" : "");
    }
    return code;
}

static int create(int argc, char **argv)
{
    static const struct help help = {
        .usage =
            "godwit group create GROUP --topics PATTERN[,PATTERN...] [options]",
        .text = "Creates a group. Every group gets every message of its "
                "topics, and the\n"
                "subscribers of a group share them. In a pattern, * stands for "
                "any\n"
                "characters: trade.* takes trade.paid and trade.sent, also "
                "topics that\n"
                "are created later.\n\n" WHERE_HELP
                "A seq is of one topic: the group takes that one alone.\n\n"
                "A filter compares key, tag and headers with texts and "
                "numbers:\n"
                "  == != < <= > >=   in (\"a\", 5)   like \"eu*\"   "
                "has(header)   && || !   ( )\n",
        .examples =
            "  godwit group create billing --topics orders\n"
            "  godwit group create audit --topics 'trade.*,orders' "
            "--from latest\n"
            "  godwit group create cn --topics orders \\\n"
            "      --filter 'region == \"cn\" && amount > 100'\n"
            "  godwit group create mail --topics mails --mode ordered --lease "
            "60 \\\n"
            "      --max-attempts 5 --backoff 10,60,5m\n"
            "  godwit group create again --topics orders --from 2h\n",
    };
    struct session_options so;
    struct group_args o;
    struct parsed parsed;

    if (!command_parse(&parsed, &help, group_args(&o, true), session_args(&so),
                       1, 1, argc, argv)) {
        return parsed.code;
    }
    if (!check_name("group", parsed.operands.at[0])) {
        return EXIT_USAGE;
    }
    if (o.topics == NULL) {
        return fail(EXIT_USAGE, "--topics is missing: which topics shall the "
                                "group take?");
    }
    if (!check_patterns("topics", o.topics)
        || !where_read("--from", o.from, &o.where) || !check_args(&o)) {
        return EXIT_USAGE;
    }
    return post_group(parsed.operands.at[0], &o, &so);
}

static bool any_given(const struct group_args *o)
{
    return o->mode != NULL || o->filter != NULL || o->backoff != NULL
           || o->priority != NULL || o->lease_ms != NOT_GIVEN
           || o->notice_ms != NOT_GIVEN || o->attempts_max != NOT_GIVEN
           || o->in_flight_max != NOT_GIVEN;
}

static int patch_group(const char *name, const struct group_args *o,
                       struct session_options *so)
{
    struct json_writer w = { 0 };
    int code;

    json_begin(&w, NULL, '{');
    put_options(&w, o);
    json_end(&w, '}');
    so->filter = o->filter;
    code = resource_patch(&groups, so, name, json_done(&w));
    json_writer_fini(&w);
    if (code == EXIT_OK) {
        fprintf(stderr, "group %s changed\n", name);
    }
    return code;
}

static int update(int argc, char **argv)
{
    static const struct help help = {
        .usage = "godwit group update GROUP [options]",
        .text = "Changes the options that are given; the others stay as they "
                "are. What is in\n"
                "flight keeps its lease. Which topics a group takes does not "
                "change.\n",
        .examples =
            "  godwit group update billing --lease 120 --max-attempts 0\n"
            "  godwit group update cn --filter 'region in (\"cn\", "
            "\"hk\")'\n"
            "  godwit group update cn --filter ''\n",
    };
    struct session_options so;
    struct group_args o;
    struct parsed parsed;

    if (!command_parse(&parsed, &help, group_args(&o, false), session_args(&so),
                       1, 1, argc, argv)) {
        return parsed.code;
    }
    if (!check_name("group", parsed.operands.at[0]) || !check_args(&o)) {
        return EXIT_USAGE;
    }
    if (!any_given(&o)) {
        return fail(EXIT_USAGE,
                    "nothing to change: give some of the options that "
                    "`godwit group update --help` shows");
    }
    return patch_group(parsed.operands.at[0], &o, &so);
}

static int pause_or_resume(const struct help *help, const char *action,
                           const char *done, int argc, char **argv)
{
    struct session_options so;
    struct parsed parsed;
    char path[PAUSE_PATH_LEN];
    struct resource action_of = groups;
    int code;

    if (!command_parse(&parsed, help, NULL, session_args(&so), 1, 1, argc,
                       argv)) {
        return parsed.code;
    }
    if (!check_name("group", parsed.operands.at[0])) {
        return EXIT_USAGE;
    }
    snprintf(path, sizeof path, "%s/%s/%s", groups.path, parsed.operands.at[0],
             action);
    action_of.path = path;
    code = resource_post(&action_of, &so, "", NULL);
    if (code == EXIT_OK) {
        fprintf(stderr, "group %s %s\n", parsed.operands.at[0], done);
    }
    return code;
}

static int pause_group(int argc, char **argv)
{
    static const struct help help = {
        .usage = "godwit group pause GROUP [options]",
        .text =
            "Gives nothing out until `godwit group resume`. What is in flight "
            "may still be\nacked, and messages go on to be kept for the "
            "group.\n",
    };

    return pause_or_resume(&help, "pause", "paused", argc, argv);
}

static int resume_group(int argc, char **argv)
{
    static const struct help help = {
        .usage = "godwit group resume GROUP [options]",
        .text = "Ends what `godwit group pause` began.\n",
    };

    return pause_or_resume(&help, "resume", "resumed", argc, argv);
}

/* ---- the others ---- */

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
        { "update", "change its options", update },
        { "pause", "give nothing out for a while", pause_group },
        { "resume", "end a pause", resume_group },
        { "seek", "begin anew at a seq or a time", cmd_seek },
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
