/* godwit pub: every record of the input becomes a message, and every message is
 * confirmed or counted as failed. */
#include "tools/godwit/commands.h"

#include "proto/limits.h"
#include "tools/bench/histogram.h"
#include "tools/godwit/gather.h"
#include "tools/godwit/human.h"
#include "tools/godwit/input.h"
#include "tools/godwit/interrupt.h"
#include "tools/godwit/progress.h"
#include "tools/godwit/receipt.h"
#include "tools/godwit/session.h"
#include "tools/godwit/when.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <unistd.h>

enum {
    WINDOW_MAX = 65536,
    REASON_COUNT_MAX = 4, /* different refusals told one by one */
    BAD_RECORDS_TOLD = 5, /* input errors told one by one */
    FLUSH_STEP_MS = 200,
    FLUSH_AFTER_STOP_MS = 3000
};

static const struct help help = {
    .usage = "godwit pub TOPIC [options]",
    .text =
        "Publishes messages from stdin or a file and waits until the broker "
        "has\n"
        "every one of them on its disk. The formats:\n"
        "  lines  each line is a body (the default)\n"
        "  csv    a header row, then each row is a body, just as it stands\n"
        "  json   each line is one JSON document and a body, just as it "
        "stands\n"
        "Line ends (LF, CR LF) are not part of a body. When the connection "
        "breaks,\n"
        "also by a restart of the broker, it comes back and sends what was "
        "not\n"
        "confirmed again; the broker drops what it has already.\n"
        "\n"
        "With --key-field, --tag-field and --id-field each message has its "
        "key, tag\n"
        "or id from that column or member, and with --header-field a header "
        "of that\n"
        "name, which groups and searches filter on; what is empty or null is "
        "none.\n"
        "\n"
        "Of the messages of a topic with one id the broker stores one, as long "
        "as it\n"
        "remembers the id: give one to what may be published twice, by a "
        "program that\n"
        "is run again for example. All who publish to the topic share its ids: "
        "numbers\n"
        "that each of them counts for itself would lose messages.\n"
        "\n"
        "With --atomic all of the input is stored or none of it: up to 10,000 "
        "messages\n"
        "and 2 MiB.\n"
        "\n"
        "With --receipts each confirm becomes a line on stdout:\n"
        "  TOPIC:SEQ:COUNT:SEGMENT:OFFSET:CHECKSUM\n"
        "which `godwit verify DIR --receipt LINE` looks for in a data folder "
        "or a\n"
        "backup.\n"
        "\n"
        "Exits with 0 only if all of it was confirmed; the last line says how "
        "many\n"
        "were and how many were not.\n",
    .examples = "  echo hello | godwit pub greetings\n"
                "  godwit pub orders --file orders.csv --format csv "
                "--key-field order_id \\\n"
                "      --header-field status --header-field region\n"
                "  godwit pub orders --file orders.json --format json "
                "--id-field nr --atomic\n"
                "  echo 'call back' | godwit pub todo --delay 2h --ttl 1d\n"
                "  tail -f app.log | godwit pub logs --header host=$HOSTNAME\n",
};

struct reason {
    char text[200];
    uint64_t count;
};

struct options {
    const char *topic;
    const char *file;
    const char *format_name;
    enum input_format format;
    struct input_fields fields;
    struct godwit_message message; /* what all of them have */
    const char *deliver_at;
    bool atomic;
    struct arg_list header_words;
    struct arg_list header_fields;
    /* those of all messages; behind them room for those of one */
    struct godwit_header headers[HEADER_COUNT_MAX];
    size_t header_count;
    uint64_t window;
    uint64_t give_up_ms;
    bool receipts;
    bool json;
    bool quiet;
};

/* One per process: the confirm callback's argument is the time of sending,
 * which leaves no room for a pointer to this. */
static struct {
    /* main thread */
    uint64_t sent;
    uint64_t bytes;
    uint64_t bad_records;
    uint64_t begin_ns;
    struct progress progress;
    struct gather gather; /* of --atomic */
    bool cut_short;       /* the input could not be read to its end */
    bool stopped;         /* Ctrl-C */
    /* the client's thread, until the client is closed */
    struct reason reasons[REASON_COUNT_MAX];
    enum godwit_status failure; /* of all that failed, unless `mixed` */
    bool mixed;
    struct histogram confirm_ns;
    struct receipt receipt; /* the last one printed, and the topic */
    bool receipts;
    /* both */
    _Atomic uint64_t confirmed;
    _Atomic uint64_t duplicates;
    _Atomic uint64_t failed;
} run;

