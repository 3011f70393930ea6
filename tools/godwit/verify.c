/* godwit verify: is all of a data folder as it was written? */
#include "tools/godwit/verify.h"

#include "tools/godwit/commands.h"
#include "tools/godwit/human.h"
#include "tools/godwit/interrupt.h"
#include "tools/godwit/offline.h"
#include "tools/godwit/receipt.h"

#include <inttypes.h>
#include <stdlib.h>

static const struct help help = {
    .usage = "godwit verify DIR [options]",
    .text =
        "Reads the data folder or backup DIR from end to end, verifies every\n"
        "checksum, and says what it holds: of each topic how many messages "
        "were\n"
        "published, are there, were deleted by retention, and are missing; of "
        "each\n"
        "group what it has settled, topic by topic (which topics its patterns "
        "take\n"
        "besides, the broker knows; a group that has settled nothing has one "
        "row).\n"
        "What is damaged is named with its file, offset and length, a message "
        "with\n"
        "its topic and seq. In a backup each file is also held against what "
        "the\n"
        "backup says of it.\n"
        "\n"
        "Nothing of the store is changed. A broker may serve from DIR "
        "meanwhile: it\n"
        "removes no segments until this is done (a shared lock on "
        "DIR/store.hold),\n"
        "and what it writes after the beginning may or may not be counted.\n"
        "\n"
        "With --receipt it looks for the messages of a confirm instead (see "
        "`godwit\n"
        "pub --receipts`) and says where they are now, or that retention "
        "deleted\n"
        "them, or that they are not there.\n"
        "\n"
        "Exit code 0: all is well; 1: something is damaged or missing, or a "
        "receipt\n"
        "is not honoured; 2: it could not be verified.\n",
    .examples =
        "  godwit verify /var/lib/godwit\n"
        "  godwit verify /backup/godwit-monday --json | jq .damages\n"
        "  godwit pub orders --receipts < orders.txt > receipts.txt\n"
        "  godwit verify /var/lib/godwit --receipt $(tail -1 receipts.txt)\n",
};

/* ---- the walk ---- */

static bool on_record(void *arg, const struct inspect_record *record)
{
    (void)arg;
    (void)record;
    return !interrupted();
}

static void on_damage(void *arg, const struct store_damage *damage)
{
    struct verify *v = arg;

    if (v->damage_count == VERIFY_DAMAGES_KEPT) {
        return;
    }
    if (v->damage_count == v->damage_capacity) {
        size_t capacity = v->damage_capacity == 0 ? 64 : v->damage_capacity * 2;
        void *damages = realloc(v->damages, capacity * sizeof *v->damages);
        if (damages == NULL) {
            return; /* it is counted in the totals */
        }
        v->damages = damages;
        v->damage_capacity = capacity;
    }
    v->damages[v->damage_count++] = *damage;
}

static void on_progress(void *arg, uint64_t done, uint64_t total)
{
    struct verify *v = arg;

    v->progress.total = total;
    progress_show(&v->progress, done);
}

static enum status walk(struct verify *v, struct error *err)
{
    const struct inspect_visitor visitor = { .record = on_record,
                                             .damage = on_damage,
                                             .progress = on_progress,
                                             .arg = v };
    enum status status;

    progress_begin_bytes(&v->progress, "verified", 0);
    status = inspect_walk(v->inspect, &visitor, &v->totals, err);
    progress_end(&v->progress);
    return status == STATUS_CLOSED ? error_set(err, status, 0, "stopped")
                                   : status;
}

/* ---- the files of a backup ---- */

static bool on_file_progress(void *arg, uint64_t done, uint64_t total)
{
    on_progress(arg, done, total);
    return !interrupted();
}

static void on_file_damage(void *arg, const struct backup_damage *damage)
{
    struct verify *v = arg;

    progress_clear(&v->progress);
    fprintf(stderr, "damage: %s: %s\n", damage->file, damage->text);
}

/* A folder without the file `backup` is a data folder. */
static enum status check_backup(struct verify *v, struct error *err)
{
    const struct backup_job job = { .from = v->dir,
                                    .progress = on_file_progress,
                                    .damage = on_file_damage,
                                    .arg = v };
    enum status status;

    progress_begin_bytes(&v->progress, "compared", 0);
    status = backup_check(&job, &v->manifest, &v->file_damages, err);
    progress_end(&v->progress);
    v->is_backup = status == STATUS_OK;
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

bool verify_is_fine(const struct verify *v)
{
    const struct inspect_totals *t = &v->totals;

    return t->damages == 0 && t->missing == 0 && t->missing_segments == 0
           && t->lost_batches == 0 && t->foreign_files == 0
           && t->unbalanced == 0 && !t->snapshot_damaged
           && t->snapshot_damages == 0 && v->file_damages == 0;
}

/* The first number of the set that is not below `seq`. */
static uint64_t next_present(const struct seqset *set, uint64_t seq)
{
    const struct seq_range *ranges = seqset_ranges(set);
    size_t low = 0;
    size_t high = seqset_range_count(set);

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (ranges[middle].last < seq) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low == seqset_range_count(set)) {
        return UINT64_MAX;
    }
    return ranges[low].first > seq ? ranges[low].first : seq;
}

