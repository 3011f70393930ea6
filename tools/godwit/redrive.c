#include "tools/godwit/redrive.h"

#include "tools/godwit/command.h"
#include "tools/godwit/failures.h"
#include "tools/godwit/human.h"
#include "tools/godwit/interrupt.h"
#include "tools/godwit/progress.h"
#include "tools/godwit/session.h"

#include <poll.h>
#include <string.h>

enum { PATH_LEN = 256, LOOK_EVERY_MS = 200 };

struct job {
    const char *group;
    const char *topic;
    const char *seqs;
    const char *cause;
    const char *filter;
    uint64_t rate;
    uint64_t cap;
    bool dry_run;
    bool detach;
    struct session session;
};

/* One request about the job; `action` is "", "/stop" or "/undo". */
static int call(struct job *job, const char *method, const char *action,
                const char *body, struct json **answer)
{
    char path[PATH_LEN];

    snprintf(path, sizeof path, "/v1/groups/%s/redrive%s", job->group, action);
    return session_call(&job->session, method, path, body, answer);
}

static int open_job(struct job *job, struct session_options *so)
{
    int code = check_name("group", job->group) ? EXIT_OK : EXIT_USAGE;

    if (code == EXIT_OK) {
        code = session_resolve(so);
    }
    return code == EXIT_OK ? session_open_http(&job->session, so) : code;
}

static bool runs(const struct json *answer)
{
    return strcmp(json_text(json_get(answer, "job"), ""), "running") == 0;
}

static void print_state(const struct json *answer)
{
    const char *word = json_text(json_get(answer, "job"), "-");
    uint64_t matched = json_u64(answer, "matched");
    uint64_t redriven = json_u64(answer, "redriven");
    uint64_t undone = json_u64(answer, "undone");
    char a[HUMAN_LEN];
    char b[HUMAN_LEN];

    if (json_flag(json_get(answer, "dry_run"))) {
        printf("%s dead %s; nothing was changed\n", human_count(a, matched),
               plural(matched, "message matches", "messages match"));
    } else {
        printf("%s of %s dead %s redriven", human_count(a, redriven),
               human_count(b, matched), plural(matched, "message", "messages"));
        if (undone > 0) {
            printf(", %s taken back", human_count(a, undone));
        }
        putchar('\n');
    }
    if (strcmp(word, "done") != 0) {
        printf("the job %s\n", runs(answer) ? "goes on" : "was stopped");
    }
    fflush(stdout);
}

/* ---- redrive ---- */

static int put_body(struct json_writer *w, const struct job *job)
{
    const struct {
        const char *name;
        const char *value;
    } texts[] = { { "topic", job->topic },
                  { "cause", job->cause },
                  { "filter", job->filter } };

    json_begin(w, NULL, '{');
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        if (texts[i].value != NULL) {
            json_put_text(w, texts[i].name, slice_text(texts[i].value));
        }
    }
    if (job->seqs != NULL && !failures_put_seqs(w, "seqs", job->seqs)) {
        return EXIT_USAGE;
    }
    if (job->rate > 0) {
        json_put_number(w, "rate", job->rate);
    }
    if (job->cap > 0) {
        json_put_number(w, "cap", job->cap);
    }
    if (job->dry_run) {
        json_put_bool(w, "dry_run", true);
    }
    json_end(w, '}');
    return EXIT_OK;
}

/* Until it is over. Ctrl-C stops it: nobody likes a job that goes on behind
 * one's back. */
static int watch(struct job *job, struct json **answer)
{
    struct pollfd fd = { .fd = interrupt_fd(), .events = POLLIN };
    struct progress progress;
    int code = EXIT_OK;
    bool stopped = false;

    progress_begin(&progress, "redriven", 0);
    while (code == EXIT_OK && runs(*answer) && !stopped) {
        (void)poll(&fd, 1, LOOK_EVERY_MS);
        stopped = interrupted();
        json_free(*answer);
        *answer = NULL;
        code = call(job, stopped ? "POST" : "GET", stopped ? "/stop" : "",
                    stopped ? "{}" : NULL, answer);
        progress_show(&progress, json_u64(*answer, "redriven"));
    }
    progress_end(&progress);
    return code == EXIT_OK && stopped ? EXIT_INTERRUPTED : code;
}

static int run(struct job *job, const char *body)
{
    struct json *answer = NULL;
    int code = call(job, "POST", "", body, &answer);

    if (code == EXIT_OK && !job->detach) {
        code = watch(job, &answer);
    }
    if (answer != NULL) {
        print_state(answer);
        if (json_u64(answer, "redriven") > 0) {
            fprintf(stderr,
                    "(godwit dead undo %s takes back what was not delivered "
                    "yet)\n",
                    job->group);
        }
    }
    json_free(answer);
    return code;
}

