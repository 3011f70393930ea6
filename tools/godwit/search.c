/* godwit search: the messages of a topic that match. One request looks at a
 * bounded number of them; the next goes on behind. */
#include "tools/godwit/commands.h"

#include "proto/limits.h"
#include "tools/godwit/human.h"
#include "tools/godwit/interrupt.h"
#include "tools/godwit/look.h"
#include "tools/godwit/progress.h"
#include "tools/godwit/where.h"

static const struct help help = {
    .usage = "godwit search TOPIC [options]",
    .text =
        "Prints the messages of a topic that match, oldest first, one line "
        "each: seq,\ntime, key, tag, headers and body (with --json: one object "
        "a line). No group\nknows of it: nothing is taken or acked. Without "
        "options: all there are now.\n\n" WHERE_HELP,
    .examples =
        "  godwit search orders --from 15m\n"
        "  godwit search orders --key o-1 -n 1\n"
        "  godwit search orders --from 1200 --to 1300 --header region=cn\n"
        "  godwit search orders --filter 'amount > 100 && region in (\"cn\", "
        "\"de\")'\n"
        "  godwit search orders --from 2026-11-20T14:00 --to 1h --json | jq "
        ".body\n",
};

struct options {
    const char *topic;
    struct look_options look;
    uint64_t count;    /* 0: all */
    struct where from; /* a seq or a time, or not said */
    struct where to;   /* not said: where the topic ends when it begins */
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
    if (o->from.kind == WHERE_TIME) {
        query_number(q, "since", o->from.at);
    }
    if (o->to.kind == WHERE_TIME) {
        query_number(q, "until", o->to.at);
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

/* Nothing can be found: better said than searched for. */
static bool check_order(const struct options *o)
{
    if (o->from.kind == WHERE_LATEST) {
        fail(EXIT_USAGE, "--from latest: nothing is stored behind the latest; "
                         "godwit tail shows what comes");
        return false;
    }
    if (o->to.kind == WHERE_EARLIEST
        || (o->from.kind == o->to.kind && o->from.at > o->to.at)) {
        fail(EXIT_USAGE, "--to is before --from: nothing is between them");
        return false;
    }
    return true;
}

static bool check(struct options *o, const char *from, const char *to)
{
    return check_name("topic", o->topic) && where_read("--from", from, &o->from)
           && where_read("--to", to, &o->to) && check_order(o);
}

int cmd_search(int argc, char **argv)
{
    struct session_options so;
    struct options o = { 0 };
    const char *from = NULL;
    const char *to = NULL;
    const struct arg table[] = {
        LOOK_ARGS(&o.look),
        { "from", ARG_TEXT, &from, "WHERE", "begin there; default earliest", 0,
          0 },
        { "to", ARG_TEXT, &to, "WHERE",
          "end there, this one included; default latest", 0, 0 },
        { "count", ARG_COUNT, &o.count, "N", "end after N messages found", 1,
          UINT64_MAX },
        { "json", ARG_FLAG, &o.json, NULL, "one JSON object a line", 0, 0 },
        { "full", ARG_FLAG, &o.full, NULL,
          "long bodies as a whole on a terminal too", 0, 0 },
        { "quiet", ARG_FLAG, &o.quiet, NULL, "only errors on stderr", 0, 0 },
        { NULL, ARG_FLAG, NULL, NULL, NULL, 0, 0 },
    };
    struct search s = { .o = &o };
    struct parsed parsed;
    int code;

    if (!command_parse(&parsed, &help, table, session_args(&so), 1, 1, argc,
                       argv)) {
        return parsed.code;
    }
    o.topic = parsed.operands.at[0];
    if (!check(&o, from, to)) {
        return EXIT_USAGE;
    }
    s.next = o.from.kind == WHERE_SEQ ? o.from.at : 0;
    s.to = o.to.kind == WHERE_SEQ ? o.to.at : 0;
    s.style = message_style_of_stdout(o.json, o.full);
    so.filter = o.look.headers.count == 0 ? o.look.filter : NULL;
    code = session_resolve(&so);
    return code != EXIT_OK ? code : run(&s, &so);
}
