#include "test/history/book.h"
#include "test/history/generate.h"
#include "test/history/table.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* ---- making ---- */

struct maker {
    struct book *book;
    FILE *files[4096];
    size_t count;
};

/* The pages must not move while streams write into them. */
static FILE *open_page(void *arg, const char *name)
{
    struct maker *maker = arg;
    struct page *page = &maker->book->pages[maker->count];
    FILE *file = open_memstream(&page->text, &page->text_len);

    if (file == NULL || maker->count == 4095) {
        history_die("cannot make a page");
    }
    (void)snprintf(page->name, sizeof page->name, "%s", name);
    maker->files[maker->count++] = file;
    return file;
}

static void split_line(struct line *line)
{
    char *at;

    line->copy = strdup(line->text);
    if (line->copy == NULL) {
        history_die("out of memory");
    }
    at = line->copy;
    while (at != NULL && line->count < WORDS_MAX) {
        line->words[line->count++] = at;
        at = strchr(at, ' ');
        if (at != NULL) {
            *at++ = '\0';
        }
    }
    line->us = strtoull(line->words[0], NULL, 10);
}

static void split_page(struct page *page)
{
    const char *at = page->text;
    const char *end = page->text + page->text_len;

    while (at < end) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        struct line *line;
        page->lines = grown(page->lines, &page->room, page->count + 1,
                            sizeof *page->lines);
        line = &page->lines[page->count++];
        line->text = strndup(at, (size_t)(newline - at));
        if (line->text == NULL) {
            history_die("out of memory");
        }
        split_line(line);
        at = newline + 1;
    }
    page->orderly =
        page->count > 0 && line_is(&page->lines[page->count - 1], "end");
}

void book_make(struct book *book, uint64_t seed, uint64_t events, bool plain)
{
    struct maker *maker = calloc(1, sizeof *maker);
    struct generate_options options = { .seed = seed,
                                        .events = events,
                                        .plain = plain,
                                        .open = open_page,
                                        .arg = maker };

    *book = (struct book) { .random = seed };
    book->pages = grown(book->pages, &book->room, 4096, sizeof *book->pages);
    if (maker == NULL) {
        history_die("out of memory");
    }
    maker->book = book;
    generate(&options);
    for (size_t i = 0; i < maker->count; i++) {
        (void)fclose(maker->files[i]);
    }
    book->count = maker->count;
    free(maker);
    for (size_t i = 0; i < book->count; i++) {
        split_page(&book->pages[i]);
        book->lines += book->pages[i].count;
    }
}

void book_forget(struct book *book)
{
    for (size_t i = 0; i < book->edit_count; i++) {
        free(book->edits[i].text);
    }
    book->edit_count = 0;
}

void book_fini(struct book *book)
{
    book_forget(book);
    for (size_t i = 0; i < book->count; i++) {
        struct page *page = &book->pages[i];
        for (size_t k = 0; k < page->count; k++) {
            free(page->lines[k].text);
            free(page->lines[k].copy);
        }
        free(page->lines);
        free(page->text);
    }
    free(book->pages);
}

uint64_t book_random(struct book *book, uint64_t below)
{
    uint64_t x = book->random += UINT64_C(0x9e3779b97f4a7c15);

    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return (x ^ x >> 31) % below;
}

/* ---- looking ---- */

struct line *book_at(const struct book *book, struct spot at)
{
    return &book->pages[at.page].lines[at.line];
}

bool line_is(const struct line *line, const char *kind)
{
    return line->count > 1 && strcmp(line->words[1], kind) == 0;
}

const char *line_field(const struct line *line, size_t index)
{
    return index + 2 < line->count ? line->words[index + 2] : "";
}

uint64_t line_number(const struct line *line, size_t index)
{
    return strtoull(line_field(line, index), NULL, 10);
}

static struct spot spot_of(const struct book *book, size_t number)
{
    struct spot at = { 0, number };

    while (at.line >= book->pages[at.page].count) {
        at.line -= book->pages[at.page].count;
        at.page++;
    }
    return at;
}

bool book_pick(struct book *book, const char *kind,
               bool (*good)(const struct book *book, struct spot at),
               struct spot *out)
{
    struct spot at = spot_of(book, book_random(book, book->lines));

    for (size_t i = 0; i < book->lines; i++) {
        if ((kind == NULL || line_is(book_at(book, at), kind))
            && (good == NULL || good(book, at))) {
            *out = at;
            return true;
        }
        for (at.line++; at.line >= book->pages[at.page].count; at.line = 0) {
            at.page = (at.page + 1) % book->count;
        }
    }
    return false;
}

bool book_next(const struct book *book, struct spot at,
               bool (*good)(const struct line *line, const struct line *first),
               struct spot *out)
{
    const struct line *first = book_at(book, at);

