/* From the text of a filter to its program: a token at a time, and one function
 * for each rule of the grammar, which writes its steps as it goes.
 *
 *   a && b    a; STEP_SKIP_IF_FALSE end; b; end:
 *   a || b    a; SKIP_IF_TRUE end; b; end:
 *   f in (x, y)    f == x; SKIP_IF_TRUE end; f == y; end:
 *
 * The first thing that is wrong ends it: `status` is set, and every function
 * returns at once. */
#include "broker/router/filter.h"

#include "broker/router/filter_impl.h"
#include "proto/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

enum token_kind {
    TOKEN_END,
    TOKEN_NAME,   /* bare */
    TOKEN_HEADER, /* h"name" */
    TOKEN_TEXT,
    TOKEN_NUMBER,
    TOKEN_OPEN,
    TOKEN_CLOSE,
    TOKEN_COMMA,
    TOKEN_AND,
    TOKEN_OR,
    TOKEN_NOT,
    TOKEN_IN,
    TOKEN_LIKE,
    TOKEN_HAS,
    TOKEN_EQUAL,
    TOKEN_UNEQUAL,
    TOKEN_LESS,
    TOKEN_LESS_EQUAL,
    TOKEN_MORE,
    TOKEN_MORE_EQUAL
};

struct token {
    enum token_kind kind;
    size_t from; /* its place in the text */
    size_t end;
    struct piece text; /* a header's name, a text, in `texts` */
};

struct parser {
    struct slice text;
    struct token token; /* the next one */
    size_t depth;
    enum status status;
    struct refusal *refusal;
    /* what has been written */
    size_t step_count;
    size_t term_count;
    size_t field_count;
    size_t texts_len;
    struct step steps[FILTER_LEN_MAX]; /* each comes of a byte at least */
    struct term terms[FILTER_TERMS_MAX];
    struct field fields[FILTER_TERMS_MAX];
    uint8_t texts[FILTER_LEN_MAX]; /* never longer than what they are from */
};

/* ---- what is wrong ---- */

/* In characters, from 1. */
static uint64_t column_of(struct slice text, size_t at)
{
    uint64_t column = 1;

    for (size_t i = 0; i < at; i++) {
        column += (text.at[i] & 0xc0) != 0x80;
    }
    return column;
}

static void fail_as(struct parser *p, enum status status, const char *limit,
                    size_t at, const char *what)
{
    uint64_t column = column_of(p->text, at);

    if (p->status != STATUS_OK) {
        return;
    }
    p->status = refuse(p->refusal, status, limit, "column %llu: %s",
                       (unsigned long long)column, what);
    p->refusal->used = column;
}

static void fail(struct parser *p, size_t at, const char *what)
{
    fail_as(p, STATUS_INVALID, "filter", at, what);
}

/* "expected ..., found ...", the latter cut short between two characters. */
static void expected(struct parser *p, const char *what)
{
    const struct token *token = &p->token;
    size_t len = token->end - token->from;
    char text[160];

    if (token->kind == TOKEN_END) {
        (void)snprintf(text, sizeof text, "expected %s, found the end", what);
    } else {
        bool whole = len <= 24;

        for (len = whole ? len : 24;
             !whole && (p->text.at[token->from + len] & 0xc0) == 0x80;) {
            len--;
        }
        (void)snprintf(text, sizeof text, "expected %s, found %.*s%s", what,
                       (int)len, (const char *)p->text.at + token->from,
                       whole ? "" : "...");
    }
    fail(p, token->from, text);
}

static void beyond(struct parser *p, const char *limit, size_t at,
                   const char *what, uint64_t used, uint64_t allowed)
{
    fail_as(p, STATUS_TOO_LARGE, limit, at, what);
    p->refusal->used = used;
    p->refusal->allowed = allowed;
}

/* ---- tokens ---- */

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool is_letter(uint8_t c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_';
}

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

static bool is_name(uint8_t c)
{
    return is_letter(c) || is_digit(c) || c == '.' || c == '-';
}

/* The byte there, 0 behind the end; a filter has no such byte. */
static uint8_t peek(const struct parser *p, size_t at)
{
    return at < p->text.len ? p->text.at[at] : 0;
}

static void add_byte(struct parser *p, uint8_t c)
{
    p->texts[p->texts_len++] = c;
}

