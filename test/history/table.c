#include "test/history/table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void history_die(const char *why)
{
    (void)fprintf(stderr, "history: %s\n", why);
    exit(2);
}

void *grown(void *items, size_t *room, size_t count, size_t size)
{
    size_t wanted = *room == 0 ? 16 : *room;
    char *more;

    if (count <= *room) {
        return items;
    }
    while (wanted < count) {
        wanted *= 2;
    }
    more = realloc(items, wanted * size);
    if (more == NULL) {
        history_die("out of memory");
    }
    memset(more + *room * size, 0, (wanted - *room) * size);
    *room = wanted;
    return more;
}

/* ---- number -> number ---- */

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 32) * UINT64_C(0xd6e8feb86659fd93);
    x = (x ^ x >> 32) * UINT64_C(0xd6e8feb86659fd93);
    return x ^ x >> 32;
}

/* Where `key` is, or the free place where it would be. */
static size_t place(const struct table *table, uint64_t key)
{
    size_t at = mix(key) & (table->room - 1);

    while (table->keys[at] != 0 && table->keys[at] != key) {
        at = (at + 1) & (table->room - 1);
    }
    return at;
}

uint64_t *table_find(const struct table *table, uint64_t key)
{
    size_t at;

    if (table->count == 0) {
        return NULL;
    }
    at = place(table, key);
    return table->keys[at] == key ? &table->values[at] : NULL;
}

static void widen(struct table *table)
{
    struct table old = *table;

    table->room = old.room == 0 ? 64 : old.room * 2;
    table->keys = calloc(table->room, sizeof *table->keys);
    table->values = calloc(table->room, sizeof *table->values);
    if (table->keys == NULL || table->values == NULL) {
        history_die("out of memory");
    }
    for (size_t i = 0; i < old.room; i++) {
        if (old.keys[i] != 0) {
            size_t at = place(table, old.keys[i]);
            table->keys[at] = old.keys[i];
            table->values[at] = old.values[i];
        }
    }
    free(old.keys);
    free(old.values);
}

uint64_t *table_put(struct table *table, uint64_t key)
{
    size_t at;

    if (table->count * 3 >= table->room * 2) {
        widen(table);
    }
    at = place(table, key);
    if (table->keys[at] == 0) {
        table->keys[at] = key;
        table->values[at] = 0;
        table->count++;
    }
    return &table->values[at];
}

/* What follows moves back, so that no search ends early at the free place. */
void table_remove(struct table *table, uint64_t key)
{
    size_t mask = table->room - 1;
    size_t hole;
    size_t at;

    if (table->count == 0) {
        return;
    }
    hole = place(table, key);
    if (table->keys[hole] != key) {
        return;
    }
    at = hole;
    for (;;) {
        size_t home;
        at = (at + 1) & mask;
        if (table->keys[at] == 0) {
            break;
        }
        home = mix(table->keys[at]) & mask;
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            table->keys[hole] = table->keys[at];
            table->values[hole] = table->values[at];
            hole = at;
        }
    }
    table->keys[hole] = 0;
    table->count--;
}

void table_fini(struct table *table)
{
    free(table->keys);
    free(table->values);
    *table = (struct table) { .room = 0 };
}

/* ---- name -> number ---- */

static uint64_t text_hash(const char *text, size_t len)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325); /* FNV-1a */

    for (size_t i = 0; i < len; i++) {
        hash = (hash ^ (uint8_t)text[i]) * UINT64_C(0x100000001b3);
    }
    return hash;
}

/* Names of one hash take keys one after the other. */
static uint64_t next_key(uint64_t key)
{
    return key + 1 == 0 ? 1 : key + 1;
}

static uint32_t look(const struct names *names, const char *text, size_t len,
                     uint64_t *key)
{
    const uint64_t *number;

    *key = next_key(text_hash(text, len));
    while ((number = table_find(&names->by_hash, *key)) != NULL) {
        const char *known = names->texts[*number - 1];
        if (strncmp(known, text, len) == 0 && known[len] == '\0') {
            return (uint32_t)*number;
        }
        *key = next_key(*key);
    }
    return 0;
}

uint32_t names_find(const struct names *names, const char *text, size_t len)
{
    uint64_t key;

    return look(names, text, len, &key);
}

uint32_t names_add(struct names *names, const char *text, size_t len)
{
    uint64_t key;
    uint32_t number = look(names, text, len, &key);

    if (number != 0) {
        return number;
    }
    names->texts = grown(names->texts, &names->room, names->count + 1u,
                         sizeof *names->texts);
    names->texts[names->count] = strndup(text, len);
    if (names->texts[names->count] == NULL) {
        history_die("out of memory");
    }
    *table_put(&names->by_hash, key) = ++names->count;
    return names->count;
}

const char *names_text(const struct names *names, uint32_t number)
{
    return number == 0 || number > names->count ? "?"
                                                : names->texts[number - 1];
}

void names_fini(struct names *names)
{
    for (uint32_t i = 0; i < names->count; i++) {
        free(names->texts[i]);
    }
    free(names->texts);
    table_fini(&names->by_hash);
    *names = (struct names) { .count = 0 };
}