static void note_reason(const struct godwit_confirm *confirm)
{
    const char *text = confirm->text != NULL && confirm->text[0] != '\0'
                           ? confirm->text
                           : godwit_status_text(confirm->status);

    for (size_t i = 0; i < REASON_COUNT_MAX; i++) {
        struct reason *reason = &run.reasons[i];

        if (reason->count == 0) {
            snprintf(reason->text, sizeof reason->text, "%s", text);
        }
        if (strncmp(reason->text, text, sizeof reason->text - 1) == 0) {
            reason->count++;
            return;
        }
    }
}

/* Once for all messages it is for. */
static void print_receipt(const struct godwit_receipt *receipt)
{
    char text[RECEIPT_TEXT_LEN];

    if (receipt == NULL || receipt->seq == run.receipt.seq) {
        return;
    }
    run.receipt.seq = receipt->seq;
    run.receipt.count = receipt->count;
    run.receipt.segment = receipt->segment;
    run.receipt.offset = receipt->offset;
    run.receipt.checksum = receipt->checksum;
    puts(receipt_print(text, &run.receipt));
}

static void on_confirm(void *arg, const struct godwit_confirm *confirm)
{
    if (confirm->status != GODWIT_OK) {
        run.mixed =
            run.failed > 0 && (run.mixed || run.failure != confirm->status);
        run.failure = confirm->status;
        note_reason(confirm);
        atomic_fetch_add(&run.failed, 1);
        return;
    }
    histogram_add(&run.confirm_ns, now_ns() - time_of_arg(arg));
    if (confirm->duplicate) {
        atomic_fetch_add(&run.duplicates, 1);
    }
    if (run.receipts) {
        print_receipt(confirm->receipt);
    }
    atomic_fetch_add(&run.confirmed, 1);
}

static void bad_record(const char *text)
{
    run.bad_records++;
    if (run.bad_records <= BAD_RECORDS_TOLD) {
        fail(EXIT_FAILED, "%s: not published", text);
    } else if (run.bad_records == BAD_RECORDS_TOLD + 1) {
        fail(EXIT_FAILED, "(further ones are only counted)");
    }
}

/* Behind those of all messages. How many it has in all. */
static size_t add_headers(struct options *o, const struct input_message *in)
{
    size_t count = o->header_count;

    for (size_t i = 0; i < o->header_fields.count; i++) {
        if (in->part[INPUT_HEADER + i] != NULL) {
            o->headers[count++] =
                (struct godwit_header) { o->header_fields.at[i],
                                         in->part[INPUT_HEADER + i] };
        }
    }
    return count;
}

static struct godwit_message message_of(struct options *o,
                                        const struct input_message *in)
{
    struct godwit_message message = o->message;

    message.header_count = add_headers(o, in);
    message.headers = o->headers;
    message.body = in->body.at;
    message.body_len = in->body.len;
    if (o->fields.name[INPUT_KEY] != NULL) {
        message.key = in->part[INPUT_KEY];
    }
    if (o->fields.name[INPUT_TAG] != NULL) {
        message.tag = in->part[INPUT_TAG];
    }
    if (o->fields.name[INPUT_ID] != NULL) {
        message.id = in->part[INPUT_ID];
    }
    return message;
}

static void count_sent(size_t messages, size_t bytes)
{
    run.sent += messages;
    run.bytes += bytes;
}

/* An exit code. */
static int publish_one(struct session *s, struct options *o,
                       const struct input_message *in)
{
    const struct godwit_message message = message_of(o, in);
    enum godwit_status sent;
    enum status status;

    if (!o->atomic) {
        sent = godwit_publish(s->client, o->topic, &message, on_confirm,
                              time_as_arg(now_ns()));
        if (sent != GODWIT_OK) {
            return session_failed(s, "publishing stopped", sent);
        }
        count_sent(1, in->body.len);
        return EXIT_OK;
    }
    status = gather_add(&run.gather, &message);
    if (status == STATUS_TOO_LARGE) {
        return fail(EXIT_FAILED,
                    "line %" PRIu64 ": all or nothing is for up to %d messages "
                    "and %d MiB; nothing was published",
                    in->line, PUBLISH_COUNT_MAX, ATOMIC_LEN_MAX / 1024 / 1024);
    }
    return status == STATUS_OK ? EXIT_OK
                               : fail(EXIT_FAILED, "%s", status_text(status));
}

