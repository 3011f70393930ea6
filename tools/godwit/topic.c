/* godwit topic: named, durable sequences of messages. */
#include "proto/limits.h"
#include "tools/godwit/commands.h"
#include "tools/godwit/resource.h"

static const struct resource_column columns[] = {
    { { "TOPIC", ALIGN_LEFT }, "name", AS_TEXT },
    { { "FIRST SEQ", ALIGN_RIGHT }, "first_seq", AS_COUNT },
    { { "LAST SEQ", ALIGN_RIGHT }, "last_seq", AS_COUNT },
    { { "KEEP", ALIGN_LEFT }, "keep", AS_RETENTION },
};

static const struct resource topics = { "topic",  "TOPIC", "/v1/topics",
                                        "topics", columns, COUNT_OF(columns) };

enum { KEEP_ARG_COUNT = 6, KEEP_DAYS_MAX = KEEP_HOURS_MAX / 24 };
#define NOT_GIVEN  UINT64_MAX
#define MS_PER_DAY (UINT64_C(24) * 3600 * 1000)

/* How the messages are kept, as the command line says it. */
struct keep_options {
    const char *keep; /* NULL: not given; so NOT_GIVEN of the others */
    uint64_t ms_min;
    uint64_t ms_max;
    uint64_t bytes_max;
    uint64_t count_max;
    struct arg table[KEEP_ARG_COUNT]; /* keep_args() fills it */
};

/* The table lives as long as the options. */
static const struct arg *keep_args(struct keep_options *o)
{
    const struct arg table[KEEP_ARG_COUNT] = {
        { "keep", ARG_TEXT, &o->keep, "settled|limit",
          "settled: until each group has settled a message (default); limit: "
          "up to the bounds below, settled or not",
          0, 0 },
        { "min-age", ARG_AGE, &o->ms_min, "AGE",
          "settled: keep at least so long (90s, 15m, 12h, 7d)", 0, 0 },
        { "max-age", ARG_AGE, &o->ms_max, "AGE", "limit: drop what is older", 0,
          0 },
        { "max-bytes", ARG_SIZE, &o->bytes_max, "SIZE",
          "limit: drop the oldest beyond (500MiB, 10GiB)", 0, 0 },
        { "max-count", ARG_COUNT, &o->count_max, "N",
          "limit: drop the oldest beyond (20000, 3M)", 0, 0 },
        { NULL, ARG_FLAG, NULL, NULL, NULL, 0, 0 },
    };

    *o = (struct keep_options) { .ms_min = NOT_GIVEN,
                                 .ms_max = NOT_GIVEN,
                                 .bytes_max = NOT_GIVEN,
                                 .count_max = NOT_GIVEN };
    memcpy(o->table, table, sizeof table);
    return o->table;
}

static bool complain(const char *option, const char *what)
{
    fail(EXIT_USAGE, "--%s %s", option, what);
    return false;
}

/* The broker would say the same of its own fields' names. */
static bool check_keep(const struct keep_options *o)
{
    bool limit = o->keep != NULL && strcmp(o->keep, "limit") == 0;
    const struct {
        const char *option;
        uint64_t value;
    } bounds[] = { { "max-age", o->ms_max },
                   { "max-bytes", o->bytes_max },
                   { "max-count", o->count_max } };
    bool any = false;

    if (o->keep != NULL && !limit && strcmp(o->keep, "settled") != 0) {
        fail(EXIT_USAGE, "--keep %s: expected settled or limit", o->keep);
        return false;
    }
    for (size_t i = 0; i < COUNT_OF(bounds); i++) {
        if (bounds[i].value == 0) {
            return complain(bounds[i].option,
                            "of 0 would keep nothing: leave it out for no "
                            "such limit");
        }
        if (bounds[i].value != NOT_GIVEN && !limit) {
            return complain(bounds[i].option,
                            "drops what is not settled too: it goes with "
                            "--keep limit");
        }
        any = any || bounds[i].value != NOT_GIVEN;
    }
    if (limit && o->ms_min != NOT_GIVEN) {
        return complain("min-age", "goes with --keep settled");
    }
    if (limit && !any) {
        return complain("keep", "limit needs a limit: --max-age, --max-bytes "
                                "or --max-count");
    }
    return true;
}

