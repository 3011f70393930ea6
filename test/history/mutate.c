/* history-mutate [BOOKS [FIRST-SEED]]
 *
 * The checker's own test: many good ledgers must be found good; each of them
 * with something dropped, duplicated, swapped, altered or invented must be
 * found bad. Where a change tells of a run that could have been good too (a
 * delivery to a client that died, say), it is not made. */
#include "test/history/facts.h"
#include "test/history/table.h"

#include <stdlib.h>
#include <string.h>

enum { EVENTS = 1200, GRACE_US = 15000 };

/* ---- drop, duplicate ---- */

struct plain_rule {
    const char *kind;
    bool (*good)(const struct book *book, struct spot at);
};

static bool used_topic(const struct book *book, struct spot at)
{
    for (size_t p = 0; p < book->count; p++) {
        for (size_t i = 0; i < book->pages[p].count; i++) {
            const struct line *line = &book->pages[p].lines[i];
            if (line_is(line, "send") && same(line, 2, book_at(book, at), 0)) {
                return true;
            }
        }
    }
    return false;
}

static const struct plain_rule droppable[] = {
    { "client", NULL },    { "topic", used_topic }, { "group", NULL },
    { "up", NULL },        { "kill", NULL },        { "drain", NULL },
    { "drained", NULL },   { "end", NULL },         { "dying", NULL },
    { "send", answered },  { "ok", orderly },       { "no", orderly },
    { "attach", orderly }, { "leave", orderly },    { "lost", orderly },
    { "pull", orderly },   { "pulled", orderly },   { "got", once_and_settled },
    { "settle", orderly }, { "outcome", orderly },  { "books", NULL },
    { "at", NULL },        { "dead", NULL },        { "expired", NULL },
};

static const struct plain_rule repeatable[] = {
    { "client", NULL },    { "topic", NULL },
    { "group", NULL },     { "up", NULL },
    { "kill", NULL },      { "drain", NULL },
    { "drained", NULL },   { "end", NULL },
    { "dying", NULL },     { "send", NULL },
    { "ok", NULL },        { "no", NULL },
    { "attach", NULL },    { "leave", NULL },
    { "lost", NULL },      { "pull", NULL },
    { "pulled", NULL },    { "got", once },
    { "settle", orderly }, { "outcome", one_settlement },
    { "books", NULL },     { "at", NULL },
    { "dead", NULL },      { "expired", NULL },
};

enum {
    DROPPABLE = sizeof droppable / sizeof *droppable,
    REPEATABLE = sizeof repeatable / sizeof *repeatable
};

static bool drop(struct book *book, size_t which, struct spot *at)
{
    const struct plain_rule *rule = &droppable[which];

    if (!book_pick(book, rule->kind, rule->good, at)) {
        return false;
    }
    book_drop(book, *at);
    return true;
}

static bool duplicate(struct book *book, size_t which, struct spot *at)
{
    const struct plain_rule *rule = &repeatable[which];

    if (!book_pick(book, rule->kind, rule->good, at)) {
        return false;
    }
    book_insert(book, *at, "%s", strchr(book_at(book, *at)->text, ' ') + 1);
    return true;
}

/* ---- a message that the broker lost, with all traces ---- */

static bool shrink(struct book *book, struct spot at, uint64_t seq)
{
    const struct line *line = book_at(book, at);
    size_t first = line_is(line, "settle") ? 3 : 2;

    if (line_number(line, first) == line_number(line, first + 1)) {
        book_drop(book, at);
    } else if (line_number(line, first) == seq) {
        book_alter_number(book, at, first, seq + 1);
    } else if (line_number(line, first + 1) == seq) {
        book_alter_number(book, at, first + 1, seq - 1);
    } else {
        return false;
    }
    return true;
}

static bool pulled_line(const struct line *line, const struct line *got)
{
    return line_is(line, "pulled") && same(line, 0, got, 0);
}