/* The whole input is there: all of it at once. */
static int publish_gathered(struct session *s, const struct options *o)
{
    enum godwit_status sent;

    if (run.bad_records > 0) {
        run.cut_short = true;
        return fail(EXIT_FAILED, "%s: nothing was published", o->topic);
    }
    if (run.gather.count == 0) {
        return EXIT_OK;
    }
    sent = godwit_publish_atomic(s->client, o->topic, run.gather.messages,
                                 run.gather.count, on_confirm,
                                 time_as_arg(now_ns()));
    if (sent != GODWIT_OK) {
        run.cut_short = true;
        return session_failed(s, "nothing was published", sent);
    }
    count_sent(run.gather.count, run.gather.bytes);
    return EXIT_OK;
}

/* Read and publish until the input ends. Returns an exit code. */
static int publish_all(struct session *s, struct options *o,
                       struct input *input)
{
    while (!interrupted() && !atomic_load(&s->ended)) {
        struct input_message in;
        struct error err = { 0 };
        enum status status = input_next(input, &in, &err);
        int code;

        if (status == STATUS_CLOSED && o->atomic) {
            return publish_gathered(s, o);
        }
        if (status == STATUS_CLOSED || status == STATUS_AGAIN) {
            return EXIT_OK;
        }
        if (status == STATUS_INVALID) {
            bad_record(err.text);
            continue;
        }
        if (status != STATUS_OK) {
            run.cut_short = true;
            return fail(EXIT_USAGE, "%s",
                        err.text[0] != '\0' ? err.text : status_text(status));
        }
        code = publish_one(s, o, &in);
        if (code != EXIT_OK) {
            run.cut_short = true;
            return code;
        }
        progress_show(&run.progress, atomic_load(&run.confirmed));
    }
    return EXIT_OK;
}

/* Wait until all is confirmed, refused or given up. */
static void await_confirms(struct session *s)
{
    uint64_t stop_ns = 0;

    while (godwit_flush(s->client, FLUSH_STEP_MS) == GODWIT_TIMEOUT
           && !atomic_load(&s->ended)) {
        progress_show(&run.progress, atomic_load(&run.confirmed));
        if (interrupted()) {
            stop_ns = stop_ns == 0 ? now_ns() : stop_ns;
            if (now_ns() - stop_ns > FLUSH_AFTER_STOP_MS * 1000000ULL) {
                break;
            }
        }
    }
}

static void print_json_summary(const struct options *o, double seconds,
                               const struct godwit_figures *figures)
{
    struct json_writer w = { 0 };
    const char *text;

    json_begin(&w, NULL, '{');
    json_put_text(&w, "topic", slice_text(o->topic));
    json_put_number(&w, "confirmed", run.confirmed);
    json_put_number(&w, "failed", run.failed + run.bad_records);
    json_put_number(&w, "duplicates", run.duplicates);
    json_put_number(&w, "resent", figures->resent);
    json_put_number(&w, "connects", figures->connects);
    json_put_number(&w, "bytes", run.bytes);
    json_put_real(&w, "seconds", seconds);
    json_put_real(&w, "messages_per_second", (double)run.confirmed / seconds);
    json_begin(&w, "confirm_us", '{');
    json_put_real(&w, "p50",
                  (double)histogram_percentile(&run.confirm_ns, 50) / 1e3);
    json_put_real(&w, "p99",
                  (double)histogram_percentile(&run.confirm_ns, 99) / 1e3);
    json_put_real(&w, "max", (double)run.confirm_ns.max / 1e3);
    json_end(&w, '}');
    json_end(&w, '}');
    text = json_done(&w);
    if (text != NULL) {
        puts(text);
    }
    json_writer_fini(&w);
}

