#include "test/history/facts.h"

#include <string.h>

/* ---- what is true of a line ---- */

bool orderly(const struct book *book, struct spot at)
{
    return book->pages[at.page].orderly;
}

bool same(const struct line *a, size_t i, const struct line *b, size_t k)
{
    return strcmp(line_field(a, i), line_field(b, k)) == 0;
}

/* The group of the session that a line's first field names. */
const char *group_of(const struct book *book, struct spot at)
{
    const struct page *page = &book->pages[at.page];

    for (size_t i = 0; i < page->count; i++) {
        if (line_is(&page->lines[i], "attach")
            && same(&page->lines[i], 0, book_at(book, at), 0)) {
            return line_field(&page->lines[i], 1);
        }
    }
    return "";
}

bool covers(const struct line *line, const struct line *got)
{
    size_t topic = line_is(line, "settle") ? 2 : 1;
    uint64_t seq = line_number(got, 2);

    return (line_is(line, "settle") || line_is(line, "outcome"))
           && same(line, topic, got, 1) && line_number(line, topic + 1) <= seq
           && line_number(line, topic + 2) >= seq;
}

/* How many lines of `kind` the group has of this delivery's message. */
unsigned in_group(const struct book *book, struct spot at, const char *kind)
{
    const struct line *got = book_at(book, at);
    const char *group = group_of(book, at);
    unsigned count = 0;

    for (size_t p = 0; p < book->count; p++) {
        for (size_t i = 0; i < book->pages[p].count; i++) {
            const struct line *line = &book->pages[p].lines[i];
            bool about = line_is(line, "got")
                             ? same(line, 1, got, 1) && same(line, 2, got, 2)
                             : covers(line, got);
            if (line_is(line, kind) && about
                && strcmp(group_of(book, (struct spot) { p, i }), group) == 0) {
                count++;
            }
        }
    }
    return count;
}

/* Delivered to its group once and never again. */
bool once(const struct book *book, struct spot at)
{
    return in_group(book, at, "got") == 1;
}

bool settles(const struct line *line, const struct line *got)
{
    return line_is(line, "settle") && covers(line, got);
}

bool answers(const struct line *line, const struct line *got)
{
    return line_is(line, "outcome") && covers(line, got);
}

bool once_and_settled(const struct book *book, struct spot at)
{
    struct spot next;

    return book_next(book, at, settles, &next) && once(book, at)
           && in_group(book, at, "settle") == 1;
}

/* Retention takes from the topic what nobody has settled. */
bool limited(const struct book *book, struct spot at)
{
    const struct page *driver = &book->pages[0];

    for (size_t i = 0; i < driver->count; i++) {
        const struct line *line = &driver->lines[i];
        if (line_is(line, "topic") && same(line, 0, book_at(book, at), 1)) {
            return strcmp(line_field(line, 2), "limit") == 0;
        }
    }
    return false;
}

/* Its one ack was accepted, in a group that has to have it. */
bool once_and_acked(const struct book *book, struct spot at)
{
    const char *group = group_of(book, at);
    struct spot next;

    return strcmp(group, "late") != 0 && strcmp(group, "audit") != 0
           && orderly(book, at) && !limited(book, at)
           && once_and_settled(book, at) && book_next(book, at, settles, &next)
           && strcmp(line_field(book_at(book, next), 1), "ack") == 0
           && book_next(book, at, answers, &next)
           && strcmp(line_field(book_at(book, next), 4), "accepted") == 0;
}

bool about_message(const struct line *line, const struct line *send)
{
    return (line_is(line, "ok") || line_is(line, "no"))
           && same(line, 0, send, 0) && same(line, 1, send, 1);
}

bool answered(const struct book *book, struct spot at)
{
    struct spot next;

    return book_next(book, at, about_message, &next);
}

/* The message of a `send` or `ok` came to somebody. */
bool arrived(const struct book *book, struct spot at)
{
    const struct line *line = book_at(book, at);

    for (size_t p = 0; p < book->count; p++) {
        for (size_t i = 0; i < book->pages[p].count; i++) {
            const struct line *got = &book->pages[p].lines[i];
            if (line_is(got, "got") && same(got, 4, line, 0)
                && same(got, 5, line, 1)) {
                return true;
            }
        }
    }
    return false;
}

bool arrived_with_seq(const struct book *book, struct spot at)
{
    return line_number(book_at(book, at), 2) != 0 && arrived(book, at);
}

bool same_session(const struct line *line, const struct line *attach)
{
    return line_is(line, "got") && same(line, 0, attach, 0);
}

bool pushed(const struct book *book, struct spot at)
{
    return strncmp(book->pages[at.page].name, "push", 4) == 0;
}

bool gave_something(const struct book *book, struct spot at)
{
    struct spot next;

    return book_next(book, at, same_session, &next);
}

bool not_first(const struct book *book, struct spot at)
{
    return at.line > 0 && book_at(book, at)->us > 0;
}

/* Settlements in this file that meet this outcome's first message. */
bool one_settlement(const struct book *book, struct spot at)
{
    const struct line *outcome = book_at(book, at);
    const struct page *page = &book->pages[at.page];
    unsigned count = 0;

    for (size_t i = 0; i < page->count; i++) {
        const struct line *line = &page->lines[i];
        count += line_is(line, "settle") && same(line, 2, outcome, 1)
                 && line_number(line, 3) <= line_number(outcome, 3)
                 && line_number(line, 4) >= line_number(outcome, 2);
    }
    return count == 1;
}