static bool books_line(const struct book *book, const char *group,
                       const struct line *got, struct spot *out)
{
    for (out->page = 0; out->page < book->count; out->page++) {
        for (out->line = 0; out->line < book->pages[out->page].count;
             out->line++) {
            const struct line *line = book_at(book, *out);
            if (line_is(line, "books") && same(line, 1, got, 1)
                && strcmp(line_field(line, 0), group) == 0) {
                return true;
            }
        }
    }
    return false;
}

static bool lose(struct book *book, bool cook_books, struct spot *at)
{
    struct spot next;
    const struct line *got;
    uint64_t seq;

    if (!book_pick(book, "got", once_and_acked, at)) {
        return false;
    }
    got = book_at(book, *at);
    seq = line_number(got, 2);
    book_drop(book, *at);
    if (!book_next(book, *at, settles, &next) || !shrink(book, next, seq)
        || !book_next(book, *at, answers, &next) || !shrink(book, next, seq)) {
        return false;
    }
    if (!pushed(book, *at) && book_next(book, *at, pulled_line, &next)) {
        book_alter_number(book, next, 1,
                          line_number(book_at(book, next), 1) - 1);
    }
    if (cook_books && books_line(book, group_of(book, *at), got, &next)) {
        const struct line *b = book_at(book, next);
        book_drop(book, next);
        book_insert(book, next, "books %s %s %llu %llu %s %s %s %s 0 0 0",
                    line_field(b, 0), line_field(b, 1),
                    (unsigned long long)line_number(b, 2) - 1,
                    (unsigned long long)line_number(b, 3) - 1, line_field(b, 4),
                    line_field(b, 5), line_field(b, 6), line_field(b, 7));
    }
    return true;
}

/* ---- swap ---- */

static void exchange(struct book *book, struct spot a, struct spot b)
{
    book_take(book, a, b);
    book_take(book, b, a);
}

static bool same_topic_ok(const struct line *line, const struct line *first)
{
    return line_is(line, "ok") && line_number(line, 2) != 0
           && !same(line, 2, first, 2);
}

static bool comparable_got(const struct line *line, const struct line *first)
{
    return line_is(line, "got") && same(line, 0, first, 0)
           && same(line, 1, first, 1) && !same(line, 2, first, 2);
}

static bool next_of_key(const struct line *line, const struct line *first)
{
    return comparable_got(line, first) && same(line, 4, first, 4)
           && same(line, 6, first, 6);
}

static bool next_send(const struct line *line, const struct line *first)
{
    return line_is(line, "send");
}

static bool settled_once(const struct book *book, struct spot at)
{
    struct spot next;

    return once_and_settled(book, at) && book_next(book, at, answers, &next);
}

static bool any_up(const struct line *line, const struct line *first)
{
    return line_is(line, "up");
}

static bool any_drained(const struct line *line, const struct line *first)
{
    return line_is(line, "drained");
}

/* No settlement between the two: only their order tells. */
static bool order_pair(const struct book *book, struct spot at)
{
    struct spot next;
    struct spot settled;

    return pushed(book, at)
           && strcmp(line_field(book_at(book, at), 3), "1") == 0
           && book_next(book, at, next_of_key, &next) && once(book, at)
           && once(book, next) && book_next(book, at, settles, &settled)
           && settled.line > next.line;
}

enum swap {
    SWAP_SEND_OK,
    SWAP_SENDS,
    SWAP_OK_SEQS,
    SWAP_GOT_SEQS,
    SWAP_GOT_SETTLE,
    SWAP_SETTLE_OUTCOME,
    SWAP_ATTACH_GOT,
    SWAP_KILL_UP,
    SWAP_DRAIN_DRAINED,
    SWAP_ORDER, /* in plain books: nobody leaves there */
    SWAPS
};

static bool swap_fields(struct book *book, struct spot a, struct spot b)
{
    book_alter(book, a, 2, line_field(book_at(book, b), 2));
    book_alter(book, b, 2, line_field(book_at(book, a), 2));
    return true;
}

static bool swap_lines(struct book *book, struct spot a,
                       bool (*good)(const struct line *line,
                                    const struct line *first))
{
    struct spot b;

    if (!book_next(book, a, good, &b)) {
        return false;
    }
    exchange(book, a, b);
    return true;
}