static bool check_age(const char *option, uint64_t ms)
{
    if (ms == NOT_GIVEN || ms <= KEEP_DAYS_MAX * MS_PER_DAY) {
        return true;
    }
    fail(EXIT_USAGE, "--%s: longer than %dd", option, KEEP_DAYS_MAX);
    return false;
}

static bool check_options(const char *name, const struct keep_options *o)
{
    return check_name("topic", name) && check_age("min-age", o->ms_min)
           && check_age("max-age", o->ms_max) && check_keep(o);
}

static bool any_given(const struct keep_options *o)
{
    return o->keep != NULL || o->ms_min != NOT_GIVEN || o->ms_max != NOT_GIVEN
           || o->bytes_max != NOT_GIVEN || o->count_max != NOT_GIVEN;
}

/* {"name":…, what was given} */
static void put_topic(struct json_writer *w, const char *name,
                      const struct keep_options *o)
{
    const struct {
        const char *name;
        uint64_t value;
    } bounds[] = { { "keep_ms_min", o->ms_min },
                   { "keep_ms_max", o->ms_max },
                   { "keep_bytes_max", o->bytes_max },
                   { "keep_count_max", o->count_max } };

    json_begin(w, NULL, '{');
    if (name != NULL) {
        json_put_text(w, "name", slice_text(name));
    }
    if (o->keep != NULL) {
        json_put_text(w, "keep", slice_text(o->keep));
    }
    for (size_t i = 0; i < COUNT_OF(bounds); i++) {
        if (bounds[i].value != NOT_GIVEN) {
            json_put_number(w, bounds[i].name, bounds[i].value);
        }
    }
    json_end(w, '}');
}

static int create(int argc, char **argv)
{
    static const struct help help = {
        .usage = "godwit topic create TOPIC [options]",
        .text = "Creates a topic. Names are 1 to 128 of A-Z a-z 0-9 . _ - and\n"
                "do not begin with . or -.\n",
        .examples = "  godwit topic create orders\n"
                    "  godwit topic create audit --keep limit --max-age 7d\n",
    };
    struct keep_options o;
    struct session_options so;
    struct json_writer w = { 0 };
    struct parsed parsed;
    int code;

    if (!command_parse(&parsed, &help, keep_args(&o), session_args(&so), 1, 1,
                       argc, argv)) {
        return parsed.code;
    }
    if (!check_options(parsed.operands.at[0], &o)) {
        return EXIT_USAGE;
    }
    put_topic(&w, parsed.operands.at[0], &o);
    code = resource_post(&topics, &so, json_done(&w), NULL);
    json_writer_fini(&w);
    if (code == EXIT_OK) {
        fprintf(stderr, "topic %s created\n", parsed.operands.at[0]);
    }
    return code;
}

static int update(int argc, char **argv)
{
    static const struct help help = {
        .usage = "godwit topic update TOPIC [options]",
        .text =
            "Changes how a topic's messages are kept, the whole of it: what "
            "is not\ngiven is as for a new topic.\n",
        .examples =
            "  godwit topic update audit --keep limit --max-bytes 10GiB "
            "--max-age 30d\n",
    };
    struct keep_options o;
    struct session_options so;
    struct json_writer w = { 0 };
    struct parsed parsed;
    int code;

    if (!command_parse(&parsed, &help, keep_args(&o), session_args(&so), 1, 1,
                       argc, argv)) {
        return parsed.code;
    }
    if (!check_options(parsed.operands.at[0], &o)) {
        return EXIT_USAGE;
    }
    if (!any_given(&o)) {
        return fail(EXIT_USAGE, "nothing to change: say how the topic shall "
                                "keep its messages, --keep settled or --keep "
                                "limit with its limits");
    }
    put_topic(&w, NULL, &o);
    code = resource_put(&topics, &so, parsed.operands.at[0], json_done(&w));
    json_writer_fini(&w);
    if (code == EXIT_OK) {
        fprintf(stderr, "topic %s changed\n", parsed.operands.at[0]);
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
        { "update", "change how its messages are kept", update },
        { "list", "all topics, their seqs and how they are kept", list },
        { "show", "one topic", show },
        { "delete", "delete a topic with its messages", delete },
        { NULL, NULL, NULL },
    };

    return command_dispatch(commands, "godwit topic",
                            "A topic is a named, durable sequence of messages; "
                            "their seq counts from "
                            "1\nwithout holes. A topic keeps a message until "
                            "each group has settled it, or up\nto a limit.\n",
                            NULL, argc, argv);
}
