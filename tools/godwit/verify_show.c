#include "tools/godwit/verify.h"

#include "tools/godwit/command.h"
#include "tools/godwit/human.h"
#include "tools/godwit/table.h"

#include <inttypes.h>

enum {
    ROWS_SHOWN_MAX = 100,
    DAMAGES_SHOWN_MAX = 50,
    RANGES_SHOWN_MAX = 10,
    TABLE_NAME_LEN = 300,
    FILE_NAME_LEN = 32
};

struct rows {
    const struct verify *v;
    struct table *table;
    uint64_t shown;
    uint64_t left_out;
};

static bool room_for_row(struct rows *rows)
{
    if (rows->shown == ROWS_SHOWN_MAX) {
        rows->left_out++;
        return false;
    }
    rows->shown++;
    return true;
}

static void add_name(struct rows *rows, struct slice name, uint32_t id)
{
    char text[TABLE_NAME_LEN];

    if (name.len == 0) {
        snprintf(text, sizeof text, "#%u", id);
    } else {
        snprintf(text, sizeof text, "%.*s", (int)name.len,
                 (const char *)name.at);
    }
    table_add(rows->table, text);
}

static void add_count(struct rows *rows, uint64_t value)
{
    char text[HUMAN_LEN];

    table_add(rows->table, human_count(text, value));
}

static void end_table(struct rows *rows, const char *what)
{
    char text[HUMAN_LEN];

    if (rows->table == NULL) {
        return;
    }
    if (rows->shown > 0) {
        puts("");
        table_print(rows->table, stdout);
    }
    if (rows->left_out > 0) {
        printf("and %s more %s; --json has all of them\n",
               human_count(text, rows->left_out), what);
    }
    table_free(rows->table);
}

/* ---- topics ---- */

static void on_topic(void *arg, const struct inspect_topic *t)
{
    struct rows *rows = arg;
    char size[HUMAN_LEN];

    if (t->gone || !room_for_row(rows)) {
        return;
    }
    add_name(rows, t->name, t->topic);
    add_count(rows, t->published);
    add_count(rows, t->present);
    add_count(rows, t->deleted);
    add_count(rows, t->missing);
    table_add(rows->table, human_bytes(size, (double)t->bytes));
}

static void show_topics(const struct verify *v)
{
    static const struct column columns[] = {
        { "TOPIC", ALIGN_LEFT },    { "PUBLISHED", ALIGN_RIGHT },
        { "THERE", ALIGN_RIGHT },   { "DELETED", ALIGN_RIGHT },
        { "MISSING", ALIGN_RIGHT }, { "SIZE", ALIGN_RIGHT },
    };
    struct rows rows = { .v = v, .table = table_new(columns, 6) };

    if (rows.table != NULL) {
        inspect_each_topic(v->inspect, on_topic, &rows);
    }
    end_table(&rows, "topics");
}

/* ---- groups ---- */

static void on_lane(void *arg, const struct inspect_lane *l)
{
    struct rows *rows = arg;

    if (!room_for_row(rows)) {
        return;
    }
    add_name(rows, l->group_name, l->group);
    add_name(rows, l->topic_name, l->topic);
    add_count(rows, l->settled);
    add_count(rows, l->gaps);
    add_count(rows, l->unsettled);
    add_count(rows, l->retries);
    add_count(rows, l->dead);
    add_count(rows, l->deleted);
    add_count(rows, l->missing);
    table_add(rows->table, l->balanced ? "yes" : "NO");
}

/* Which topics it takes is the broker's to know. */
static void on_idle_group(void *arg, const struct record_fact *group)
{
    struct rows *rows = arg;

    if (!room_for_row(rows)) {
        return;
    }
    add_name(rows, group->name, group->id);
    table_add(rows->table, "-");
    add_count(rows, 0);
    add_count(rows, 0);
    table_add(rows->table, "-");
    add_count(rows, 0);
    add_count(rows, 0);
    table_add(rows->table, "-");
    table_add(rows->table, "-");
    table_add(rows->table, "yes");
}

static enum status show_lanes(const struct verify *v)
{
    static const struct column columns[] = {
        { "GROUP", ALIGN_LEFT },      { "TOPIC", ALIGN_LEFT },
        { "SETTLED", ALIGN_RIGHT },   { "GAPS", ALIGN_RIGHT },
        { "UNSETTLED", ALIGN_RIGHT }, { "RETRIED", ALIGN_RIGHT },
        { "DEAD", ALIGN_RIGHT },      { "DELETED", ALIGN_RIGHT },
        { "MISSING", ALIGN_RIGHT },   { "BALANCED", ALIGN_LEFT },
    };
    struct rows rows = { .v = v, .table = table_new(columns, 10) };
    enum status status = STATUS_NOMEM;

    if (rows.table != NULL) {
        status = inspect_each_lane(v->inspect, on_lane, &rows);
    }
    if (status == STATUS_OK) {
        status = verify_each_idle_group(v, on_idle_group, &rows);
    }
    end_table(&rows, "rows");
    return status;
}

/* ---- what is wrong ---- */

static void show_damage(const struct verify *v, const struct store_damage *d)
{
    char file[FILE_NAME_LEN];
    char len[HUMAN_LEN];
    struct slice name;

    if (d->segment == 0) {
        printf("  %s: parts of it; a broker writes a new one\n",
               verify_file(d, file));
        return;
    }
    printf("  %s, offset %u, %s: %s", verify_file(d, file), d->offset,
           human_bytes(len, d->len), store_damage_word(d->kind));
    if (d->topic != 0) {
        name = inspect_name(v->inspect, CATALOG_TOPIC, d->topic);
        if (name.len > 0) {
            printf(" %.*s", (int)name.len, (const char *)name.at);
        } else {
            printf(" of topic #%u", d->topic);
        }
        printf(" %" PRIu64, d->seq);
    }
    puts("");
}

