/* Running a filter. */
#include "broker/router/filter.h"

#include "broker/router/filter_impl.h"

#include <stdlib.h>

/* One evaluation. Each field is looked for once, when a term asks for it. */
struct run {
    const struct filter *filter;
    const struct wire_message *message;
    uint64_t looked;  /* bit by field */
    uint64_t present; /* of those that were looked for */
    struct slice values[FILTER_TERMS_MAX];
    size_t cost;
};

_Static_assert(FILTER_TERMS_MAX <= 64, "a field of each term has a bit");

void filter_free(struct filter *filter)
{
    free(filter);
}

static struct slice piece_of(const struct filter *filter, struct piece piece)
{
    return slice_of(filter->texts + piece.at, piece.len);
}

/* ---- numbers ---- */

static size_t digits_at(struct slice text, size_t from)
{
    size_t at = from;

    while (at < text.len && text.at[at] >= '0' && text.at[at] <= '9') {
        at++;
    }
    return at - from;
}

static struct slice without_zeros_before(struct slice digits)
{
    while (digits.len > 0 && digits.at[0] == '0') {
        digits = slice_of(digits.at + 1, digits.len - 1);
    }
    return digits;
}

static struct slice without_zeros_behind(struct slice digits)
{
    while (digits.len > 0 && digits.at[digits.len - 1] == '0') {
        digits.len--;
    }
    return digits;
}

bool decimal_read(struct slice text, struct decimal *out)
{
    size_t sign = text.len > 0 && (text.at[0] == '-' || text.at[0] == '+');
    size_t whole = digits_at(text, sign);
    size_t point = sign + whole;
    size_t fraction = 0;

    if (whole == 0) {
        return false;
    }
    if (point < text.len) {
        fraction = digits_at(text, point + 1);
        if (text.at[point] != '.' || fraction == 0
            || point + 1 + fraction != text.len) {
            return false;
        }
    }
    out->whole = without_zeros_before(slice_of(text.at + sign, whole));
    out->fraction =
        fraction == 0
            ? slice_of(NULL, 0)
            : without_zeros_behind(slice_of(text.at + point + 1, fraction));
    out->negative = text.at[0] == '-' && out->whole.len + out->fraction.len > 0;
    return true;
}

