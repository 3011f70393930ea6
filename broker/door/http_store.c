/* GET /v1/store: how the store is, and where damage was seen last. For admins:
 * it names topics. */
#include "broker/door/doors.h"

#include "broker/door/http_show.h"
#include "broker/metrics.h"

#include <stdio.h>

static void put_stats(struct json *json, const struct store_stats *s)
{
    const struct {
        const char *key;
        uint64_t value;
    } figures[] = {
        { "segments", s->segments },
        { "disk_bytes", s->disk_bytes },
        { "pool_segments", s->pool_segments },
        { "keydir_bytes", s->keydir_bytes },
        { "log_bytes", s->log_bytes },
        { "moved_bytes", s->moved_bytes },
        { "freed_bytes", s->freed_bytes },
        { "snapshots", s->snapshots },
        { "checkpoints", s->checkpoints },
        { "scrubbed_bytes", s->scrubbed_bytes },
        { "scrub_passes", s->scrub_passes },
        { "damaged_records", s->damaged_records },
        { "damaged_batches", s->damaged_batches },
        { "corrupt_reads", s->corrupt_reads },
    };

    for (size_t i = 0; i < COUNT_OF(figures); i++) {
        json_u64(json, figures[i].key, figures[i].value);
    }
}

static void put_damage(struct json *json, const struct session *session,
                       const struct store_damage *damage)
{
    const struct topic *topic =
        catalog_topic_by_id(session_catalog(session), damage->topic);
    char file[32];

    json_begin_object(json, NULL);
    json_word(json, "kind", store_damage_word(damage->kind));
    if (damage->segment != 0) {
        (void)snprintf(file, sizeof file, "%010u.seg", damage->segment);
        json_word(json, "file", file);
        json_number(json, "offset", damage->offset);
        if (damage->len > 0) {
            json_number(json, "len", damage->len);
        }
    }
    if (topic != NULL) {
        json_word(json, "topic", topic->name);
        json_u64(json, "seq", damage->seq);
    }
    json_end_object(json);
}

enum status show_store(const struct session *session,
                       const struct broker_metrics *metrics, struct bytes *to)
{
    struct store_damage seen[STORE_DAMAGE_KEPT];
    struct store_stats stats = { 0 };
    uint64_t next = 0;
    size_t count;
    struct json json = json_to(to);

    store_stats(metrics->store, &stats);
    count = store_damage_seen(metrics->store, &next, seen, COUNT_OF(seen));
    json_begin_object(&json, NULL);
    json_bool(&json, "frozen", store_frozen(metrics->store));
    json_bool(&json, "refuses_messages",
              store_space_low(metrics->store) || metrics->keeper.disk_low != 0);
    json_u64(&json, "disk_free_bytes", metrics->keeper.disk_free_bytes);
    json_u64(&json, "disk_free_bytes_min", metrics->keeper.disk_free_bytes_min);
    put_stats(&json, &stats);
    json_begin_array(&json, "damage");
    for (size_t i = 0; i < count; i++) {
        put_damage(&json, session, &seen[i]);
    }
    json_end_array(&json);
    json_end_object(&json);
    return json.status;
}