static void show_damages(const struct verify *v)
{
    size_t shown = v->damage_count < DAMAGES_SHOWN_MAX ? v->damage_count
                                                       : DAMAGES_SHOWN_MAX;
    char text[HUMAN_LEN];

    if (v->totals.damages == 0) {
        return;
    }
    puts("\nDamaged:");
    for (size_t i = 0; i < shown; i++) {
        show_damage(v, &v->damages[i]);
    }
    if (v->totals.damages > shown) {
        printf("  and %s more; --json has %s\n",
               human_count(text, v->totals.damages - shown),
               v->totals.damages > VERIFY_DAMAGES_KEPT ? "the first 10,000"
                                                       : "all of them");
    }
}

/* "Missing: orders 51, 60-70" */
static void on_missing(void *arg, const struct inspect_topic *t)
{
    uint64_t *topics = arg;
    struct seq_range range;
    uint64_t seq = 0;
    int ranges = 0;

    if (t->gone || t->missing == 0 || (*topics)++ == ROWS_SHOWN_MAX) {
        return;
    }
    printf("  %.*s", (int)t->name.len, (const char *)t->name.at);
    while (verify_next_missing(t, &seq, &range)) {
        if (ranges++ == RANGES_SHOWN_MAX) {
            printf(", ...");
            break;
        }
        printf("%s %" PRIu64, ranges > 1 ? "," : "", range.first);
        if (range.last > range.first) {
            printf("-%" PRIu64, range.last);
        }
    }
    puts("");
}

static void show_missing(const struct verify *v)
{
    uint64_t topics = 0;

    if (v->totals.missing > 0) {
        puts("\nMissing messages:");
        inspect_each_topic(v->inspect, on_missing, &topics);
    }
}

/* ---- the whole ---- */

static void show_head(const struct verify *v)
{
    const struct inspect_store *store = inspect_store(v->inspect);
    char time[HUMAN_LEN];

    printf("%s: store %016" PRIx64 ", format %u, made %s\n", v->dir,
           store->store_id, store->version, human_time(time, store->made_us));
    if (v->in_use) {
        puts("A broker is serving from it: what it wrote after this began may "
             "or may not be here.");
    }
    if (v->is_backup) {
        printf("It is a backup, made %s, of %zu files%s.\n",
               human_time(time, v->manifest.made_us), v->manifest.file_count,
               v->file_damages == 0 ? "; each is as it was written"
                                    : "; see the damage above");
    }
}

/* A write that was cut short: never confirmed, unless it was damaged since. */
static void show_end(const struct verify *v)
{
    const struct inspect_totals *t = &v->totals;
    char bytes[HUMAN_LEN];

    if (!v->in_use && t->torn_bytes > 0) {
        printf("  end       torn: the next start cuts %s behind the last whole "
               "batch\n",
               human_bytes(bytes, (double)t->torn_bytes));
    }
}

static void show_log(const struct verify *v)
{
    const struct inspect_totals *t = &v->totals;
    char a[HUMAN_LEN];
    char b[HUMAN_LEN];
    char c[HUMAN_LEN];

    printf("  log       %s %s, %s read; %s batches\n",
           human_count(a, t->segments),
           plural(t->segments, "segment", "segments"),
           human_bytes(b, (double)t->bytes), human_count(c, t->batches));
    printf("  records   %s, %s of them messages", human_count(a, t->records),
           human_count(b, t->messages));
    if (t->moved > 0) {
        printf(" (%s moved by merges)", human_count(a, t->moved));
    }
    printf("\n  snapshot  %s\n", !t->snapshot          ? "none"
                                 : t->snapshot_damaged ? "DAMAGED"
                                 : t->snapshot_damages ? "DAMAGED in parts"
                                                       : "whole");
    show_end(v);
}

static void show_verdict(const struct verify *v)
{
    const struct inspect_totals *t = &v->totals;
    char a[HUMAN_LEN];
    char b[HUMAN_LEN];

    if (verify_is_fine(v)) {
        printf("\nAll is well: every checksum is right, nothing is missing, "
               "the books balance (%s).\n",
               human_duration(a, v->took_ns));
        return;
    }
    printf("\nNOT WELL: %s %s damaged, %s %s missing",
           human_count(a, t->damages + v->file_damages),
           plural(t->damages + v->file_damages, "place is", "places are"),
           human_count(b, t->missing),
           plural(t->missing, "message is", "messages are"));
    if (t->missing_segments > 0) {
        printf(", %s %s missing", human_count(a, t->missing_segments),
               plural(t->missing_segments, "segment is", "segments are"));
    }
    if (t->foreign_files > 0) {
        printf(", %s %s not of this store", human_count(a, t->foreign_files),
               plural(t->foreign_files, "file is", "files are"));
    }
    if (t->unbalanced > 0) {
        printf(", %s %s not balance", human_count(a, t->unbalanced),
               plural(t->unbalanced, "book does", "books do"));
    }
    puts(".");
}

int verify_show(const struct verify *v)
{
    enum status status;

    show_head(v);
    show_log(v);
    show_topics(v);
    status = show_lanes(v);
    show_damages(v);
    show_missing(v);
    show_verdict(v);
    return status == STATUS_OK ? EXIT_OK : fail(EXIT_FAILED, "out of memory");
}
