#include "storage/keydir_value.h"

#include "storage/checksum.h"

enum { KEYDIR_VERSION = 4 };

static const uint64_t keydir_magic = UINT64_C(0x3159454b54574447);

uint64_t seal_of(enum keydir_table table, struct slice key, struct slice value)
{
    uint64_t seed = checksum_seeded(key.at, key.len, (uint64_t)table);

    return checksum_seeded(value.at, value.len, seed);
}

bool seal_check(enum keydir_table table, struct slice key, struct slice *value)
{
    if (value->len < SEAL_LEN) {
        return false;
    }
    value->len -= SEAL_LEN;
    return get_u64(value->at + value->len) == seal_of(table, key, *value);
}

/* ---- numbers that sort ---- */

void put_be32(uint8_t *at, uint32_t v)
{
    v = __builtin_bswap32(v);
    memcpy(at, &v, sizeof v);
}

void put_be64(uint8_t *at, uint64_t v)
{
    v = __builtin_bswap64(v);
    memcpy(at, &v, sizeof v);
}

uint32_t get_be32(const void *at)
{
    uint32_t v;
    memcpy(&v, at, sizeof v);
    return __builtin_bswap32(v);
}

uint64_t get_be64(const void *at)
{
    uint64_t v;
    memcpy(&v, at, sizeof v);
    return __builtin_bswap64(v);
}

/* ---- runs ---- */

void run_key(uint8_t key[RUN_KEY_LEN], uint32_t topic, uint64_t seq)
{
    put_be32(key, topic);
    put_be64(key + 4, seq);
}

void run_value(uint8_t value[RUN_VALUE_LEN], const struct store_run *run)
{
    put_u32(value, run->count);
    put_u32(value + 4, run->segment);
    put_u32(value + 8, run->batch);
    put_u32(value + 12, run->table);
}

bool run_read(struct slice key, struct slice value, struct store_run *out)
{
    const uint8_t *at = value.at;

    if (key.len != RUN_KEY_LEN || value.len != RUN_VALUE_LEN) {
        return false;
    }
    out->topic = get_be32(key.at);
    out->first_seq = get_be64(key.at + 4);
    out->count = get_u32(at);
    out->segment = get_u32(at + 4);
    out->batch = get_u32(at + 8);
    out->table = get_u32(at + 12);
    return true;
}

/* ---- topics ---- */

void topic_value(uint8_t value[TOPIC_VALUE_LEN],
                 const struct store_topic *topic)
{
    put_u64(value, topic->last_seq);
    put_u64(value + 8, topic->first_seq);
    put_u64(value + 16, topic->floor_seq);
}

bool topic_read(struct slice key, struct slice value, struct store_topic *out)
{
    if (key.len != 4 || value.len != TOPIC_VALUE_LEN) {
        return false;
    }
    *out = (struct store_topic) { .topic = get_be32(key.at),
                                  .last_seq = get_u64(value.at),
                                  .first_seq = get_u64(value.at + 8),
                                  .floor_seq = get_u64(value.at + 16) };
    return true;
}

/* ---- what segments hold ---- */

void tally_key(uint8_t key[TALLY_KEY_LEN], uint32_t segment, uint32_t topic)
{
    put_be32(key, segment);
    put_be32(key + 4, topic);
}

void tally_value(uint8_t value[TALLY_VALUE_LEN],
                 const struct tally_entry *entry)
{
    put_u64(value, entry->first_seq);
    put_u64(value + 8, entry->last_seq);
    put_u64(value + 16, entry->count);
    put_u64(value + 24, entry->bytes);
    put_u64(value + 32, entry->newest_us);
}

bool tally_read(struct slice key, struct slice value, uint32_t *segment,
                struct tally_entry *out)
{
    if (key.len != TALLY_KEY_LEN || value.len != TALLY_VALUE_LEN) {
        return false;
    }
    *segment = get_be32(key.at);
    *out = (struct tally_entry) { .topic = get_be32(key.at + 4),
                                  .first_seq = get_u64(value.at),
                                  .last_seq = get_u64(value.at + 8),
                                  .count = tally_figure(get_u64(value.at + 16)),
                                  .bytes = tally_figure(get_u64(value.at + 24)),
                                  .newest_us = get_u64(value.at + 32) };
    return true;
}