static void print_summary(const struct options *o, double seconds,
                          const struct godwit_figures *figures)
{
    char a[HUMAN_LEN];
    char b[HUMAN_LEN];
    char c[HUMAN_LEN];

    fprintf(stderr, "%s: %s %s confirmed in %s", o->topic,
            human_count(a, run.confirmed),
            plural(run.confirmed, "message", "messages"),
            human_duration(b, (uint64_t)(seconds * 1e9)));
    if (run.confirmed > 0) {
        fprintf(stderr, ", %s/s, %s/s; confirm p50 %s",
                human_real(a, (double)run.confirmed / seconds),
                human_bytes(b, (double)run.bytes / seconds),
                human_duration(c, histogram_percentile(&run.confirm_ns, 50)));
        fprintf(stderr, ", p99 %s",
                human_duration(a, histogram_percentile(&run.confirm_ns, 99)));
    }
    fputc('\n', stderr);
    if (figures->connects > 1) {
        fprintf(stderr,
                "%s: the connection came back %s %s; %s sent again, %s of them "
                "had arrived before\n",
                o->topic, human_count(a, figures->connects - 1),
                plural(figures->connects - 1, "time", "times"),
                human_count(b, figures->resent),
                human_count(c, run.duplicates));
    } else if (run.duplicates > 0) {
        fprintf(stderr, "%s: %s of them had been stored before\n", o->topic,
                human_count(a, run.duplicates));
    }
}

static void print_failures(const struct options *o)
{
    char a[HUMAN_LEN];
    uint64_t told = 0;

    for (size_t i = 0; i < REASON_COUNT_MAX && run.reasons[i].count > 0; i++) {
        fail(EXIT_FAILED, "%s not confirmed: %s",
             human_count(a, run.reasons[i].count), run.reasons[i].text);
        told += run.reasons[i].count;
    }
    if (run.failed > told) {
        fail(EXIT_FAILED, "%s not confirmed for other reasons",
             human_count(a, run.failed - told));
    }
    if (run.bad_records > 0) {
        fail(EXIT_FAILED, "%s %s of the input %s no message",
             human_count(a, run.bad_records),
             plural(run.bad_records, "record", "records"),
             plural(run.bad_records, "is", "are"));
    }
    if (run.stopped) {
        fail(EXIT_FAILED, "%s: interrupted; the rest of the input was not read",
             o->topic);
    }
}

static int final_code(enum status end_status, int code)
{
    if (code != EXIT_OK) {
        return code;
    }
    if (run.stopped) {
        return EXIT_INTERRUPTED;
    }
    if (end_status != STATUS_OK) {
        return exit_code_of(end_status);
    }
    if (run.failed > 0 && run.bad_records == 0 && !run.mixed) {
        return exit_code_of((enum status)run.failure);
    }
    return run.failed + run.bad_records > 0 ? EXIT_FAILED : EXIT_OK;
}

/* Await what is still unconfirmed and tell the outcome. Takes over `s`. */
static int finish(struct session *s, const struct options *o, int code)
{
    struct godwit_figures figures = { 0 };
    enum status end_status;
    double seconds;

    run.stopped = interrupted();
    await_confirms(s);
    seconds = (double)(now_ns() - run.begin_ns) / 1e9;
    godwit_figures(s->client, &figures);
    end_status = atomic_load(&s->end_status);
    session_close(s); /* what waits is completed as closed, and counted */
    progress_end(&run.progress);
    if (o->json) {
        print_json_summary(o, seconds, &figures);
    }
    if (!o->quiet) {
        print_summary(o, seconds, &figures);
    }
    print_failures(o);
    if (ferror(stdout)) {
        return fail(EXIT_FAILED, "%s: stdout could not be written", o->topic);
    }
    return final_code(end_status, code);
}

static int no_fields(const char *name)
{
    return fail(EXIT_USAGE,
                "--%s-field needs --format csv or json: lines have no fields",
                name);
}

/* "name=value" words into headers; cuts the words in two. */
static int split_headers(struct options *o)
{
    size_t count = o->header_words.count + o->header_fields.count;

    if (count > HEADER_COUNT_MAX) {
        return fail(EXIT_USAGE, "%zu headers given; allowed are %d", count,
                    HEADER_COUNT_MAX);
    }
    for (size_t i = 0; i < o->header_words.count; i++) {
        char *word = (char *)o->header_words.at[i]; /* argv's own */
        char *equals = strchr(word, '=');

        if (equals == NULL || equals == word) {
            return fail(EXIT_USAGE, "--header %s: expected NAME=VALUE", word);
        }
        *equals = '\0';
        o->headers[i] = (struct godwit_header) { word, equals + 1 };
    }
    o->header_count = o->header_words.count;
    return EXIT_OK;
}