int redrive_start(int argc, char **argv)
{
    static const struct help help = {
        .usage = "godwit dead redrive GROUP [TOPIC] [options]",
        .text =
            "Delivers dead messages again, with their attempts counted anew: "
            "all of the\ngroup, or those of one topic, or those that match "
            "all of the options. Waits\nuntil it is done; Ctrl-C stops it. "
            "One redrive of a group at a time.\n",
        .examples =
            "  godwit dead redrive billing --dry-run\n"
            "  godwit dead redrive billing orders --seqs 17,20-25\n"
            "  godwit dead redrive billing --cause nack --rate 100 --cap 1000\n"
            "  godwit dead redrive billing --filter 'region == \"cn\"'\n"
            "  godwit dead undo billing\n",
    };
    struct session_options so;
    struct job job = { 0 };
    const struct arg table[] = {
        { "seqs", ARG_TEXT, &job.seqs, "SEQS",
          "these of the TOPIC, such as 17,20-25", 0, 0 },
        { "cause", ARG_TEXT, &job.cause, "CAUSE",
          "that died of it: nack, lease (not acked in time), gone (connection "
          "lost), reject",
          0, 0 },
        { "filter", ARG_TEXT, &job.filter, "EXPR",
          "that this is true for: 'region == \"cn\" && amount > 100'; "
          "`godwit group create --help` tells more",
          0, 0 },
        { "rate", ARG_COUNT, &job.rate, "N",
          "so many a second; default: as fast as it goes", 1, UINT64_MAX },
        { "cap", ARG_COUNT, &job.cap, "N", "so many at most", 1, UINT64_MAX },
        { "dry-run", ARG_FLAG, &job.dry_run, NULL,
          "only count those that match", 0, 0 },
        { "detach", ARG_FLAG, &job.detach, NULL,
          "do not wait: godwit dead status tells how far it is", 0, 0 },
        { NULL, ARG_FLAG, NULL, NULL, NULL, 0, 0 },
    };
    struct json_writer w = { 0 };
    struct parsed parsed;
    int code;

    if (!command_parse(&parsed, &help, table, session_args(&so), 1, 2, argc,
                       argv)) {
        return parsed.code;
    }
    job.group = parsed.operands.at[0];
    job.topic = parsed.operands.count > 1 ? parsed.operands.at[1] : NULL;
    if (job.topic != NULL && !check_name("topic", job.topic)) {
        return EXIT_USAGE;
    }
    if (job.seqs != NULL && job.topic == NULL) {
        return fail(EXIT_USAGE,
                    "--seqs are of one topic, which is named behind the group: "
                    "godwit dead redrive %s TOPIC --seqs %s",
                    job.group, job.seqs);
    }
    code = put_body(&w, &job);
    if (code == EXIT_OK) {
        code = open_job(&job, &so);
    }
    if (code == EXIT_OK) {
        code = run(&job, json_done(&w));
    }
    json_writer_fini(&w);
    session_close(&job.session);
    return code;
}

/* ---- the others: GROUP alone ---- */

/* One that is over may be the last of some days ago, or one that never was. */
static void print_last(const struct json *answer)
{
    bool done = strcmp(json_text(json_get(answer, "job"), "-"), "done") == 0;
    bool any = json_u64(answer, "matched") > 0;

    if (done) {
        puts(any ? "no redrive runs; the last one:" : "no redrive runs");
    }
    if (!done || any) {
        print_state(answer);
    }
}

static int simple(const struct help *help, const char *method,
                  const char *action, int argc, char **argv,
                  void (*print)(const struct json *answer))
{
    struct session_options so;
    struct job job = { 0 };
    struct json *answer = NULL;
    struct parsed parsed;
    bool post = strcmp(method, "POST") == 0;
    int code;

    if (!command_parse(&parsed, help, NULL, session_args(&so), 1, 1, argc,
                       argv)) {
        return parsed.code;
    }
    job.group = parsed.operands.at[0];
    code = open_job(&job, &so);
    if (code == EXIT_OK) {
        code = call(&job, method, action, post ? "{}" : NULL, &answer);
    }
    if (code == EXIT_OK) {
        print(answer);
    }
    json_free(answer);
    session_close(&job.session);
    return code;
}

int redrive_status(int argc, char **argv)
{
    static const struct help help = {
        .usage = "godwit dead status GROUP [options]",
        .text = "Tells how far the last redrive of a group is.\n",
    };

    return simple(&help, "GET", "", argc, argv, print_last);
}

int redrive_stop(int argc, char **argv)
{
    static const struct help help = {
        .usage = "godwit dead stop GROUP [options]",
        .text = "Ends a redrive that runs. What it did stays done; "
                "`godwit dead undo`\n"
                "takes it back.\n",
    };

    return simple(&help, "POST", "/stop", argc, argv, print_last);
}

static void print_undone(const struct json *answer)
{
    uint64_t undone = json_u64(answer, "undone");
    char text[HUMAN_LEN];

    printf("%s %s dead again\n", human_count(text, undone),
           plural(undone, "message is", "messages are"));
}

int redrive_undo(int argc, char **argv)
{
    static const struct help help = {
        .usage = "godwit dead undo GROUP [options]",
        .text = "Takes back what the last redrive of a group did: what nobody "
                "was given since is\ndead again.\n",
    };

    return simple(&help, "POST", "/undo", argc, argv, print_undone);
}