static bool swap(struct book *book, size_t which, struct spot *at)
{
    struct spot b;

    switch ((enum swap)which) {
    case SWAP_SEND_OK:
        return book_pick(book, "send", answered, at)
               && swap_lines(book, *at, about_message);
    case SWAP_SENDS:
        return book_pick(book, "send", answered, at)
               && swap_lines(book, *at, next_send);
    case SWAP_OK_SEQS:
        return book_pick(book, "ok", arrived_with_seq, at)
               && book_next(book, *at, same_topic_ok, &b)
               && arrived_with_seq(book, b) && swap_fields(book, *at, b);
    case SWAP_GOT_SEQS:
        return book_pick(book, "got", once, at)
               && book_next(book, *at, comparable_got, &b) && once(book, b)
               && swap_fields(book, *at, b);
    case SWAP_GOT_SETTLE:
        return book_pick(book, "got", settled_once, at)
               && swap_lines(book, *at, settles);
    case SWAP_SETTLE_OUTCOME:
        return book_pick(book, "got", settled_once, at)
               && book_next(book, *at, settles, &b)
               && book_next(book, *at, answers, &b)
               && swap_lines(book, *at, answers);
    case SWAP_ATTACH_GOT:
        return book_pick(book, "attach", gave_something, at)
               && swap_lines(book, *at, same_session);
    case SWAP_KILL_UP:
        return book_pick(book, "kill", NULL, at)
               && swap_lines(book, *at, any_up);
    case SWAP_DRAIN_DRAINED:
        return book_pick(book, "drain", NULL, at)
               && swap_lines(book, *at, any_drained);
    case SWAP_ORDER:
        return book_pick(book, "got", order_pair, at)
               && swap_lines(book, *at, next_of_key);
    case SWAPS:
        break;
    }
    return false;
}

/* ---- alter ---- */

struct alteration {
    const char *kind;
    size_t field;
    const char *value; /* NULL: the number and one, "-": minus one */
    bool (*good)(const struct book *book, struct spot at);
};

static bool has_seq(const struct book *book, struct spot at)
{
    return arrived_with_seq(book, at);
}

static bool not_zero(const struct book *book, struct spot at)
{
    return line_number(book_at(book, at), 3) > 0;
}

/* The second attempt, because the first was nacked here; nobody was killed. */
static bool second_after_nack(const struct book *book, struct spot at)
{
    const struct line *got = book_at(book, at);
    const struct line *before = NULL;

    if (line_number(got, 3) != 2 || in_group(book, at, "got") != 2) {
        return false;
    }
    for (size_t i = 0; i < book->pages[0].count; i++) {
        if (line_is(&book->pages[0].lines[i], "kill")) {
            return false;
        }
    }
    for (size_t i = 0; i < at.line; i++) {
        const struct line *line = &book->pages[at.page].lines[i];
        if (settles(line, got)) {
            before = line;
        }
    }
    return before != NULL && strcmp(line_field(before, 1), "nack") == 0;
}

static bool acked_alone(const struct book *book, struct spot at)
{
    const struct line *outcome = book_at(book, at);
    const struct page *page = &book->pages[at.page];

    if (strcmp(line_field(outcome, 4), "accepted") != 0
        || line_number(outcome, 2) != line_number(outcome, 3)) {
        return false;
    }
    for (size_t i = 0; i < at.line; i++) {
        const struct line *got = &page->lines[i];
        if (line_is(got, "got") && same(got, 1, outcome, 1)
            && same(got, 2, outcome, 2)) {
            return once_and_acked(book, (struct spot) { at.page, i });
        }
    }
    return false;
}

/* A message with a time of its own. */
static bool arrived_late(const struct book *book, struct spot at)
{
    return line_field(book_at(book, at), 5)[0] != '\0' && arrived(book, at);
}

static bool worn_out(const struct book *book, struct spot at)
{
    return strcmp(line_field(book_at(book, at), 4), "reject") != 0;
}

