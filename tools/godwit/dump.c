/* godwit dump: the records of a data folder as JSON lines. */
#include "tools/godwit/dump.h"

#include "tools/godwit/commands.h"
#include "tools/godwit/interrupt.h"
#include "tools/godwit/offline.h"

#include <errno.h>
#include <inttypes.h>
#include <unistd.h>

static const struct help help = {
    .usage = "godwit dump DIR [options]",
    .text =
        "Prints what the log of the data folder or backup DIR holds, one "
        "record a\n"
        "line, in the order in which it was written: messages, what groups did "
        "with\n"
        "them (acks, gaps, failures and so on), catalog facts (apps, topics, "
        "groups)\n"
        "and trims, each with the segment and offset where it stands. Bodies "
        "are text,\n"
        "or base64 where they are none. A message that a merge moved is there "
        "once for\n"
        "each place, with \"moved\".\n"
        "What is damaged is left out and named on stderr.\n"
        "\n"
        "Nothing is changed. A broker may serve from DIR meanwhile; it only "
        "removes\n"
        "no segments until this is done. Secrets of apps are not printed.\n"
        "\n"
        "Exit code 0: all of it; 1: something is damaged and left out; 2: it "
        "could\n"
        "not be read.\n",
    .examples =
        "  godwit dump /var/lib/godwit --no-bodies | jq -r .kind | "
        "sort | uniq -c\n"
        "  godwit dump /var/lib/godwit --topic orders --from 1000 "
        "--count 10\n"
        "  godwit dump /backup/godwit-monday --kind ack --kind failed\n",
};

enum { FLUSH_LEN = 256 * 1024, KIND_COUNT = RECORD_KIND_LAST + 1 };

struct dump {
    struct dump_options options;
    bool kinds[KIND_COUNT]; /* wanted */
    uint64_t from_seq;
    uint64_t count_max; /* 0: all */
    uint64_t count;
    struct inspect *inspect;
    struct bytes text;   /* lines not written yet */
    enum status written; /* the first failure to write */
    int write_errno;
    uint64_t damages;
};

/* ---- writing ---- */

static void flush(struct dump *d)
{
    while (bytes_len(&d->text) > 0 && d->written == STATUS_OK) {
        ssize_t n =
            write(STDOUT_FILENO, bytes_begin(&d->text), bytes_len(&d->text));
        if (n < 0 && errno != EINTR) {
            d->write_errno = errno;
            d->written = errno == EPIPE ? STATUS_CLOSED : STATUS_IO;
        }
        bytes_consume(&d->text, n > 0 ? (size_t)n : 0);
    }
}

/* ---- which records ---- */

/* The fact that names a topic comes before its messages. Ids are compared by
 * name, because a name may have had several. */
static bool topic_wanted(struct dump *d, const struct inspect_record *r)
{
    struct record_fact fact;
    uint32_t topic;

    if (d->options.topic == NULL) {
        return true;
    }
    if (r->record.kind == RECORD_CATALOG
        && fact_read(r->record.body, &fact) == STATUS_OK) {
        return fact.class == CATALOG_TOPIC
               && slice_is(fact.name, d->options.topic);
    }
    topic = record_topic(&r->record);
    return topic != 0
           && slice_is(inspect_name(d->inspect, CATALOG_TOPIC, topic),
                       d->options.topic);
}

static bool wanted(struct dump *d, const struct inspect_record *r)
{
    if ((unsigned)r->record.kind >= KIND_COUNT || !d->kinds[r->record.kind]) {
        return false;
    }
    if (d->from_seq > 0
        && (r->record.kind != RECORD_MESSAGE || r->record.seq < d->from_seq)) {
        return false;
    }
    return topic_wanted(d, r);
}

/* ---- the walk ---- */

static bool on_record(void *arg, const struct inspect_record *record)
{
    struct dump *d = arg;

    if (interrupted()) {
        return false;
    }
    if (!wanted(d, record)) {
        return true;
    }
    if (dump_record(&d->text, d->inspect, &d->options, record) != STATUS_OK) {
        d->written = STATUS_NOMEM;
        return false;
    }
    d->count++;
    if (bytes_len(&d->text) >= FLUSH_LEN) {
        flush(d);
    }
    return d->written == STATUS_OK && d->count != d->count_max;
}