bool verify_next_missing(const struct inspect_topic *topic, uint64_t *seq,
                         struct seq_range *out)
{
    uint64_t first = *seq > topic->first_seq ? *seq : topic->first_seq;
    uint64_t next;

    first = seqset_next_absent(topic->have, first > 0 ? first : 1);
    if (first > topic->published) {
        return false;
    }
    next = next_present(topic->have, first);
    out->first = first;
    out->last = next <= topic->published ? next - 1 : topic->published;
    *seq = out->last + 1;
    return true;
}

/* ---- groups without a lane ---- */

struct idle_groups {
    struct seqset busy;
    enum status status;
    store_fact_fn fn;
    void *arg;
};

static void note_busy(void *arg, const struct inspect_lane *lane)
{
    struct idle_groups *g = arg;

    if (g->status == STATUS_OK) {
        g->status = seqset_add(&g->busy, lane->group, lane->group, NULL);
    }
}

static void give_idle(void *arg, const struct record_fact *fact)
{
    struct idle_groups *g = arg;

    if (fact->class == CATALOG_GROUP && !fact->deleted
        && !seqset_has(&g->busy, fact->id)) {
        g->fn(g->arg, fact);
    }
}

enum status verify_each_idle_group(const struct verify *v, store_fact_fn fn,
                                   void *arg)
{
    struct idle_groups g = { .fn = fn, .arg = arg };
    enum status status = inspect_each_lane(v->inspect, note_busy, &g);

    status = status == STATUS_OK ? g.status : status;
    if (status == STATUS_OK) {
        inspect_each_fact(v->inspect, give_idle, &g);
    }
    seqset_fini(&g.busy);
    return status;
}

char *verify_file(const struct store_damage *damage, char text[32])
{
    snprintf(text, 32, damage->segment != 0 ? "log/%010u.seg" : "snapshot",
             damage->segment);
    return text;
}

/* ---- the whole ---- */

static int report(struct verify *v, bool json)
{
    int code = verify_is_fine(v) ? OFFLINE_FINE : OFFLINE_DAMAGE;

    if (json) {
        return verify_show_json(v) == EXIT_OK ? code : OFFLINE_FAILED;
    }
    return verify_show(v) == EXIT_OK ? code : OFFLINE_FAILED;
}

/* With the folder open and held. */
static int verify_held(struct verify *v, const struct arg_list *receipts,
                       bool json)
{
    struct error err = { 0 };
    uint64_t begun_ns = now_ns();
    enum status status = STATUS_OK;

    if (receipts->count == 0) {
        status = check_backup(v, &err);
    }
    if (status == STATUS_OK) {
        status = walk(v, &err);
    }
    if (status == STATUS_NEWER) { /* a segment, say */
        return offline_open_fail(v->dir, status, &err);
    }
    if (status != STATUS_OK) {
        return offline_fail(status, &err);
    }
    v->took_ns = now_ns() - begun_ns;
    return receipts->count > 0 ? verify_receipts(v, receipts, json)
                               : report(v, json);
}

static int verify(struct verify *v, const struct arg_list *receipts, bool json)
{
    struct error err = { 0 };
    enum status status = inspect_open(&v->inspect, v->dir, NULL, &err);
    int hold;
    int code;

    if (status != STATUS_OK) {
        return offline_open_fail(v->dir, status, &err);
    }
    status = offline_hold(v->dir, &v->in_use, &hold, &err);
    if (status != STATUS_OK) {
        return offline_fail(status, &err);
    }
    code = verify_held(v, receipts, json);
    offline_let_go(hold);
    return code;
}

static bool check_receipts(const struct arg_list *receipts)
{
    for (size_t i = 0; i < receipts->count; i++) {
        struct receipt receipt;
        if (!receipt_parse(receipts->at[i], &receipt)) {
            fail(EXIT_USAGE,
                 "\"%s\" is no receipt: it has the form "
                 "TOPIC:SEQ:COUNT:SEGMENT:OFFSET:CHECKSUM",
                 receipts->at[i]);
            return false;
        }
    }
    return true;
}

int cmd_verify(int argc, char **argv)
{
    bool json = false;
    struct arg_list receipts = { 0 };
    const struct arg table[] = {
        { "receipt", ARG_LIST, &receipts, "RECEIPT",
          "look for these messages; may be given several times", 0, 0 },
        { "json", ARG_FLAG, &json, NULL, "the report as one JSON object", 0,
          0 },
        { NULL, ARG_FLAG, NULL, NULL, NULL, 0, 0 },
    };
    struct verify v = { 0 };
    struct parsed parsed;
    int code;

    if (!command_parse(&parsed, &help, table, NULL, 1, 1, argc, argv)) {
        return parsed.code;
    }
    v.dir = parsed.operands.at[0];
    if (!check_receipts(&receipts)) {
        return OFFLINE_FAILED;
    }
    if (!offline_check_folder(v.dir)) {
        return OFFLINE_FAILED;
    }
    code = verify(&v, &receipts, json);
    inspect_close(v.inspect);
    manifest_fini(&v.manifest);
    free(v.damages);
    return code;
}
