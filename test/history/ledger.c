#include "test/history/ledger.h"
#include "test/history/table.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BUFFER_LEN = 64 * 1024, NUMBER_LEN_MAX = 20 };

/* One file. Its next line stands at buffer[line_begin .. line_begin + line_len);
 * a last line without an end was torn by the client's death and is left out. */
struct source {
    char *name;
    int fd; /* -1: all is in the buffer */
    char *own;
    const char *buffer;
    size_t begin, end; /* what is not yet used */
    size_t line_begin, line_len;
    uint32_t line;
    uint64_t us;
    bool malformed, backwards;
};

struct ledgers {
    struct source *sources;
    size_t room;
    uint32_t count;
    uint32_t *heap; /* sources that have a line, the earliest first */
    size_t heap_room;
    uint32_t heap_count;
    bool begun, pending; /* the first of the heap was given out */
};

/* ---- fields ---- */

bool field_number(const struct field *field, uint64_t *out)
{
    uint64_t value = 0;

    if (field->len == 0 || field->len > NUMBER_LEN_MAX) {
        return false;
    }
    for (size_t i = 0; i < field->len; i++) {
        unsigned digit = (unsigned char)field->at[i] - (unsigned)'0';
        if (digit > 9 || value > (UINT64_MAX - digit) / 10) {
            return false;
        }
        value = value * 10 + digit;
    }
    *out = value;
    return true;
}

bool field_is(const struct field *field, const char *text)
{
    return strlen(text) == field->len
           && memcmp(text, field->at, field->len) == 0;
}

/* ---- lines ---- */

/* More of the file behind what is left of it. False: there is no more. */
static bool refill(struct source *s)
{
    size_t left = s->end - s->begin;
    ssize_t got;

    if (s->fd < 0 || left == BUFFER_LEN) {
        return false;
    }
    memmove(s->own, s->own + s->begin, left);
    s->begin = 0;
    s->end = left;
    got = read(s->fd, s->own + left, BUFFER_LEN - left);
    if (got <= 0) {
        return false;
    }
    s->end += (size_t)got;
    return true;
}

static bool next_line(struct source *s)
{
    const char *newline;

    for (;;) {
        const char *at = s->buffer + s->begin;
        newline =
            s->end == s->begin ? NULL : memchr(at, '\n', s->end - s->begin);
        if (newline != NULL) {
            break;
        }
        if (!refill(s)) {
            return false;
        }
    }
    s->line_begin = s->begin;
    s->line_len = (size_t)(newline - (s->buffer + s->begin));
    s->begin += s->line_len + 1;
    s->line++;
    return true;
}

/* Read on to the next line that is no comment, and its time. */
static bool advance(struct source *s)
{
    struct field time;
    const char *space;
    uint64_t us;

    do {
        if (!next_line(s)) {
            return false;
        }
    } while (s->line_len == 0 || s->buffer[s->line_begin] == '#');
    time.at = s->buffer + s->line_begin;
    space = memchr(time.at, ' ', s->line_len);
    time.len = space == NULL ? 0 : (size_t)(space - time.at);
    s->malformed = !field_number(&time, &us);
    s->backwards = !s->malformed && us < s->us;
    if (!s->malformed && !s->backwards) {
        s->us = us;
    }
    return true;
}

static bool split(const struct source *s, struct event *out)
{
    const char *at = s->buffer + s->line_begin;
    const char *end = at + s->line_len;
    size_t count = 0;

    at = (const char *)memchr(at, ' ', s->line_len) + 1;
    for (;;) {
        const char *space = memchr(at, ' ', (size_t)(end - at));
        struct field field = { at, (size_t)((space ? space : end) - at) };
        if (field.len == 0 || count > FIELD_COUNT_MAX) {
            return false;
        }
        if (count == 0) {
            out->word = field;
        } else {
            out->fields[count - 1] = field;
        }
        count++;
        if (space == NULL) {
            break;
        }
        at = space + 1;
    }
    out->count = count - 1;
    return true;
}

/* ---- the earliest first ---- */

static bool before(const struct ledgers *l, uint32_t a, uint32_t b)
{
    return l->sources[a].us != l->sources[b].us
               ? l->sources[a].us < l->sources[b].us
               : a < b;
}

static void sift_down(struct ledgers *l, uint32_t at)
{
    for (;;) {
        uint32_t least = at;
        for (uint32_t child = 2 * at + 1;
             child <= 2 * at + 2 && child < l->heap_count; child++) {
            if (before(l, l->heap[child], l->heap[least])) {
                least = child;
            }
        }
        if (least == at) {
            return;
        }
        uint32_t moved = l->heap[at];
        l->heap[at] = l->heap[least];
        l->heap[least] = moved;
        at = least;
    }
}

static void begin(struct ledgers *l)
{
    l->heap = grown(l->heap, &l->heap_room, l->count, sizeof *l->heap);
    for (uint32_t i = 0; i < l->count; i++) {
        if (advance(&l->sources[i])) {
            l->heap[l->heap_count++] = i;
        }
    }
    for (uint32_t i = l->heap_count; i > 0; i--) {
        sift_down(l, i - 1);
    }
    l->begun = true;
}

enum ledgers_next ledgers_next(struct ledgers *l, struct event *out)
{
    struct source *s;

    if (!l->begun) {
        begin(l);
    }
    if (l->pending) {
        if (!advance(&l->sources[l->heap[0]])) {
            l->heap[0] = l->heap[--l->heap_count];
        }
        sift_down(l, 0);
    }
    l->pending = l->heap_count > 0;
    if (!l->pending) {
        return LEDGERS_END;
    }
    s = &l->sources[l->heap[0]];
    out->file = l->heap[0];
    out->line = s->line;
    out->us = s->us;
    out->backwards = s->backwards;
    return !s->malformed && split(s, out) ? LEDGERS_EVENT : LEDGERS_MALFORMED;
}

/* ---- life ---- */

struct ledgers *ledgers_new(void)
{
    size_t room = 0;

    return grown(NULL, &room, 1, sizeof(struct ledgers));
}

static struct source *add(struct ledgers *l, const char *name)
{
    struct source *s;

    if (l->count == LEDGER_COUNT_MAX) {
        history_die("too many ledgers");
    }
    l->sources = grown(l->sources, &l->room, l->count + 1u, sizeof *l->sources);
    s = &l->sources[l->count++];
    s->name = strdup(name);
    s->fd = -1;
    if (s->name == NULL) {
        history_die("out of memory");
    }
    return s;
}

bool ledgers_add_file(struct ledgers *l, const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct source *s;
    size_t room = 0;

    if (fd < 0) {
        return false;
    }
    s = add(l, path);
    s->fd = fd;
    s->own = grown(NULL, &room, BUFFER_LEN, 1);
    s->buffer = s->own;
    return true;
}

void ledgers_add_text(struct ledgers *l, const char *name, const char *text,
                      size_t len)
{
    struct source *s = add(l, name);

    s->buffer = text;
    s->end = len;
}

uint32_t ledgers_count(const struct ledgers *l)
{
    return l->count;
}

const char *ledgers_name(const struct ledgers *l, uint32_t file)
{
    return l->sources[file].name;
}

void ledgers_free(struct ledgers *l)
{
    if (l == NULL) {
        return;
    }
    for (uint32_t i = 0; i < l->count; i++) {
        if (l->sources[i].fd >= 0) {
            (void)close(l->sources[i].fd);
        }
        free(l->sources[i].own);
        free(l->sources[i].name);
    }
    free(l->sources);
    free(l->heap);
    free(l);
}
