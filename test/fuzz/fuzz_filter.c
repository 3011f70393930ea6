/* links: godwit_router godwit_proto */
/* A filter and a message: the first line is the filter, each of the others a
 * header, "name=value". What compiles says the opposite when it is negated and
 * costs no more than the bound; what does not names a column inside the text. */
#include "broker/router/filter.h"
#include "proto/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t len);

static struct slice line(struct slice *rest, uint8_t end)
{
    const uint8_t *at =
        rest->len == 0 ? NULL : memchr(rest->at, end, rest->len);
    struct slice out =
        slice_of(rest->at, at == NULL ? rest->len : (size_t)(at - rest->at));
    size_t passed = at == NULL ? rest->len : out.len + 1;

    *rest = slice_of(rest->at + passed, rest->len - passed);
    return out;
}

/* The first header is the key, the second the tag. */
static void read_message(struct slice rest, struct wire_message *out)
{
    out->key = line(&rest, '\n');
    out->tag = line(&rest, '\n');
    while (rest.len > 0 && out->header_count < HEADER_COUNT_MAX) {
        struct slice header = line(&rest, '\n');
        struct slice name = line(&header, '=');

        out->headers[out->header_count++] =
            (struct wire_header) { name, header };
    }
}

static void check_refused(struct slice text, enum status status,
                          const struct refusal *refusal)
{
    CHECK(refusal->status == status && refusal->text[0] != '\0');
    CHECK(utf8_valid(slice_text(refusal->text)));
    if (status == STATUS_INVALID && refusal->used > 0) {
        CHECK(refusal->used <= text.len + 1);
    }
}

static bool match(const struct filter *filter,
                  const struct wire_message *message)
{
    size_t cost;
    bool truth = filter_match_cost(filter, message, &cost);

    CHECK(cost <= FILTER_COST_MAX);
    return truth;
}

/* Refused only when it is too long or too deep with this in addition. */
static void check_negated(struct slice text, const struct wire_message *message,
                          bool truth)
{
    uint8_t negated[FILTER_LEN_MAX + 3];
    struct filter *filter;
    struct refusal refusal;
    enum status status;

    negated[0] = '!';
    negated[1] = '(';
    memcpy(negated + 2, text.at, text.len);
    negated[2 + text.len] = ')';
    status = filter_compile(&filter, slice_of(negated, text.len + 3), &refusal);
    CHECK(status == STATUS_OK || status == STATUS_TOO_LARGE);
    if (status == STATUS_OK) {
        CHECK(match(filter, message) == !truth);
        filter_free(filter);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t len)
{
    struct slice rest = slice_of(at, len);
    struct slice text = line(&rest, '\n');
    struct wire_message message = { 0 };
    struct refusal refusal;
    struct filter *filter;
    enum status status = filter_compile(&filter, text, &refusal);

    if (status != STATUS_OK) {
        check_refused(text, status, &refusal);
        return 0;
    }
    read_message(rest, &message);
    check_negated(text, &message, match(filter, &message));
    filter_free(filter);
    return 0;
}
