/* Small helpers of the history checker: a map from number to number, names as
 * numbers, and memory that is there or ends the program. Nothing of the
 * broker's is used here on purpose: a checker that shares code shares bugs. */
#ifndef GODWIT_TEST_HISTORY_TABLE_H
#define GODWIT_TEST_HISTORY_TABLE_H

#include <stddef.h>
#include <stdint.h>

/* ---- memory ---- */

/* Print a line and end the program. */
_Noreturn void history_die(const char *why);

/* At least `count` items of `size` bytes, doubled as it grows, new ones zero.
 * Ends the program when memory is short. */
void *grown(void *items, size_t *room, size_t count, size_t size);

/* ---- number -> number ---- */

struct table {
    uint64_t *keys; /* 0: free */
    uint64_t *values;
    size_t room; /* 0 or a power of two */
    size_t count;
};

/* NULL: not there. Valid until the next table_put() or table_remove(). */
uint64_t *table_find(const struct table *table, uint64_t key);
/* Made with the value 0 when it is not there. `key` is not 0. */
uint64_t *table_put(struct table *table, uint64_t key);
void table_remove(struct table *table, uint64_t key);
void table_fini(struct table *table);

/* ---- name -> 1, 2, 3 ... ---- */

struct names {
    char **texts; /* by number - 1 */
    size_t room;
    uint32_t count;
    struct table by_hash; /* hash, then the next ones -> number */
};

/* 0: never seen. */
uint32_t names_find(const struct names *names, const char *text, size_t len);
uint32_t names_add(struct names *names, const char *text, size_t len);
const char *names_text(const struct names *names, uint32_t number);
void names_fini(struct names *names);

#endif
