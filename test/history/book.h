/* Ledgers in memory, line by line, for the mutation test: find a line, change
 * some, check the result. */
#ifndef GODWIT_TEST_HISTORY_BOOK_H
#define GODWIT_TEST_HISTORY_BOOK_H

#include "test/history/history.h"

enum { WORDS_MAX = 16, EDITS_MAX = 64 };

struct line {
    char *text;             /* with its time */
    char *words[WORDS_MAX]; /* time, kind, fields; into a copy */
    char *copy;
    size_t count;
    uint64_t us;
};

struct page { /* one file */
    char name[32];
    struct line *lines;
    size_t count, room;
    char *text; /* as it was generated */
    size_t text_len;
    bool orderly; /* ends with `end` */
};

struct spot {
    size_t page, line;
};

enum edit_kind { EDIT_DROP, EDIT_REPLACE, EDIT_AFTER };

struct edit {
    enum edit_kind kind;
    struct spot at;
    char *text; /* without the newline */
};

struct book {
    struct page *pages;
    size_t count, room;
    size_t lines; /* of all pages */
    uint64_t random;
    struct edit edits[EDITS_MAX];
    size_t edit_count;
};

void book_make(struct book *book, uint64_t seed, uint64_t events, bool plain);
void book_fini(struct book *book);
uint64_t book_random(struct book *book, uint64_t below);

struct line *book_at(const struct book *book, struct spot at);
bool line_is(const struct line *line, const char *kind);
/* Field `index` (from 0, after the kind) as text; "" when there is none. */
const char *line_field(const struct line *line, size_t index);
uint64_t line_number(const struct line *line, size_t index);

/* A random line of this kind (NULL: any) for which `good` (may be NULL) holds.
 * False: there is none. */
bool book_pick(struct book *book, const char *kind,
               bool (*good)(const struct book *book, struct spot at),
               struct spot *out);
/* The next line behind `at` in its page for which `good` holds. */
bool book_next(const struct book *book, struct spot at,
               bool (*good)(const struct line *line, const struct line *first),
               struct spot *out);

/* ---- edits ---- */
void book_drop(struct book *book, struct spot at);
/* The line with field `index` exchanged. */
void book_alter(struct book *book, struct spot at, size_t index,
                const char *value);
void book_alter_number(struct book *book, struct spot at, size_t index,
                       uint64_t value);
void book_alter_time(struct book *book, struct spot at, uint64_t us);
/* `a` gets what `b` says, at its own time. */
void book_take(struct book *book, struct spot a, struct spot b);
/* A line behind `at`, at its time; `text` begins with the kind. */
__attribute__((format(printf, 3, 4))) void
book_insert(struct book *book, struct spot at, const char *format, ...);

void book_forget(struct book *book); /* all edits */

/* Check it with its edits, and forget them. True: found good. */
bool book_check(struct book *book, struct history_figures *figures, FILE *out);

#endif