/* From the quote at `at`. A * that stands for anything is told apart here. */
static void lex_quoted(struct parser *p, struct token *token, size_t at)
{
    uint8_t quote = peek(p, at);
    size_t i = at + 1;

    token->text.at = (uint16_t)p->texts_len;
    for (; i < p->text.len && p->text.at[i] != quote; i++) {
        uint8_t c = p->text.at[i];

        if (c == '\\') {
            c = peek(p, ++i);
            if (c != '"' && c != '\'' && c != '\\' && c != '*') {
                fail(
                    p, i - 1,
                    "a \\ stands before \", ', \\ or *; for itself write \\\\");
                return;
            }
        } else if (c == '*') {
            c = LIKE_ANY;
        }
        add_byte(p, c);
    }
    if (i >= p->text.len) {
        fail(p, at, "this text has no end: its quote is missing");
        return;
    }
    token->text.len = (uint16_t)(p->texts_len - token->text.at);
    token->end = i + 1;
}

static void lex_number(struct parser *p, struct token *token)
{
    size_t at = token->from
                + (peek(p, token->from) == '-' || peek(p, token->from) == '+');
    struct decimal ignored;
    struct slice text;

    while (is_name(peek(p, at))) {
        at++;
    }
    text = slice_of(p->text.at + token->from, at - token->from);
    if (!decimal_read(text, &ignored)) {
        fail(p, token->from,
             "a number is digits, with a sign and with digits behind a point "
             "if wanted; other things stand in quotes");
        return;
    }
    token->kind = TOKEN_NUMBER;
    token->end = at;
    token->text.at = (uint16_t)p->texts_len;
    token->text.len = (uint16_t)text.len;
    memcpy(p->texts + p->texts_len, text.at, text.len);
    p->texts_len += text.len;
}

static void lex_name(struct parser *p, struct token *token)
{
    static const struct {
        const char *word;
        enum token_kind kind;
    } words[] = { { "and", TOKEN_AND },   { "or", TOKEN_OR },
                  { "not", TOKEN_NOT },   { "in", TOKEN_IN },
                  { "like", TOKEN_LIKE }, { "has", TOKEN_HAS } };
    size_t len = 0;

    while (is_name(peek(p, token->from + len))) {
        len++;
    }
    token->kind = TOKEN_NAME;
    token->end = token->from + len;
    for (size_t i = 0; i < COUNT_OF(words); i++) {
        if (strlen(words[i].word) == len
            && strncasecmp(words[i].word,
                           (const char *)p->text.at + token->from, len)
                   == 0) {
            token->kind = words[i].kind;
        }
    }
}

/* The longer ones first. */
static void lex_sign(struct parser *p, struct token *token)
{
    static const struct {
        const char *sign;
        enum token_kind kind;
    } signs[] = { { "&&", TOKEN_AND },        { "||", TOKEN_OR },
                  { "==", TOKEN_EQUAL },      { "!=", TOKEN_UNEQUAL },
                  { "<=", TOKEN_LESS_EQUAL }, { ">=", TOKEN_MORE_EQUAL },
                  { "<", TOKEN_LESS },        { ">", TOKEN_MORE },
                  { "!", TOKEN_NOT },         { "(", TOKEN_OPEN },
                  { ")", TOKEN_CLOSE },       { ",", TOKEN_COMMA } };

    for (size_t i = 0; i < COUNT_OF(signs); i++) {
        size_t len = strlen(signs[i].sign);

        if (p->text.len - token->from >= len
            && memcmp(p->text.at + token->from, signs[i].sign, len) == 0) {
            token->kind = signs[i].kind;
            token->end = token->from + len;
            return;
        }
    }
    switch (peek(p, token->from)) {
    case '=':
        fail(p, token->from, "to compare write ==");
        break;
    case '&':
        fail(p, token->from, "write && or the word and");
        break;
    case '|':
        fail(p, token->from, "write || or the word or");
        break;
    default:
        fail(p, token->from,
             "this character means nothing here; texts stand "
             "in quotes");
    }
}