/* Columns or members that are headers, of the same names. */
static int take_header_fields(struct options *o)
{
    for (size_t i = 0; i < o->header_fields.count; i++) {
        const char *name = o->header_fields.at[i];

        for (size_t k = 0; k < o->header_count; k++) {
            if (strcmp(o->headers[k].name, name) == 0) {
                return fail(EXIT_USAGE,
                            "--header and --header-field %s: one of the two",
                            name);
            }
        }
        if (name[0] == '\0' || strlen(name) > HEADER_NAME_LEN_MAX) {
            return fail(EXIT_USAGE,
                        "--header-field %s: the name of a header has 1 to %d "
                        "bytes",
                        name, HEADER_NAME_LEN_MAX);
        }
        o->fields.name[INPUT_HEADER + i] = name;
    }
    return o->header_fields.count > 0 && o->format == INPUT_LINES
               ? no_fields("header")
               : EXIT_OK;
}

/* Line by line: what is on disk by then is worth most if we are killed. */
static void init_receipts(const struct options *o)
{
    run.receipts = o->receipts;
    snprintf(run.receipt.topic, sizeof run.receipt.topic, "%s", o->topic);
    if (o->receipts) {
        (void)setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
    }
}

/* One of a word for all messages and a field for each. */
static int check_part(const struct options *o, enum input_part part,
                      const char *name, const char *word)
{
    const char *field = o->fields.name[part];

    if (field != NULL && o->format == INPUT_LINES) {
        return no_fields(name);
    }
    if (field != NULL && word != NULL) {
        return fail(EXIT_USAGE, "--%s and --%s-field: one of the two", name,
                    name);
    }
    return EXIT_OK;
}

static int check_parts(const struct options *o)
{
    int code = check_part(o, INPUT_KEY, "key", o->message.key);

    if (code == EXIT_OK) {
        code = check_part(o, INPUT_TAG, "tag", o->message.tag);
    }
    if (code == EXIT_OK) {
        code = check_part(o, INPUT_ID, "id", o->message.id);
    }
    return code;
}

/* A date: "2h" would be two hours ago. */
static int check_deliver_at(struct options *o)
{
    uint64_t time_us;

    if (o->deliver_at == NULL) {
        return EXIT_OK;
    }
    if (o->message.delay_ms != 0) {
        return fail(EXIT_USAGE, "--delay and --deliver-at: one of the two");
    }
    if (strchr(o->deliver_at, '-') == NULL
        || !when_parse(o->deliver_at, 0, &time_us)) {
        return fail(EXIT_USAGE,
                    "--deliver-at %s: expected a time such as "
                    "2027-01-31T18:00 (UTC)",
                    o->deliver_at);
    }
    o->message.deliver_at_ms = time_us / 1000;
    return EXIT_OK;
}

static int check_options(struct options *o)
{
    int code;

    if (!check_name("topic", o->topic)) {
        return EXIT_USAGE;
    }
    if (input_format_of(o->format_name, &o->format) != STATUS_OK) {
        return fail(EXIT_USAGE, "--format %s: expected lines, csv or json",
                    o->format_name);
    }
    code = check_parts(o);
    if (code == EXIT_OK) {
        code = check_deliver_at(o);
    }
    if (o->atomic && o->window < PUBLISH_COUNT_MAX) {
        o->window = PUBLISH_COUNT_MAX;
    }
    if (code == EXIT_OK) {
        code = split_headers(o);
    }
    return code == EXIT_OK ? take_header_fields(o) : code;
}

static int open_input(const struct options *o, struct input **input, int *fd)
{
    *fd = STDIN_FILENO;
    if (o->file != NULL && strcmp(o->file, "-") != 0) {
        *fd = open(o->file, O_RDONLY | O_CLOEXEC);
        if (*fd < 0) {
            return fail(EXIT_USAGE, "%s: %s", o->file, strerror(errno));
        }
    } else if (isatty(STDIN_FILENO) && !o->quiet) {
        fputs("godwit: reading messages from the terminal, Ctrl-D ends\n",
              stderr);
    }
    if (input_open(input, *fd, interrupt_fd(), o->format, &o->fields)
        != STATUS_OK) {
        return fail(EXIT_FAILED, "out of memory");
    }
    return EXIT_OK;
}

