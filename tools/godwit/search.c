/* godwit search: the messages of a topic that match. One request looks at a
 * bounded number of them; the next goes on behind. */
#include "tools/godwit/commands.h"

#include "proto/limits.h"
#include "tools/godwit/human.h"
#include "tools/godwit/interrupt.h"
#include "tools/godwit/look.h"
#include "tools/godwit/progress.h"
#include "tools/godwit/when.h"

static const struct help help = {
    .usage = "godwit search TOPIC [options]",
    .text =
        "Prints the messages of a topic that match, oldest first, one line "
        "each: seq,\ntime, key, tag, headers and body (with --json: one object "
        "a line). No group\nknows of it: nothing is taken or acked. Without "
        "options: all there are now.\n\n"
        "A time is 2026-11-20, 2026-11-20T14:09:37 (UTC), or how long ago: "
        "15m, 2h, 7d.\n",
    .examples =
        "  godwit search orders --since 15m\n"
        "  godwit search orders --key o-1 -n 1\n"
        "  godwit search orders --from 1200 --to 1300 --header region=cn\n"
        "  godwit search orders --filter 'amount > 100 && region in (\"cn\", "
        "\"de\")'\n"
        "  godwit search orders --since 2026-11-20T14:00 --json | jq .body\n",
};

struct options {
    const char *topic;
    struct look_options look;
    uint64_t count; /* 0: all */
    uint64_t from;
    uint64_t to; /* 0: where the topic ends when the search begins */
    const char *since;
    const char *until;
    uint64_t since_us;
    uint64_t until_us;
    bool json;
    bool full;
    bool quiet;
};

struct search {
    const struct options *o;
    struct session session;
    struct message_style style;
    struct progress progress;
    uint64_t next; /* 0: from the beginning */
    uint64_t to;
    uint64_t found;
    uint64_t scanned;
    uint64_t missing; /* deleted, of those asked for */
    bool done;
};

static bool put_path(struct query *q, const struct search *s)
{
    const struct options *o = s->o;
    uint64_t left = o->count == 0 ? PULL_COUNT_MAX : o->count - s->found;

    query_path(q, "/v1/topics/%s/messages", o->topic);
    query_number(q, "max", left < PULL_COUNT_MAX ? left : PULL_COUNT_MAX);
    if (s->next > 0) {
        query_number(q, "from", s->next);
    }
    if (s->to > 0) {
        query_number(q, "to", s->to);
    }
    if (o->since_us > 0) {
        query_number(q, "since", o->since_us);
    }
    if (o->until_us > 0) {
        query_number(q, "until", o->until_us);
    }
    return look_query(q, &o->look);
}

static int take(struct search *s, const struct json *answer)
{
    const struct json *deleted = json_get(answer, "deleted");
    enum status status;

    s->next = json_u64(answer, "next_seq");
    s->scanned += json_u64(answer, "scanned");
    s->done = json_flag(json_get(answer, "done"));
    if (s->to == 0) {
        s->to =
            json_u64(answer, "last_seq"); /* what comes later is not for us */
    }
    s->done = s->done || s->next > s->to;
    if (deleted != NULL) {
        s->missing +=
            json_u64(deleted, "last") - json_u64(deleted, "first") + 1;
    }
    if (json_count(json_get(answer, "messages")) > 0
        || json_count(json_get(answer, "gaps")) > 0) {
        progress_clear(&s->progress);
    }
    status = look_print(answer, &s->style, &s->found);
    s->done = s->done || status == STATUS_CLOSED; /* nobody reads on */
    return status == STATUS_OK ? EXIT_OK : look_print_failed(status);
}

static int look_once(struct search *s)
{
    struct query path = { 0 };
    struct json *answer = NULL;
    int code = EXIT_USAGE;

    if (put_path(&path, s)) {
        code =
            session_call(&s->session, "GET", query_done(&path), NULL, &answer);
    }
    if (code == EXIT_OK) {
        code = take(s, answer);
    }
    json_free(answer);
    query_fini(&path);
    return code;
}