static void advance(struct parser *p)
{
    struct token *token = &p->token;
    size_t at = token->end;
    uint8_t c;

    while (is_blank(peek(p, at))) {
        at++;
    }
    *token = (struct token) { .kind = TOKEN_END, .from = at, .end = at };
    c = peek(p, at);
    if (at == p->text.len) {
        return;
    }
    if (c == '"' || c == '\'') {
        token->kind = TOKEN_TEXT;
        lex_quoted(p, token, at);
    } else if (c == 'h'
               && (peek(p, at + 1) == '"' || peek(p, at + 1) == '\'')) {
        token->kind = TOKEN_HEADER;
        lex_quoted(p, token, at + 1);
    } else if (is_letter(c)) {
        lex_name(p, token);
    } else if (is_digit(c) || c == '-' || c == '+') {
        lex_number(p, token);
    } else {
        lex_sign(p, token);
    }
}

/* True: it was there, and is passed. */
static bool take(struct parser *p, enum token_kind kind)
{
    if (p->status != STATUS_OK || p->token.kind != kind) {
        return false;
    }
    advance(p);
    return true;
}

static void need(struct parser *p, enum token_kind kind, const char *what)
{
    if (p->status == STATUS_OK && !take(p, kind)) {
        expected(p, what);
    }
}

/* ---- the program ---- */

/* Returns its place, for a jump that is to be led somewhere. */
static size_t add_step(struct parser *p, enum step_kind kind, size_t to)
{
    if (p->status != STATUS_OK) {
        return 0;
    }
    CHECK(p->step_count < COUNT_OF(p->steps));
    p->steps[p->step_count] = (struct step) { (uint16_t)kind, (uint16_t)to };
    return p->step_count++;
}

static void lead_here(struct parser *p, size_t jump)
{
    p->steps[jump].to = (uint16_t)p->step_count;
}

static void add_term(struct parser *p, const struct term *term, size_t at)
{
    if (p->status != STATUS_OK) {
        return;
    }
    if (p->term_count == FILTER_TERMS_MAX) {
        beyond(p, "filter_terms", at, "more comparisons than a filter may have",
               p->term_count + 1, FILTER_TERMS_MAX);
        return;
    }
    p->terms[p->term_count] = *term;
    (void)add_step(p, STEP_TEST, p->term_count++);
}

static bool piece_is(const struct parser *p, struct piece piece,
                     struct piece other)
{
    return piece.len == other.len
           && memcmp(p->texts + piece.at, p->texts + other.at, piece.len) == 0;
}

/* The same one again is the same field. */
static uint16_t add_field(struct parser *p, const struct field *field)
{
    size_t i = 0;

    while (i < p->field_count
           && (p->fields[i].kind != field->kind
               || !piece_is(p, p->fields[i].name, field->name))) {
        i++;
    }
    if (i == p->field_count && i < FILTER_TERMS_MAX) {
        p->fields[p->field_count++] = *field;
    }
    return (uint16_t)i; /* without room there is none for its term either */
}

/* ---- fields and literals ---- */

static struct piece keep_name(struct parser *p, const struct token *token)
{
    struct piece piece = { (uint16_t)p->texts_len,
                           (uint16_t)(token->end - token->from) };

    memcpy(p->texts + p->texts_len, p->text.at + token->from, piece.len);
    p->texts_len += piece.len;
    return piece;
}

static bool token_is(const struct parser *p, const struct token *token,
                     const char *word)
{
    return slice_is(
        slice_of(p->text.at + token->from, token->end - token->from), word);
}

/* Where nothing is like anything, a * is a *. */
static void unlike(struct parser *p, struct piece piece)
{
    for (size_t i = piece.at; i < (size_t)piece.at + piece.len; i++) {
        p->texts[i] = p->texts[i] == LIKE_ANY ? '*' : p->texts[i];
    }
}

static uint16_t parse_field(struct parser *p)
{
    struct token token = p->token;
    struct field field = { .kind = FIELD_HEADER };

    if (p->status != STATUS_OK) {
        return 0;
    }
    if (token.kind == TOKEN_HEADER && token.text.len == 0) {
        fail(p, token.from, "a header has a name");
    } else if (token.kind == TOKEN_HEADER) {
        unlike(p, token.text);
        field.name = token.text;
    } else if (token.kind != TOKEN_NAME) {
        expected(p, "key, tag or the name of a header");
    } else if (token_is(p, &token, "key")) {
        field.kind = FIELD_KEY;
    } else if (token_is(p, &token, "tag")) {
        field.kind = FIELD_TAG;
    } else {
        field.name = keep_name(p, &token);
    }
    if (p->status != STATUS_OK) {
        return 0;
    }
    advance(p);
    return add_field(p, &field);
}