/* The whole of a command line that makes sense. */
static int publish_input(struct options *o, struct session_options *so)
{
    struct session session = { 0 };
    struct input *input = NULL;
    int fd = -1;
    int code = session_resolve(so);

    if (code == EXIT_OK) {
        code = open_input(o, &input, &fd);
    }
    if (code == EXIT_OK) {
        code = session_open_stream(&session, so, (uint32_t)o->window,
                                   (uint32_t)o->give_up_ms);
    }
    if (code == EXIT_OK) {
        run.begin_ns = now_ns();
        progress_begin(&run.progress, "confirmed", 0);
        code = finish(&session, o, publish_all(&session, o, input));
    }
    gather_fini(&run.gather);
    input_close(input);
    if (fd > STDIN_FILENO) {
        close(fd);
    }
    return code;
}

int cmd_pub(int argc, char **argv)
{
    struct session_options so;
    struct options o = { .format_name = "lines",
                         .window = 1000,
                         .give_up_ms = 60000 };
    const struct arg table[] = {
        { "file", ARG_TEXT, &o.file, "FILE", "read this file, not stdin", 0,
          0 },
        { "format", ARG_TEXT, &o.format_name, "lines|csv|json",
          "how the input is cut into messages; default lines", 0, 0 },
        { "key", ARG_TEXT, &o.message.key, "TEXT", "the key of every message",
          0, 0 },
        { "key-field", ARG_TEXT, &o.fields.name[INPUT_KEY], "NAME",
          "the CSV column or JSON member that is the message's key", 0, 0 },
        { "tag", ARG_TEXT, &o.message.tag, "TEXT", "the tag of every message",
          0, 0 },
        { "tag-field", ARG_TEXT, &o.fields.name[INPUT_TAG], "NAME",
          "the column or member that is the message's tag", 0, 0 },
        { "id", ARG_TEXT, &o.message.id, "TEXT",
          "the id of the message: of several only the first is stored", 0, 0 },
        { "id-field", ARG_TEXT, &o.fields.name[INPUT_ID], "NAME",
          "the column or member that is the message's id", 0, 0 },
        { "delay", ARG_AGE, &o.message.delay_ms, "TIME",
          "deliver so long after it is stored: 90s, 15m, 12h, 7d", 1,
          PUBLISH_DELAY_MS_MAX },
        { "deliver-at", ARG_TEXT, &o.deliver_at, "TIME",
          "deliver at this time, in UTC: 2027-01-31T18:00", 0, 0 },
        { "ttl", ARG_AGE, &o.message.ttl_ms, "TIME",
          "do not deliver so long after that: 90s, 15m, 12h, 7d", 1,
          TTL_MS_MAX },
        { "atomic", ARG_FLAG, &o.atomic, NULL, "all of the input or nothing", 0,
          0 },
        { "header", ARG_LIST, &o.header_words, "NAME=VALUE",
          "a header of every message; may be repeated", 0, 0 },
        { "header-field", ARG_LIST, &o.header_fields, "NAME",
          "a column or member that is a header of that name; may be repeated",
          0, 0 },
        { "window", ARG_COUNT, &o.window, "N",
          "unconfirmed messages at most; default 1000", 1, WINDOW_MAX },
        { "give-up", ARG_SECONDS, &o.give_up_ms, "SECONDS",
          "end when a lost connection stays away so long; default 60", 100,
          24 * 3600 * 1000 },
        { "receipts", ARG_FLAG, &o.receipts, NULL,
          "a line on stdout for what each confirm promises", 0, 0 },
        { "json", ARG_FLAG, &o.json, NULL, "the summary as JSON on stdout", 0,
          0 },
        { "quiet", ARG_FLAG, &o.quiet, NULL, "only errors on stderr", 0, 0 },
        { NULL, ARG_FLAG, NULL, NULL, NULL, 0, 0 },
    };
    struct parsed parsed;
    int code;

    if (!command_parse(&parsed, &help, table, session_args(&so), 1, 1, argc,
                       argv)) {
        return parsed.code;
    }
    o.topic = parsed.operands.at[0];
    code = check_options(&o);
    if (code == EXIT_OK) {
        init_receipts(&o);
        code = publish_input(&o, &so);
    }
    return code;
}