/* ---- lanes ---- */

void lane_key(uint8_t key[LANE_KEY_LEN], uint32_t group, uint32_t topic)
{
    put_be32(key, group);
    put_be32(key + 4, topic);
}

void history_key(uint8_t key[HISTORY_KEY_LEN], uint32_t group, uint32_t topic,
                 uint64_t seq)
{
    put_be32(key, group);
    put_be32(key + 4, topic);
    put_be64(key + 8, seq);
}

/* ---- producers ---- */

void producer_key(uint8_t key[PRODUCER_KEY_LEN], const struct producer *entry)
{
    put_be32(key, entry->app);
    put_be64(key + 4, entry->id);
}

void producer_value(uint8_t value[PRODUCER_VALUE_LEN],
                    const struct producer *entry)
{
    memset(value, 0, PRODUCER_VALUE_LEN);
    put_u64(value, entry->last);
    put_u64(value + 8, entry->run_first);
    put_u64(value + 16, entry->run_last);
    put_u64(value + 24, entry->run_seq);
    put_u64(value + 32, entry->used);
    put_u32(value + 40, entry->topic);
    put_u32(value + 44, entry->hole_count);
    for (uint32_t i = 0; i < entry->hole_count; i++) {
        put_u64(value + 48 + (size_t)i * 16, entry->holes[i].first);
        put_u64(value + 56 + (size_t)i * 16, entry->holes[i].last);
    }
}

size_t producer_value_len(const struct producer *entry)
{
    return 48 + (size_t)entry->hole_count * 16;
}

bool producer_read(struct slice key, struct slice value, struct producer *out)
{
    const uint8_t *at = value.at;

    if (key.len != PRODUCER_KEY_LEN || value.len < 48
        || get_u32(at + 44) > PRODUCER_HOLES_MAX
        || value.len < 48 + (size_t)get_u32(at + 44) * 16) {
        return false;
    }
    *out = (struct producer) {
        .app = get_be32(key.at),
        .id = get_be64(key.at + 4),
        .last = get_u64(at),
        .run_first = get_u64(at + 8),
        .run_last = get_u64(at + 16),
        .run_seq = get_u64(at + 24),
        .used = get_u64(at + 32),
        .topic = get_u32(at + 40),
        .hole_count = get_u32(at + 44),
    };
    for (uint32_t i = 0; i < out->hole_count; i++) {
        out->holes[i].first = get_u64(at + 48 + (size_t)i * 16);
        out->holes[i].last = get_u64(at + 56 + (size_t)i * 16);
    }
    return true;
}

/* ---- meta ---- */

void meta_value(uint8_t value[META_LEN], const struct keydir_meta *meta,
                const uint64_t sums[TABLE_COUNT])
{
    put_u64(value, keydir_magic);
    put_u32(value + 8, KEYDIR_VERSION);
    put_u32(value + 12, meta->clean ? 1 : 0);
    put_u64(value + 16, meta->store_id);
    put_u64(value + 24, meta->place);
    put_u64(value + 32, meta->number);
    put_u64(value + 40, meta->hash);
    put_u64(value + 48, meta->known);
    put_u64(value + 56, 0);
    for (size_t i = RUNS; i < TABLE_COUNT; i++) {
        put_u64(value + 56 + i * 8, sums[i]);
    }
}

bool meta_read(struct slice value, struct keydir_meta *meta,
               uint64_t sums[TABLE_COUNT])
{
    const uint8_t *at = value.at;

    if (value.len != META_LEN || get_u64(at) != keydir_magic
        || get_u32(at + 8) != KEYDIR_VERSION) {
        return false;
    }
    meta->clean = get_u32(at + 12) == 1;
    meta->store_id = get_u64(at + 16);
    meta->place = get_u64(at + 24);
    meta->number = get_u64(at + 32);
    meta->hash = get_u64(at + 40);
    meta->known = get_u64(at + 48);
    for (size_t i = 0; i < TABLE_COUNT; i++) {
        sums[i] = get_u64(at + 56 + i * 8);
    }
    return true;
}