static void on_damage(void *arg, const struct store_damage *damage)
{
    struct dump *d = arg;

    d->damages++;
    fprintf(stderr, "godwit: damaged and left out: ");
    if (damage->segment != 0) {
        fprintf(stderr, "log/%010u.seg offset %u, %u bytes: ", damage->segment,
                damage->offset, damage->len);
    }
    fprintf(stderr, "%s", store_damage_word(damage->kind));
    if (damage->seq != 0) {
        struct slice name =
            inspect_name(d->inspect, CATALOG_TOPIC, damage->topic);
        fprintf(stderr, " %.*s %" PRIu64, (int)name.len, (const char *)name.at,
                damage->seq);
    }
    fputc('\n', stderr);
}

/* Enough was printed, nobody reads it any more, or Ctrl-C: the walk was ended
 * by us. */
static int end(struct dump *d, enum status status, const struct error *err)
{
    flush(d);
    if (d->written == STATUS_IO) {
        errno = d->write_errno;
        perror("godwit: stdout");
        return OFFLINE_FAILED;
    }
    if (d->written == STATUS_NOMEM) {
        return fail(OFFLINE_FAILED, "out of memory");
    }
    if (status == STATUS_CLOSED && interrupted()) {
        return fail(EXIT_INTERRUPTED, "stopped");
    }
    if (status != STATUS_OK && status != STATUS_CLOSED) {
        return offline_fail(status, err);
    }
    if (d->count == 0 && d->options.topic != NULL
        && inspect_id(d->inspect, CATALOG_TOPIC, slice_text(d->options.topic))
               == 0) {
        return fail(OFFLINE_FAILED, "there is no topic %s", d->options.topic);
    }
    return d->damages > 0 ? OFFLINE_DAMAGE : OFFLINE_FINE;
}

static int dump_held(struct dump *d, const char *dir)
{
    const struct inspect_visitor visitor = { .record = on_record,
                                             .damage = on_damage,
                                             .arg = d };
    struct inspect_totals totals;
    struct error err = { 0 };
    enum status status = inspect_walk(d->inspect, &visitor, &totals, &err);

    return status == STATUS_NEWER ? offline_open_fail(dir, status, &err)
                                  : end(d, status, &err);
}

static int dump(struct dump *d, const char *dir)
{
    struct error err = { 0 };
    enum status status = inspect_open(&d->inspect, dir, NULL, &err);
    bool in_use;
    int hold;
    int code;

    if (status != STATUS_OK) {
        return offline_open_fail(dir, status, &err);
    }
    status = offline_hold(dir, &in_use, &hold, &err);
    if (status == STATUS_OK) {
        code = dump_held(d, dir);
        offline_let_go(hold);
    } else {
        code = offline_fail(status, &err);
    }
    inspect_close(d->inspect);
    bytes_fini(&d->text);
    return code;
}

/* ---- the command line ---- */

/* None named: all of them. */
static bool choose_kinds(struct dump *d, const struct arg_list *names)
{
    for (size_t i = 0; i < KIND_COUNT; i++) {
        d->kinds[i] = names->count == 0;
    }
    for (size_t i = 0; i < names->count; i++) {
        enum record_kind kind;
        if (!dump_kind_of(names->at[i], &kind)) {
            fail(EXIT_USAGE,
                 "\"%s\" is no kind of record: message, ack, gap, failed, "
                 "expired, filtered, redrive, bury, discard, seek, retry, "
                 "catalog or trim",
                 names->at[i]);
            return false;
        }
        d->kinds[kind] = true;
    }
    return true;
}

int cmd_dump(int argc, char **argv)
{
    struct dump d = { 0 };
    struct arg_list kinds = { 0 };
    const struct arg table[] = {
        { "topic", ARG_TEXT, &d.options.topic, "NAME",
          "only what is about this topic", 0, 0 },
        { "from", ARG_COUNT, &d.from_seq, "SEQ",
          "only messages, from this seq on", 1, UINT64_MAX },
        { "kind", ARG_LIST, &kinds, "KIND",
          "only message, ack, gap, failed, expired, filtered, redrive, bury, "
          "discard, seek, retry, catalog or trim; may be given several times",
          0, 0 },
        { "count", ARG_COUNT, &d.count_max, "N", "end after so many", 1,
          UINT64_MAX },
        { "no-bodies", ARG_FLAG, &d.options.no_bodies, NULL,
          "leave out keys, headers and bodies of messages", 0, 0 },
        { NULL, ARG_FLAG, NULL, NULL, NULL, 0, 0 },
    };
    struct parsed parsed;

    if (!command_parse(&parsed, &help, table, NULL, 1, 1, argc, argv)) {
        return parsed.code;
    }
    if (!choose_kinds(&d, &kinds)
        || !offline_check_folder(parsed.operands.at[0])) {
        return OFFLINE_FAILED;
    }
    return dump(&d, parsed.operands.at[0]);
}
