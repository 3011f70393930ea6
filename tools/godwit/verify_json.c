#include "tools/godwit/verify.h"

#include "tools/godwit/command.h"
#include "tools/godwit/json.h"

#include <inttypes.h>

enum { ID_LEN = 17, FILE_NAME_LEN = 32 };

static const struct {
    const char *name;
    size_t offset;
} totals[] = {
#define TOTAL(field)                                                           \
    {                                                                          \
#field, offsetof(struct inspect_totals, field)                         \
    }
    TOTAL(segments),         TOTAL(missing_segments),
    TOTAL(foreign_files),    TOTAL(bytes),
    TOTAL(batches),          TOTAL(records),
    TOTAL(messages),         TOTAL(moved),
    TOTAL(damaged_messages), TOTAL(damaged_records),
    TOTAL(damaged_batches),  TOTAL(damaged_bytes),
    TOTAL(lost_batches),     TOTAL(unreadable_bytes),
    TOTAL(doubtful_batches), TOTAL(torn_batches),
    TOTAL(torn_bytes),       TOTAL(snapshot_damages),
    TOTAL(published),        TOTAL(present),
    TOTAL(deleted),          TOTAL(missing),
    TOTAL(unsettled),        TOTAL(dead),
    TOTAL(unbalanced),
#undef TOTAL
};

static void put_totals(struct json_writer *w, const struct verify *v)
{
    json_begin(w, "totals", '{');
    for (size_t i = 0; i < sizeof totals / sizeof totals[0]; i++) {
        uint64_t value;
        memcpy(&value, (const char *)&v->totals + totals[i].offset,
               sizeof value);
        json_put_number(w, totals[i].name, value);
    }
    json_put_number(w, "damages", v->totals.damages + v->file_damages);
    json_put_bool(w, "snapshot", v->totals.snapshot);
    json_put_bool(w, "snapshot_damaged", v->totals.snapshot_damaged);
    json_end(w, '}');
}

static void put_range(struct json_writer *w, uint64_t first, uint64_t last)
{
    json_begin(w, NULL, '[');
    json_put_number(w, NULL, first);
    json_put_number(w, NULL, last);
    json_end(w, ']');
}

static void put_missing(struct json_writer *w, const struct inspect_topic *t)
{
    struct seq_range range;
    uint64_t seq = 0;

    json_begin(w, "missing_ranges", '[');
    while (verify_next_missing(t, &seq, &range)) {
        put_range(w, range.first, range.last);
    }
    json_end(w, ']');
}

static void on_topic(void *arg, const struct inspect_topic *t)
{
    struct json_writer *w = arg;

    json_begin(w, NULL, '{');
    json_put_text(w, "name", t->name);
    json_put_number(w, "id", t->topic);
    json_put_bool(w, "gone", t->gone);
    json_put_number(w, "published", t->published);
    json_put_number(w, "first_seq", t->first_seq);
    json_put_number(w, "floor_seq", t->floor_seq);
    json_put_number(w, "present", t->present);
    json_put_number(w, "deleted", t->deleted);
    json_put_number(w, "missing", t->missing);
    json_put_number(w, "bytes", t->bytes);
    if (!t->gone && t->missing > 0) {
        put_missing(w, t);
    }
    json_end(w, '}');
}

static void on_lane(void *arg, const struct inspect_lane *l)
{
    struct json_writer *w = arg;

    json_begin(w, NULL, '{');
    json_put_text(w, "group", l->group_name);
    json_put_text(w, "topic", l->topic_name);
    json_put_number(w, "published", l->published);
    json_put_number(w, "settled", l->settled);
    json_put_number(w, "gaps", l->gaps);
    json_put_number(w, "expired", l->expired);
    json_put_number(w, "filtered", l->filtered);
    json_put_number(w, "discarded", l->discarded);
    json_put_number(w, "unsettled", l->unsettled);
    json_put_number(w, "retries", l->retries);
    json_put_number(w, "dead", l->dead);
    if (l->sought) {
        json_put_number(w, "after_seq", l->after_seq);
    }
    json_put_number(w, "deleted", l->deleted);
    json_put_number(w, "missing", l->missing);
    json_put_bool(w, "balanced", l->balanced);
    json_end(w, '}');
}

static void on_idle_group(void *arg, const struct record_fact *group)
{
    json_put_text(arg, NULL, group->name);
}

static void put_damage(struct json_writer *w, const struct verify *v,
                       const struct store_damage *d)
{
    char file[FILE_NAME_LEN];

    json_begin(w, NULL, '{');
    json_put_text(w, "file", slice_text(verify_file(d, file)));
    json_put_number(w, "offset", d->offset);
    json_put_number(w, "len", d->len);
    json_put_text(w, "kind", slice_text(store_damage_word(d->kind)));
    if (d->topic != 0) {
        json_put_text(w, "topic",
                      inspect_name(v->inspect, CATALOG_TOPIC, d->topic));
        json_put_number(w, "topic_id", d->topic);
        json_put_number(w, "seq", d->seq);
    }
    json_end(w, '}');
}

static void put_head(struct json_writer *w, const struct verify *v)
{
    const struct inspect_store *store = inspect_store(v->inspect);
    char id[ID_LEN];

    snprintf(id, sizeof id, "%016" PRIx64, store->store_id);
    json_put_text(w, "folder", slice_text(v->dir));
    json_put_bool(w, "fine", verify_is_fine(v));
    json_put_bool(w, "in_use", v->in_use);
    json_put_text(w, "store", slice_text(id));
    json_put_number(w, "format", store->version);
    json_put_number(w, "made_us", store->made_us);
    if (v->is_backup) {
        json_begin(w, "backup", '{');
        json_put_number(w, "made_us", v->manifest.made_us);
        json_put_number(w, "files", v->manifest.file_count);
        json_put_number(w, "damaged_files", v->file_damages);
        json_put_number(w, "source_damages", v->manifest.damages);
        json_end(w, '}');
    }
}

int verify_show_json(const struct verify *v)
{
    struct json_writer w = { 0 };
    const char *text;

    json_begin(&w, NULL, '{');
    put_head(&w, v);
    put_totals(&w, v);
    json_begin(&w, "topics", '[');
    inspect_each_topic(v->inspect, on_topic, &w);
    json_end(&w, ']');
    json_begin(&w, "lanes", '[');
    if (inspect_each_lane(v->inspect, on_lane, &w) != STATUS_OK) {
        w.status = STATUS_NOMEM;
    }
    json_end(&w, ']');
    json_begin(&w, "groups_without_lanes", '[');
    if (verify_each_idle_group(v, on_idle_group, &w) != STATUS_OK) {
        w.status = STATUS_NOMEM;
    }
    json_end(&w, ']');
    json_begin(&w, "damages", '[');
    for (size_t i = 0; i < v->damage_count; i++) {
        put_damage(&w, v, &v->damages[i]);
    }
    json_end(&w, ']');
    json_end(&w, '}');
    text = json_done(&w);
    if (text != NULL) {
        puts(text);
    }
    json_writer_fini(&w);
    return text != NULL ? EXIT_OK : fail(EXIT_FAILED, "out of memory");
}