    for (at.line++; at.line < book->pages[at.page].count; at.line++) {
        if (good(book_at(book, at), first)) {
            *out = at;
            return true;
        }
    }
    return false;
}

/* ---- edits ---- */

static void add_edit(struct book *book, enum edit_kind kind, struct spot at,
                     char *text)
{
    if (book->edit_count == EDITS_MAX || (kind != EDIT_DROP && text == NULL)) {
        history_die("too many edits, or no memory");
    }
    book->edits[book->edit_count++] = (struct edit) { kind, at, text };
}

void book_drop(struct book *book, struct spot at)
{
    add_edit(book, EDIT_DROP, at, NULL);
}

void book_alter(struct book *book, struct spot at, size_t index,
                const char *value)
{
    const struct line *line = book_at(book, at);
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);

    if (out == NULL) {
        history_die("out of memory");
    }
    for (size_t i = 0; i < line->count; i++) {
        (void)fprintf(out, "%s%s", i == 0 ? "" : " ",
                      i == index + 2 ? value : line->words[i]);
    }
    (void)fclose(out);
    add_edit(book, EDIT_REPLACE, at, text);
}

void book_alter_number(struct book *book, struct spot at, size_t index,
                       uint64_t value)
{
    char text[24];

    (void)snprintf(text, sizeof text, "%llu", (unsigned long long)value);
    book_alter(book, at, index, text);
}

void book_alter_time(struct book *book, struct spot at, uint64_t us)
{
    char *text = NULL;

    if (asprintf(&text, "%llu%s", (unsigned long long)us,
                 strchr(book_at(book, at)->text, ' '))
        < 0) {
        history_die("out of memory");
    }
    add_edit(book, EDIT_REPLACE, at, text);
}

void book_take(struct book *book, struct spot a, struct spot b)
{
    const char *said = strchr(book_at(book, b)->text, ' ');
    char *text = NULL;

    if (asprintf(&text, "%s%s", book_at(book, a)->words[0], said) < 0) {
        history_die("out of memory");
    }
    add_edit(book, EDIT_REPLACE, a, text);
}

void book_insert(struct book *book, struct spot at, const char *format, ...)
{
    va_list args;
    char *said = NULL;
    char *text = NULL;

    va_start(args, format);
    if (vasprintf(&said, format, args) < 0
        || asprintf(&text, "%s %s", book_at(book, at)->words[0], said) < 0) {
        history_die("out of memory");
    }
    va_end(args);
    free(said);
    add_edit(book, EDIT_AFTER, at, text);
}

/* ---- checking ---- */

static bool touched(const struct book *book, size_t page)
{
    for (size_t i = 0; i < book->edit_count; i++) {
        if (book->edits[i].at.page == page) {
            return true;
        }
    }
    return false;
}

static void write_line(const struct book *book, FILE *out, struct spot at)
{
    const char *text = book_at(book, at)->text;

    for (size_t i = 0; i < book->edit_count; i++) {
        const struct edit *edit = &book->edits[i];
        if (edit->at.page == at.page && edit->at.line == at.line
            && edit->kind != EDIT_AFTER) {
            text = edit->kind == EDIT_DROP ? NULL : edit->text;
        }
    }
    if (text != NULL) {
        (void)fprintf(out, "%s\n", text);
    }
    for (size_t i = 0; i < book->edit_count; i++) {
        const struct edit *edit = &book->edits[i];
        if (edit->at.page == at.page && edit->at.line == at.line
            && edit->kind == EDIT_AFTER) {
            (void)fprintf(out, "%s\n", edit->text);
        }
    }
}

static char *edited(const struct book *book, size_t page, size_t *len)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, len);
    struct spot at = { page, 0 };

    if (out == NULL) {
        history_die("out of memory");
    }
    for (; at.line < book->pages[page].count; at.line++) {
        write_line(book, out, at);
    }
    (void)fclose(out);
    return text;
}

bool book_check(struct book *book, struct history_figures *figures, FILE *out)
{
    struct history_options options = { .faults_max = 10, .out = out };
    struct history *history = history_new(&options);
    char *texts[EDITS_MAX];
    size_t count = 0;
    bool good;

    for (size_t i = 0; i < book->count; i++) {
        const struct page *page = &book->pages[i];
        size_t len = page->text_len;
        const char *text = page->text;
        if (touched(book, i)) {
            text = texts[count++] = edited(book, i, &len);
        }
        history_add_text(history, page->name, text, len);
    }
    good = history_check(history);
    *figures = *history_figures(history);
    history_free(history);
    while (count > 0) {
        free(texts[--count]);
    }
    book_forget(book);
    return good;
}