static const struct alteration alterations[] = {
    { "got", 0, "999999", NULL },
    { "got", 1, "nowhere", NULL },
    { "got", 2, NULL, once },
    { "got", 2, "-", once },
    { "got", 3, "0", NULL },
    { "got", 3, "x", NULL },
    { "got", 3, "1", second_after_nack },
    { "got", 4, "nobody", NULL },
    { "got", 5, NULL, once },
    { "got", 5, "99999999", NULL },
    { "got", 6, "k77", NULL },
    { "got", 7, NULL, NULL },
    { "send", 0, "nobody", arrived },
    { "send", 1, NULL, answered },
    { "send", 2, "nowhere", arrived },
    { "send", 3, "k77", arrived },
    { "send", 4, NULL, arrived },
    { "send", 5, "999999999999", arrived_late },
    { "redrive", 2, "0", NULL },
    { "ok", 0, "nobody", NULL },
    { "ok", 1, NULL, orderly },
    { "ok", 2, NULL, has_seq },
    { "ok", 2, "-", has_seq },
    { "ok", 2, "123456789", NULL },
    { "no", 1, NULL, orderly },
    { "attach", 0, "999999", gave_something },
    { "attach", 1, "nobody", NULL },
    { "attach", 2, "gamma", gave_something },
    { "leave", 0, "999999", NULL },
    { "lost", 0, "999999", NULL },
    { "pulled", 1, NULL, NULL },
    { "settle", 1, "think", NULL },
    { "settle", 3, "0", NULL },
    { "settle", 4, "123456789", NULL },
    { "outcome", 4, "perhaps", NULL },
    { "outcome", 4, "late", acked_alone },
    { "outcome", 3, "123456789", NULL },
    { "books", 2, NULL, NULL },
    { "books", 3, NULL, NULL },
    { "books", 3, "-", not_zero },
    { "books", 4, NULL, NULL },
    { "books", 5, NULL, NULL },
    { "books", 6, NULL, NULL },
    { "books", 7, NULL, NULL },
    { "books", 8, NULL, NULL },
    { "books", 9, NULL, NULL },
    { "books", 10, NULL, NULL },
    { "at", 1, NULL, NULL },
    { "at", 1, "-", NULL },
    { "at", 2, NULL, NULL },
    { "topic", 1, "gamma", used_topic },
    { "group", 2, "nowhere", NULL },
    { "dead", 2, NULL, NULL },
    { "dead", 3, NULL, worn_out },
    { "dead", 4, "-", NULL },
    { "dead", 6, NULL, NULL },
    { "dead", 7, "k77", NULL },
    { "dead", 8, NULL, NULL },
    { "expired", 2, NULL, NULL },
    { "dying", 0, "nobody", NULL },
};

enum { ALTERATIONS = sizeof alterations / sizeof *alterations };

static bool alter(struct book *book, size_t which, struct spot *at)
{
    const struct alteration *a = &alterations[which];
    uint64_t number;

    if (!book_pick(book, a->kind, a->good, at)) {
        return false;
    }
    number = line_number(book_at(book, *at), a->field);
    if (a->value != NULL && (strcmp(a->value, "-") != 0 || a->field == 4)) {
        book_alter(book, *at, a->field, a->value);
    } else {
        book_alter_number(book, *at, a->field,
                          a->value == NULL ? number + 1 : number - 1);
    }
    return true;
}

/* ---- invent ---- */

enum invention {
    INVENT_GOT_UNSENT,
    INVENT_GOT_AFTER_ACK,
    INVENT_GOT_ELSEWHERE_AFTER_ACK,
    INVENT_SECOND_LEASE, /* in plain books */
    INVENT_OK,
    INVENT_SETTLE,
    INVENT_OUTCOME,
    INVENT_GAP,
    INVENT_DEAD,
    INVENT_EXPIRED,
    INVENT_POSITION,
    INVENT_LOST,
    INVENT_KILL,
    INVENT_TIME,
    INVENT_NONSENSE,
    INVENTIONS
};

static bool pushed_and_acked(const struct book *book, struct spot at)
{
    return pushed(book, at) && once_and_acked(book, at);
}