static int compare_bytes(struct slice a, struct slice b)
{
    size_t len = a.len < b.len ? a.len : b.len;
    int order = len == 0 ? 0 : memcmp(a.at, b.at, len);

    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

/* More digits before the point are a larger number; behind it they go from the
 * left like a text. */
static int compare_magnitudes(const struct decimal *a, const struct decimal *b)
{
    int order = (a->whole.len > b->whole.len) - (a->whole.len < b->whole.len);

    if (order == 0) {
        order = compare_bytes(a->whole, b->whole);
    }
    return order != 0 ? order : compare_bytes(a->fraction, b->fraction);
}

static int compare_decimals(const struct decimal *a, const struct decimal *b)
{
    if (a->negative != b->negative) {
        return a->negative ? -1 : 1;
    }
    return a->negative ? compare_magnitudes(b, a) : compare_magnitudes(a, b);
}

/* ---- terms ---- */

/* Where `part` begins in the text, at the earliest; text.len: nowhere. */
static size_t find(struct slice text, struct slice part)
{
    const uint8_t *at =
        part.len == 0 ? text.at : memmem(text.at, text.len, part.at, part.len);

    return at == NULL ? text.len + 1 : (size_t)(at - text.at);
}

/* NULL: there is none any more. */
static const uint8_t *next_any(struct slice pattern)
{
    return pattern.len == 0 ? NULL : memchr(pattern.at, LIKE_ANY, pattern.len);
}

/* The pattern is parts with LIKE_ANY between. The first and the last stand at
 * the ends, those between where they come first: taking them as early as they
 * come leaves most to the rest. No byte of the text is searched twice. */
static bool is_like(struct slice text, struct slice pattern)
{
    const uint8_t *any = next_any(pattern);
    bool first = true;

    while (any != NULL) {
        struct slice part = slice_of(pattern.at, (size_t)(any - pattern.at));
        size_t at = find(text, part);

        if (at + part.len > text.len || (first && at != 0)) {
            return false;
        }
        text = slice_of(text.at + at + part.len, text.len - at - part.len);
        pattern = slice_of(any + 1, pattern.len - part.len - 1);
        any = next_any(pattern);
        first = false;
    }
    if (text.len < pattern.len || (first && text.len != pattern.len)) {
        return false;
    }
    return slice_equal(pattern,
                       slice_of(text.at + text.len - pattern.len, pattern.len));
}

static bool holds(enum term_op op, int order)
{
    switch (op) {
    case TERM_EQUAL:
        return order == 0;
    case TERM_UNEQUAL:
        return order != 0;
    case TERM_LESS:
        return order < 0;
    case TERM_LESS_EQUAL:
        return order <= 0;
    case TERM_MORE:
        return order > 0;
    case TERM_MORE_EQUAL:
        return order >= 0;
    case TERM_HAS:
    case TERM_LIKE:
        break;
    }
    return false;
}

static bool header_value(struct run *run, struct slice name, struct slice *out)
{
    const struct wire_message *message = run->message;

    for (size_t i = 0; i < message->header_count; i++) {
        struct slice other = message->headers[i].name;

        run->cost += other.len == name.len ? 1 + name.len : 1;
        if (slice_equal(other, name)) {
            *out = message->headers[i].value;
            return true;
        }
    }
    return false;
}

static bool look_for(struct run *run, const struct field *field,
                     struct slice *out)
{
    switch (field->kind) {
    case FIELD_KEY:
        *out = run->message->key;
        return out->len > 0;
    case FIELD_TAG:
        *out = run->message->tag;
        return out->len > 0;
    case FIELD_HEADER:
        return header_value(run, piece_of(run->filter, field->name), out);
    }
    return false;
}

/* False: it is missing. */
static bool field_value(struct run *run, uint16_t index, struct slice *out)
{
    uint64_t bit = UINT64_C(1) << index;

    if ((run->looked & bit) == 0) {
        run->looked |= bit;
        run->present |=
            look_for(run, &run->filter->fields[index], &run->values[index])
                ? bit
                : 0;
    }
    *out = run->values[index];
    return (run->present & bit) != 0;
}

static bool test_number(const struct term *term, struct slice value,
                        struct slice literal)
{
    struct decimal left;
    struct decimal right;

    if (!decimal_read(value, &left) || !decimal_read(literal, &right)) {
        return term->op == TERM_UNEQUAL;
    }
    return holds(term->op, compare_decimals(&left, &right));
}

static bool test(struct run *run, const struct term *term)
{
    struct slice literal = piece_of(run->filter, term->literal);
    struct slice value = { 0 };

    if (!field_value(run, term->field, &value)) {
        return term->op == TERM_UNEQUAL;
    }
    if (term->op == TERM_HAS) {
        return true;
    }
    if (value.len == 0) {
        value = slice_text(""); /* somewhere, and of no length */
    }
    CHECK(value.at != NULL);
    run->cost += value.len + literal.len;
    if (term->number) {
        return test_number(term, value, literal);
    }
    if (term->op == TERM_LIKE) {
        return is_like(value, literal);
    }
    return holds(term->op, compare_bytes(value, literal));
}

/* ---- the program ---- */

bool filter_match_cost(const struct filter *filter,
                       const struct wire_message *message, size_t *cost)
{
    struct run run;
    bool truth = false;
    size_t at = 0;

    run.filter = filter;
    run.message = message;
    run.looked = run.present = 0; /* the values are filled as they are asked */
    run.cost = 0;
    while (at < filter->step_count) {
        const struct step *step = &filter->steps[at++];

        switch ((enum step_kind)step->kind) {
        case STEP_TEST:
            truth = test(&run, &filter->terms[step->to]);
            break;
        case STEP_NOT:
            truth = !truth;
            break;
        case STEP_SKIP_IF_TRUE:
            at = truth ? step->to : at;
            break;
        case STEP_SKIP_IF_FALSE:
            at = truth ? at : step->to;
            break;
        }
    }
    *cost = run.cost;
    return truth;
}

bool filter_match(const struct filter *filter,
                  const struct wire_message *message)
{
    size_t cost;

    return filter_match_cost(filter, message, &cost);
}
