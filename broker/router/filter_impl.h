/* A compiled filter: steps in a row that work on one truth value and jump
 * forward only, so that no evaluation is longer than the program. Shared by
 * filter_parse.c, which makes it, and filter.c, which runs it. */
#ifndef GODWIT_BROKER_ROUTER_FILTER_IMPL_H
#define GODWIT_BROKER_ROUTER_FILTER_IMPL_H

#include "broker/router/filter.h"

enum step_kind {
    STEP_TEST,         /* the truth becomes that of term `to` */
    STEP_NOT,          /* it becomes the opposite */
    STEP_SKIP_IF_TRUE, /* on with step `to` */
    STEP_SKIP_IF_FALSE
};

struct step {
    uint16_t kind;
    uint16_t to;
};

/* A piece of the filter's texts. */
struct piece {
    uint16_t at;
    uint16_t len;
};

enum field_kind { FIELD_KEY, FIELD_TAG, FIELD_HEADER };

struct field {
    enum field_kind kind;
    struct piece name; /* of the header */
};

enum term_op {
    TERM_HAS,
    TERM_EQUAL,
    TERM_UNEQUAL,
    TERM_LESS,
    TERM_LESS_EQUAL,
    TERM_MORE,
    TERM_MORE_EQUAL,
    TERM_LIKE
};

struct term {
    enum term_op op;
    bool number; /* the literal is one */
    uint16_t field;
    struct piece literal;
};

/* In the text of a `like`: any run of bytes. In no UTF-8. */
enum { LIKE_ANY = 0xff };

/* All that depends on the text stands behind it in one piece of memory. */
struct filter {
    size_t step_count;
    size_t term_count;
    size_t field_count;
    struct term *terms;
    struct field *fields;
    struct step *steps;
    uint8_t *texts;
};

/* A number as its digits, without zeros that say nothing. */
struct decimal {
    bool negative;
    struct slice whole;
    struct slice fraction;
};

/* False: no number. */
bool decimal_read(struct slice text, struct decimal *out);

#endif