static bool open_session(const struct line *line, const struct line *attach)
{
    return (line_is(line, "lost") || line_is(line, "leave"))
           && same(line, 0, attach, 0);
}

/* A line of another member of the group, more than the grace after `us`. */
static bool later_elsewhere(const struct book *book, struct spot acked,
                            uint64_t us, struct spot *out)
{
    const char *group = group_of(book, acked);

    for (out->page = 0; out->page < book->count; out->page++) {
        const struct page *page = &book->pages[out->page];
        if (out->page == acked.page || !pushed(book, *out)) {
            continue;
        }
        for (out->line = 0; out->line < page->count; out->line++) {
            if (line_is(book_at(book, *out), "got")
                && book_at(book, *out)->us > us + GRACE_US
                && strcmp(group_of(book, *out), group) == 0) {
                return true;
            }
        }
    }
    return false;
}

static bool invent_after_ack(struct book *book, bool elsewhere, struct spot *at)
{
    struct spot acked;
    struct spot where;
    const struct line *got;

    if (!book_pick(book, "got", pushed_and_acked, at)
        || !book_next(book, *at, answers, &acked)) {
        return false;
    }
    got = book_at(book, *at);
    where = acked;
    if (elsewhere
        && !later_elsewhere(book, acked, book_at(book, acked)->us, &where)) {
        return false;
    }
    book_insert(book, where, "got %s %s %s 9 %s %s %s %s",
                line_field(book_at(book, where), 0), line_field(got, 1),
                line_field(got, 2), line_field(got, 4), line_field(got, 5),
                line_field(got, 6), line_field(got, 7));
    return true;
}

/* The line of another page that stands last before `us`, if a delivery. */
static bool just_before(const struct book *book, struct spot got, uint64_t us,
                        struct spot *out)
{
    for (out->page = 0; out->page < book->count; out->page++) {
        const struct page *page = &book->pages[out->page];
        if (out->page == got.page || !pushed(book, *out)) {
            continue;
        }
        for (out->line = 0; out->line < page->count; out->line++) {
            const struct line *line = book_at(book, *out);
            if (line->us > us && line_is(line, "got") && line->us < us + 2000
                && strcmp(group_of(book, *out), group_of(book, got)) == 0) {
                return true;
            }
        }
    }
    return false;
}

static bool invent_lease(struct book *book, struct spot *at)
{
    struct spot where;
    struct spot ended;
    const struct line *got;

    if (!book_pick(book, "got", pushed_and_acked, at)
        || !just_before(book, *at, book_at(book, *at)->us, &where)
        || (book_next(book, *at, open_session, &ended)
            && book_at(book, ended)->us
                   <= book_at(book, where)->us + 2 * GRACE_US)) {
        return false;
    }
    got = book_at(book, *at);
    book_insert(book, where, "got %s %s %s 2 %s %s %s %s",
                line_field(book_at(book, where), 0), line_field(got, 1),
                line_field(got, 2), line_field(got, 4), line_field(got, 5),
                line_field(got, 6), line_field(got, 7));
    return true;
}

static bool not_damaged(const struct book *book)
{
    const struct page *driver = &book->pages[0];

    for (size_t i = 0; i < driver->count; i++) {
        if (strcmp(line_field(&driver->lines[i], 0), "damage") == 0) {
            return false;
        }
    }
    return true;
}

static bool invent_at_end(struct book *book, const char *kind, struct spot *at)
{
    struct spot end = { 0, book->pages[0].count - 2 };
    const struct line *got;

    if (!book_pick(book, "got", once_and_acked, at)) {
        return false;
    }
    got = book_at(book, *at);
    if (strcmp(kind, "dead") == 0) {
        book_insert(book, end, "dead %s %s %s 3 nacked %s %s %s %s",
                    group_of(book, *at), line_field(got, 1), line_field(got, 2),
                    line_field(got, 4), line_field(got, 5), line_field(got, 6),
                    line_field(got, 7));
    } else {
        book_insert(book, end, "expired %s %s %s", group_of(book, *at),
                    line_field(got, 1), line_field(got, 2));
    }
    return true;
}