static void parse_literal(struct parser *p, struct term *term)
{
    struct token token = p->token;

    if (p->status != STATUS_OK) {
        return;
    }
    term->literal = token.text;
    term->number = token.kind == TOKEN_NUMBER;
    if (token.kind == TOKEN_TEXT) {
        unlike(p, token.text);
    } else if (token.kind == TOKEN_NAME
               && (token_is(p, &token, "true")
                   || token_is(p, &token, "false"))) {
        term->literal = keep_name(p, &token);
    } else if (token.kind == TOKEN_NAME) {
        expected(p, "a text in quotes or a number");
    } else if (token.kind != TOKEN_NUMBER) {
        expected(p, "a text or a number");
    }
    if (p->status == STATUS_OK) {
        advance(p);
    }
}

/* ---- tests ---- */

/* "(x, y)": equal to one of them. */
static void parse_list(struct parser *p, uint16_t field)
{
    size_t jumps[FILTER_TERMS_MAX];
    size_t count = 0;

    need(p, TOKEN_OPEN, "(");
    for (;;) {
        struct term term = { .op = TERM_EQUAL, .field = field };
        size_t at = p->token.from;

        parse_literal(p, &term);
        add_term(p, &term, at);
        if (!take(p, TOKEN_COMMA)) {
            break;
        }
        jumps[count++] = add_step(p, STEP_SKIP_IF_TRUE, 0);
    }
    need(p, TOKEN_CLOSE, ") or a comma");
    while (count > 0) {
        lead_here(p, jumps[--count]);
    }
}

static void parse_like(struct parser *p, uint16_t field)
{
    struct term term = { .op = TERM_LIKE, .field = field };
    size_t at = p->token.from;

    term.literal = p->token.text;
    need(p, TOKEN_TEXT, "a text in quotes, such as \"eu*\"");
    add_term(p, &term, at);
}

static void parse_has(struct parser *p)
{
    struct term term = { .op = TERM_HAS };
    size_t at = p->token.from;

    need(p, TOKEN_OPEN, "( and the name of a header");
    term.field = parse_field(p);
    need(p, TOKEN_CLOSE, ")");
    add_term(p, &term, at);
}

static bool take_op(struct parser *p, enum term_op *op)
{
    static const struct {
        enum token_kind kind;
        enum term_op op;
    } ops[] = {
        { TOKEN_EQUAL, TERM_EQUAL }, { TOKEN_UNEQUAL, TERM_UNEQUAL },
        { TOKEN_LESS, TERM_LESS },   { TOKEN_LESS_EQUAL, TERM_LESS_EQUAL },
        { TOKEN_MORE, TERM_MORE },   { TOKEN_MORE_EQUAL, TERM_MORE_EQUAL }
    };

    for (size_t i = 0; i < COUNT_OF(ops); i++) {
        if (take(p, ops[i].kind)) {
            *op = ops[i].op;
            return true;
        }
    }
    return false;
}

static void parse_test(struct parser *p)
{
    struct term term = { 0 };
    size_t at = p->token.from;
    bool negated;

    if (take(p, TOKEN_HAS)) {
        parse_has(p);
        return;
    }
    term.field = parse_field(p);
    if (take_op(p, &term.op)) {
        parse_literal(p, &term);
        add_term(p, &term, at);
        return;
    }
    negated = take(p, TOKEN_NOT);
    if (take(p, TOKEN_IN)) {
        parse_list(p, term.field);
    } else if (take(p, TOKEN_LIKE)) {
        parse_like(p, term.field);
    } else if (p->status == STATUS_OK) {
        expected(p, negated ? "in or like"
                            : "a comparison (== != < <= > >= in like)");
    }
    if (negated) {
        (void)add_step(p, STEP_NOT, 0);
    }
}

/* ---- expressions ---- */

static void parse_or(struct parser *p);

static void parse_not(struct parser *p)
{
    size_t at = p->token.from;

    if (p->status != STATUS_OK) {
        return;
    }
    if (p->token.kind != TOKEN_NOT && p->token.kind != TOKEN_OPEN) {
        parse_test(p);
        return;
    }
    if (p->depth == FILTER_DEPTH_MAX) {
        beyond(p, "filter_depth", at, "nested deeper than a filter may be",
               p->depth + 1, FILTER_DEPTH_MAX);
        return;
    }
    p->depth++;
    if (take(p, TOKEN_NOT)) {
        parse_not(p);
        (void)add_step(p, STEP_NOT, 0);
    } else {
        (void)take(p, TOKEN_OPEN);
        parse_or(p);
        need(p, TOKEN_CLOSE, ")");
    }
    p->depth--;
}

