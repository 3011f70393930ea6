/* links: godwit_router godwit_storage godwit_proto */
/* wraps: malloc calloc realloc strndup */
#include "test/lib/catalog_bed.h"

/* Each allocation fails in turn: a decision says so and decides nothing, a fact
 * leaves the replica as it was. What leaks, the sanitizer finds. */

static unsigned nth; /* of the allocations to come; 0: all succeed */
static unsigned failed;

static bool fails(void)
{
    bool now = nth > 0 && --nth == 0;

    failed += now;
    return now;
}

void *__real_malloc(size_t len);
void *__real_calloc(size_t count, size_t len);
void *__real_realloc(void *at, size_t len);
char *__real_strndup(const char *text, size_t len);
void *__wrap_malloc(size_t len);
void *__wrap_calloc(size_t count, size_t len);
void *__wrap_realloc(void *at, size_t len);
char *__wrap_strndup(const char *text, size_t len);

void *__wrap_malloc(size_t len)
{
    return fails() ? NULL : __real_malloc(len);
}

void *__wrap_calloc(size_t count, size_t len)
{
    return fails() ? NULL : __real_calloc(count, len);
}

void *__wrap_realloc(void *at, size_t len)
{
    return fails() ? NULL : __real_realloc(at, len);
}

char *__wrap_strndup(const char *text, size_t len)
{
    return fails() ? NULL : __real_strndup(text, len);
}

TestSuite(catalog_memory, .init = set_up, .fini = tear_down, .timeout = 30);

enum { SWEEP_MAX = 100 };

/* The filter is the caller's. */
static struct catalog_request with_options(struct catalog_request request,
                                           const char *filter)
{
    request.options.filter = strdup(filter);
    request.options.backoff_count = 1;
    request.options.backoff_ms[0] = 5;
    request.given = OPTION_FILTER | OPTION_BACKOFF;
    return request;
}

static const struct group_fact *group(void)
{
    return catalog_group(catalog, slice_text("g"));
}

/* Decide with the n-th allocation failing; until it goes through. */
static struct bytes decide_until_it_works(const char *filter,
                                          enum catalog_op op)
{
    for (unsigned n = 1; n < SWEEP_MAX; n++) {
        struct catalog_request request =
            with_options(group_request("g", "a,b*", 0), filter);
        struct bytes body = { 0 };
        enum status status;

        request.op = op;
        nth = n;
        failed = 0;
        status = decide(&request, &body);
        nth = 0;
        if (failed == 0) {
            cr_assert_eq(status, STATUS_OK);
            cr_assert_gt(n, 2);
            return body;
        }
        cr_assert_eq(status, STATUS_NOMEM, "allocation %u", n);
        cr_assert_str_eq(refusal.limit, "memory");
    }
    cr_assert(false, "it never worked");
    return (struct bytes) { 0 };
}

static void apply_until_it_works(struct bytes *body, const char *before)
{
    struct record_fact fact;

    cr_assert_eq(fact_read(slice_of(bytes_begin(body), bytes_len(body)), &fact),
                 STATUS_OK);
    for (unsigned n = 1; n < SWEEP_MAX; n++) {
        enum status status;

        nth = n;
        failed = 0;
        status = catalog_apply(catalog, &fact);
        nth = 0;
        if (failed == 0) {
            cr_assert_eq(status, STATUS_OK);
            cr_assert_gt(n, 2);
            bytes_fini(body);
            return;
        }
        cr_assert_eq(status, STATUS_NOMEM, "allocation %u", n);
        cr_assert_eq(group() == NULL, before == NULL);
        if (before != NULL) {
            cr_assert_str_eq(group()->options.filter, before);
            cr_assert_not_null(group()->filter);
        }
    }
    cr_assert(false, "it never worked");
}

Test(catalog_memory, a_group_is_made_or_changed_whole_or_not_at_all)
{
    struct bytes body;

    last_seq = 3;
    cr_assert_eq(create_topic("b1", 0), STATUS_OK);
    body = decide_until_it_works("a == 1", CATALOG_CREATE);
    apply_until_it_works(&body, NULL);
    cr_assert_str_eq(group()->options.filter, "a == 1");
    body = decide_until_it_works("b == 2 || has(c)", CATALOG_UPDATE);
    apply_until_it_works(&body, "a == 1");
    cr_assert_str_eq(group()->options.filter, "b == 2 || has(c)");
    cr_assert_eq(topic_id("b1"), 1);
}