static bool invent_in_session(struct book *book, enum invention which,
                              struct spot *at)
{
    struct spot got;
    const struct line *line;

    if (!book_pick(book, "attach", gave_something, at)
        || !book_next(book, *at, same_session, &got)) {
        return false;
    }
    line = book_at(book, got);
    if (which == INVENT_SETTLE) { /* before it was delivered at all */
        if (line_number(line, 0) != 1) {
            return false;
        }
        book_insert(book, *at, "settle 1 ack %s %s %s", line_field(line, 1),
                    line_field(line, 2), line_field(line, 2));
    } else if (which == INVENT_OUTCOME) {
        if (line_number(line, 0) != 1) {
            return false;
        }
        book_insert(book, got, "outcome 1 %s %s %s accepted",
                    line_field(line, 1), line_field(line, 2),
                    line_field(line, 2));
    } else if (which == INVENT_GAP) {
        if (!not_damaged(book)) {
            return false;
        }
        book_insert(book, got, "gap %s %s %s %s", line_field(line, 0),
                    line_field(line, 1), line_field(line, 2),
                    line_field(line, 2));
    } else {
        book_insert(book, got, "got %s %s %s 1 %s 77777777 %s %s",
                    line_field(line, 0), line_field(line, 1),
                    line_field(line, 2), line_field(line, 4),
                    line_field(line, 6), line_field(line, 7));
    }
    return true;
}

static bool told(struct book *book, const char *kind, struct spot *at,
                 const char *text)
{
    if (!book_pick(book, kind, NULL, at)) {
        return false;
    }
    book_insert(book, *at, "%s", text);
    return true;
}

static bool invent_elsewhere(struct book *book, enum invention which,
                             struct spot *at)
{
    if (which == INVENT_OK) {
        if (!book_pick(book, "send", NULL, at)) {
            return false;
        }
        book_insert(book, *at, "ok %s 77777777 1 0",
                    line_field(book_at(book, *at), 0));
        return true;
    }
    if (which == INVENT_POSITION) {
        if (!book_pick(book, "at", NULL, at)) {
            return false;
        }
        book_insert(book, *at, "at %s 0 0 0",
                    line_field(book_at(book, *at), 0));
        return true;
    }
    if (which == INVENT_TIME) {
        if (!book_pick(book, NULL, not_first, at)) {
            return false;
        }
        book_alter_time(book, *at, 0);
        return true;
    }
    return which == INVENT_KILL   ? told(book, "kill", at, "kill")
           : which == INVENT_LOST ? told(book, "got", at, "lost 999999")
                                  : told(book, "got", at, "got got got");
}

static bool invent(struct book *book, size_t which, struct spot *at)
{
    switch ((enum invention)which) {
    case INVENT_GOT_AFTER_ACK:
    case INVENT_GOT_ELSEWHERE_AFTER_ACK:
        return invent_after_ack(book, which != INVENT_GOT_AFTER_ACK, at);
    case INVENT_SECOND_LEASE:
        return invent_lease(book, at);
    case INVENT_DEAD:
        return invent_at_end(book, "dead", at);
    case INVENT_EXPIRED:
        return invent_at_end(book, "expired", at);
    case INVENT_GOT_UNSENT:
    case INVENT_SETTLE:
    case INVENT_OUTCOME:
    case INVENT_GAP:
        return invent_in_session(book, (enum invention)which, at);
    case INVENT_OK:
    case INVENT_POSITION:
    case INVENT_LOST:
    case INVENT_KILL:
    case INVENT_TIME:
    case INVENT_NONSENSE:
        return invent_elsewhere(book, (enum invention)which, at);
    case INVENTIONS:
        break;
    }
    return false;
}

/* ---- all of it ---- */

struct family {
    const char *name;
    size_t count;
    bool (*apply)(struct book *book, size_t which, struct spot *at);
};

static bool lose_one(struct book *book, size_t which, struct spot *at)
{
    return lose(book, which == 1, at);
}