/* One of two rules: `a and b and c`, `a or b or c`. Each skips to the end of
 * all: where the next would skip too, because the truth is the same there. */
static void parse_row(struct parser *p, enum token_kind between,
                      enum step_kind skip, void (*part)(struct parser *))
{
    size_t jump = 0;
    bool skips = false;

    part(p);
    while (take(p, between)) {
        size_t next = add_step(p, skip, 0);

        if (skips) {
            p->steps[jump].to = (uint16_t)next;
        }
        jump = next;
        skips = true;
        part(p);
    }
    if (skips) {
        lead_here(p, jump);
    }
}

static void parse_and(struct parser *p)
{
    parse_row(p, TOKEN_AND, STEP_SKIP_IF_FALSE, parse_not);
}

static void parse_or(struct parser *p)
{
    parse_row(p, TOKEN_OR, STEP_SKIP_IF_TRUE, parse_and);
}

static void parse(struct parser *p)
{
    advance(p);
    parse_or(p);
    if (p->status == STATUS_OK && p->token.kind != TOKEN_END) {
        expected(p, p->token.kind == TOKEN_CLOSE
                        ? "the end, for nothing is open here"
                        : "&& or ||, or the end");
    }
}

/* ---- the whole ---- */

static struct filter *pack(const struct parser *p)
{
    size_t terms_len = p->term_count * sizeof p->terms[0];
    size_t fields_len = p->field_count * sizeof p->fields[0];
    size_t steps_len = p->step_count * sizeof p->steps[0];
    struct filter *filter = malloc(sizeof *filter + terms_len + fields_len
                                   + steps_len + p->texts_len);

    if (filter == NULL) {
        return NULL;
    }
    filter->step_count = p->step_count;
    filter->term_count = p->term_count;
    filter->field_count = p->field_count;
    filter->terms = (struct term *)(filter + 1);
    filter->fields = (struct field *)(filter->terms + p->term_count);
    filter->steps = (struct step *)(filter->fields + p->field_count);
    filter->texts = (uint8_t *)(filter->steps + p->step_count);
    memcpy(filter->terms, p->terms, terms_len);
    memcpy(filter->fields, p->fields, fields_len);
    memcpy(filter->steps, p->steps, steps_len);
    memcpy(filter->texts, p->texts, p->texts_len);
    return filter;
}

_Static_assert(_Alignof(struct filter) >= _Alignof(struct term)
                   && _Alignof(struct term) >= _Alignof(struct field)
                   && _Alignof(struct field) >= _Alignof(struct step),
               "what stands behind a filter is where it may stand");

static enum status check_text(struct slice text, struct refusal *refusal)
{
    if (text.len > FILTER_LEN_MAX) {
        (void)refuse(refusal, STATUS_TOO_LARGE, "filter_len",
                     "the filter is longer than it may be");
        refusal->used = text.len;
        refusal->allowed = FILTER_LEN_MAX;
        return STATUS_TOO_LARGE;
    }
    if (!utf8_valid(text)
        || (text.len > 0 && memchr(text.at, '\0', text.len) != NULL)) {
        return refuse(refusal, STATUS_INVALID, "filter",
                      "a filter is UTF-8 without NUL");
    }
    return STATUS_OK;
}

enum status filter_compile(struct filter **out, struct slice text,
                           struct refusal *refusal)
{
    struct parser p;
    struct filter *filter;
    enum status status = check_text(text, refusal);

    if (status != STATUS_OK) {
        return status;
    }
    p.text = text;
    p.token = (struct token) { 0 };
    p.depth = p.step_count = p.term_count = p.field_count = p.texts_len = 0;
    p.status = STATUS_OK;
    p.refusal = refusal;
    parse(&p);
    if (p.status != STATUS_OK) {
        return p.status;
    }
    filter = pack(&p);
    if (filter == NULL) {
        return refuse(refusal, STATUS_NOMEM, "memory", "out of memory");
    }
    *out = filter;
    return STATUS_OK;
}