static int look_all(struct search *s)
{
    int code = EXIT_OK;

    progress_begin(&s->progress, "messages looked at", 0);
    while (code == EXIT_OK && !s->done
           && (s->o->count == 0 || s->found < s->o->count)) {
        if (interrupted()) {
            code = EXIT_INTERRUPTED;
            break;
        }
        code = look_once(s);
        progress_show(&s->progress, s->scanned);
    }
    progress_end(&s->progress);
    return code;
}

static void summarize(const struct search *s, uint64_t ns, int code)
{
    char a[HUMAN_LEN];
    char b[HUMAN_LEN];

    if (s->missing > 0) {
        fprintf(stderr, "%s of those asked for %s deleted\n",
                human_count(a, s->missing), plural(s->missing, "is", "are"));
    }
    fprintf(stderr, "%s found, %s looked at in %s%s\n",
            human_count(a, s->found), human_count(b, s->scanned),
            human_duration((char[HUMAN_LEN]) { 0 }, ns),
            code == EXIT_INTERRUPTED ? "; stopped before the end" : "");
}

static int run(struct search *s, struct session_options *so)
{
    uint64_t begin_ns = now_ns();
    int code = session_open_http(&s->session, so);

    if (code != EXIT_OK) {
        return code;
    }
    code = look_all(s);
    session_close(&s->session);
    if (!s->o->quiet && (code == EXIT_OK || code == EXIT_INTERRUPTED)) {
        summarize(s, now_ns() - begin_ns, code);
    }
    return code;
}

static bool read_time(const char *option, const char *text, uint64_t *us)
{
    if (text == NULL || (when_parse(text, wall_us(), us) && *us > 0)) {
        return true;
    }
    fail(EXIT_USAGE,
         "--%s %s: expected a time such as 2026-11-20T14:09 (UTC), or how long "
         "ago, such as 15m, 2h or 7d",
         option, text);
    return false;
}

static bool check(struct options *o)
{
    if (!check_name("topic", o->topic)
        || !read_time("since", o->since, &o->since_us)
        || !read_time("until", o->until, &o->until_us)) {
        return false;
    }
    if (o->to > 0 && o->from > o->to) {
        fail(EXIT_USAGE, "--to is before --from: nothing is between them");
        return false;
    }
    if (o->until_us > 0 && o->since_us > o->until_us) {
        fail(EXIT_USAGE, "--until is before --since: nothing is between them");
        return false;
    }
    return true;
}

int cmd_search(int argc, char **argv)
{
    struct session_options so;
    struct options o = { 0 };
    const struct arg table[] = {
        LOOK_ARGS(&o.look),
        { "since", ARG_TEXT, &o.since, WHEN_VALUE, "stored then or later", 0,
          0 },
        { "until", ARG_TEXT, &o.until, WHEN_VALUE, "stored then or earlier", 0,
          0 },
        { "from", ARG_COUNT, &o.from, "SEQ", "begin with this one", 1,
          UINT64_MAX },
        { "to", ARG_COUNT, &o.to, "SEQ", "the last one to look at", 1,
          UINT64_MAX - 1 },
        { "count", ARG_COUNT, &o.count, "N",
          "end after N messages found; -n for short", 1, UINT64_MAX },
        { "json", ARG_FLAG, &o.json, NULL, "one JSON object a line", 0, 0 },
        { "full", ARG_FLAG, &o.full, NULL,
          "long bodies as a whole on a terminal too", 0, 0 },
        { "quiet", ARG_FLAG, &o.quiet, NULL, "only errors on stderr", 0, 0 },
        { NULL, ARG_FLAG, NULL, NULL, NULL, 0, 0 },
    };
    struct search s = { .o = &o };
    struct parsed parsed;
    int code;

    look_short_options(argc, argv);
    if (!command_parse(&parsed, &help, table, session_args(&so), 1, 1, argc,
                       argv)) {
        return parsed.code;
    }
    o.topic = parsed.operands.at[0];
    if (!check(&o)) {
        return EXIT_USAGE;
    }
    s.next = o.from;
    s.to = o.to;
    s.style = message_style_of_stdout(o.json, o.full);
    so.filter = o.look.headers.count == 0 ? o.look.filter : NULL;
    code = session_resolve(&so);
    return code != EXIT_OK ? code : run(&s, &so);
}