static const struct family families[] = {
    { "drop", DROPPABLE, drop },     { "duplicate", REPEATABLE, duplicate },
    { "lose", 2, lose_one },         { "swap", SWAPS, swap },
    { "alter", ALTERATIONS, alter }, { "invent", INVENTIONS, invent },
};

enum { FAMILIES = sizeof families / sizeof *families, WHICH_MAX = 128 };

struct totals {
    uint64_t good, false_alarms;
    uint64_t made[FAMILIES][WHICH_MAX];
    uint64_t missed[FAMILIES];
    uint64_t rules[RULE_COUNT]; /* how often each invariant spoke */
};

/* Some changes need a book in which nobody leaves, or one in which some do. */
static bool fits(const struct family *family, size_t which, bool plain)
{
    if (family->apply == swap && which == SWAP_ORDER) {
        return plain;
    }
    if (family->apply == invent && which == INVENT_SECOND_LEASE) {
        return plain;
    }
    return true;
}

static void mutate_one(struct book *book, struct totals *totals, size_t f,
                       size_t which, uint64_t seed)
{
    struct history_figures figures;
    struct spot at = { 0, 0 };

    if (!families[f].apply(book, which, &at)) {
        book_forget(book);
        return;
    }
    totals->made[f][which]++;
    if (book_check(book, &figures, NULL)) {
        totals->missed[f]++;
        (void)printf("MISSED: seed %llu, %s %zu at %s:%zu: %s\n",
                     (unsigned long long)seed, families[f].name, which,
                     book->pages[at.page].name, at.line + 1,
                     book_at(book, at)->text);
    }
    for (int i = 0; i < RULE_COUNT; i++) {
        totals->rules[i] += figures.faults[i] > 0;
    }
}

static void mutate_book(struct totals *totals, uint64_t seed, bool mutations)
{
    bool plain = seed % 4 == 0;
    struct history_figures figures;
    struct book book;

    book_make(&book, seed, EVENTS, plain);
    totals->good++;
    if (!book_check(&book, &figures, stdout)) {
        totals->false_alarms++;
        (void)printf("FALSE ALARM: seed %llu\n", (unsigned long long)seed);
        mutations = false;
    }
    for (size_t f = 0; mutations && f < FAMILIES; f++) {
        for (size_t which = 0; which < families[f].count; which++) {
            if (fits(&families[f], which, plain)) {
                mutate_one(&book, totals, f, which, seed);
            }
        }
    }
    book_fini(&book);
}

static bool report(const struct totals *totals)
{
    uint64_t bad = totals->false_alarms;

    (void)printf("%llu good books, %llu false alarms\n",
                 (unsigned long long)totals->good,
                 (unsigned long long)totals->false_alarms);
    for (size_t f = 0; f < FAMILIES; f++) {
        uint64_t made = 0;
        for (size_t which = 0; which < families[f].count; which++) {
            made += totals->made[f][which];
            if (totals->made[f][which] == 0) {
                (void)printf("NEVER MADE: %s %zu\n", families[f].name, which);
                bad++;
            }
        }
        bad += totals->missed[f];
        (void)printf("%-9s %6llu made in %zu ways, %llu missed\n",
                     families[f].name, (unsigned long long)made,
                     families[f].count, (unsigned long long)totals->missed[f]);
    }
    for (int i = 0; i < RULE_COUNT; i++) {
        (void)printf("invariant %2d spoke of %6llu of them (%s)\n", i,
                     (unsigned long long)totals->rules[i],
                     history_rule_text(i));
        bad += totals->rules[i] == 0;
    }
    return bad == 0;
}

int main(int argc, char **argv)
{
    uint64_t books = argc > 1 ? strtoull(argv[1], NULL, 10) : 40;
    uint64_t first = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    struct totals totals = { .good = 0 };

    for (uint64_t seed = first; seed < first + books; seed++) {
        mutate_book(&totals, seed, true);
    }
    /* Good ones alone are cheap: many more, against false alarms. */
    for (uint64_t seed = first + books; seed < first + 20 * books; seed++) {
        mutate_book(&totals, seed, false);
    }
    return report(&totals) ? 0 : 1;
}
