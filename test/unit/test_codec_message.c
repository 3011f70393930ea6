/* links: godwit_proto godwit_wire */
#include "proto/codec.h"
#include "proto/limits.h"
#include "test/lib/wire_inputs.h"

#include "godwit.pb-c.h"

#include <criterion/criterion.h>

/* What a Message may hold, part by part, and what it is refused for. */

static struct bytes buffer;
static struct refusal refusal;

static void set_up(void)
{
    buffer = (struct bytes) { 0 };
    refusal = (struct refusal) { 0 };
}

static void tear_down(void)
{
    bytes_fini(&buffer);
}

TestSuite(codec_message, .init = set_up, .fini = tear_down, .timeout = 60);

static struct slice content(void)
{
    return slice_of(bytes_begin(&buffer), bytes_len(&buffer));
}

static void expect_limit(enum status status, enum status wanted,
                         const char *limit, uint64_t used, uint64_t allowed)
{
    cr_assert_eq(status, wanted);
    cr_expect_eq(refusal.status, wanted);
    cr_expect_str_eq(refusal.limit, limit);
    cr_expect_eq(refusal.used, used);
    cr_expect_eq(refusal.allowed, allowed);
    cr_expect_gt(strlen(refusal.text), 0);
}

static enum status check(const char *bytes, size_t len)
{
    uint8_t *copy = heap_copy(bytes, len);
    enum status status;

    refusal = (struct refusal) { 0 };
    status = codec_message_check(slice_of(copy, len), NULL, &refusal);
    free(copy);
    return status;
}

#define CHECK_MESSAGE(bytes) check(bytes, sizeof(bytes) - 1)

Test(codec_message, a_message_holds_only_what_is_known)
{
    cr_expect_eq(CHECK_MESSAGE(""), STATUS_OK);
    cr_expect_eq(CHECK_MESSAGE("\x0A\x01k\x1A\x01"
                               "b"),
                 STATUS_OK);
    cr_expect_eq(CHECK_MESSAGE("\x1A\x01"
                               "b\x0A\x01k"),
                 STATUS_OK);
    cr_expect_eq(CHECK_MESSAGE("\x22\x01t\x2A\x01i"), STATUS_OK);
    cr_expect_eq(CHECK_MESSAGE("\x30\x01\x38\x01\x40\x01"), STATUS_OK);
    cr_expect_eq(CHECK_MESSAGE("\x4A\x01x"), STATUS_INVALID);
    cr_expect_eq(CHECK_MESSAGE("\x48\x01"), STATUS_INVALID);
    cr_expect_eq(CHECK_MESSAGE("\x20\x01"), STATUS_INVALID, "a tag is a text");
    cr_expect_eq(CHECK_MESSAGE("\x28\x01"), STATUS_INVALID, "an id is a text");
    cr_expect_eq(CHECK_MESSAGE("\x32\x01x"), STATUS_INVALID, "no number");
    cr_expect_eq(CHECK_MESSAGE("\x3A\x01x"), STATUS_INVALID, "no number");
    cr_expect_eq(CHECK_MESSAGE("\x42\x01x"), STATUS_INVALID, "no number");
    cr_expect_eq(CHECK_MESSAGE("\x78\x01"), STATUS_INVALID);
    cr_expect_eq(CHECK_MESSAGE("\x08\x01"), STATUS_INVALID);
    cr_expect_eq(CHECK_MESSAGE("\x1D\x01\x02\x03\x04"), STATUS_INVALID);
    cr_expect_eq(CHECK_MESSAGE("\x12\x05\x0A\x01n\x18\x01"), STATUS_INVALID);
    cr_expect_eq(CHECK_MESSAGE("\x12\x06\x0A\x01n\x1A\x01z"), STATUS_INVALID);
    cr_expect_eq(CHECK_MESSAGE("\x12\x03\x08\x01n"), STATUS_INVALID);
}

Test(codec_message, a_message_holds_nothing_twice)
{
    cr_expect_eq(CHECK_MESSAGE("\x0A\x01k\x0A\x01k"), STATUS_INVALID);
    cr_expect_eq(CHECK_MESSAGE("\x1A\x01k\x1A\x01k"), STATUS_INVALID);
    cr_expect_eq(CHECK_MESSAGE("\x0A\x00\x0A\x00"), STATUS_INVALID);
    cr_expect_eq(CHECK_MESSAGE("\x22\x00\x22\x00"), STATUS_INVALID);
    cr_expect_eq(CHECK_MESSAGE("\x2A\x01i\x2A\x01i"), STATUS_INVALID);
    cr_expect_eq(CHECK_MESSAGE("\x30\x00\x30\x01"), STATUS_INVALID);
    cr_expect_eq(CHECK_MESSAGE("\x38\x01\x38\x01"), STATUS_INVALID);
    cr_expect_eq(CHECK_MESSAGE("\x40\x01\x40\x01"), STATUS_INVALID);
    cr_expect_eq(CHECK_MESSAGE("\x12\x06\x0A\x01n\x0A\x01n"), STATUS_INVALID);
    cr_expect_eq(CHECK_MESSAGE("\x12\x09\x0A\x01n\x12\x01v\x12\x01v"),
                 STATUS_INVALID);
    cr_expect_eq(CHECK_MESSAGE("\x12\x03\x0A\x01n\x12\x03\x0A\x01m"),
                 STATUS_OK);
    cr_expect_eq(CHECK_MESSAGE("\x12\x03\x0A\x01n\x12\x03\x0A\x01n"),
                 STATUS_INVALID);
    cr_expect_str_eq(refusal.scope, "header n");
}

Test(codec_message, a_header_has_a_name)
{
    cr_expect_eq(CHECK_MESSAGE("\x12\x03\x12\x01v"), STATUS_INVALID);
    cr_expect_str_eq(refusal.limit, "header_name");
    cr_expect_eq(CHECK_MESSAGE("\x12\x00"), STATUS_INVALID);
    cr_expect_eq(CHECK_MESSAGE("\x12\x02\x0A\x00"), STATUS_INVALID);
}

Test(codec_message, key_and_headers_are_utf8_and_the_body_is_anything)
{
    cr_expect_eq(CHECK_MESSAGE("\x0A\x01\xFF"), STATUS_INVALID);
    cr_expect_eq(CHECK_MESSAGE("\x0A\x02k\x00"), STATUS_INVALID);
    cr_expect_eq(CHECK_MESSAGE("\x12\x03\x0A\x01\xFF"), STATUS_INVALID);
    cr_expect_eq(CHECK_MESSAGE("\x12\x06\x0A\x01n\x12\x01\xFF"),
                 STATUS_INVALID);
    cr_expect_eq(CHECK_MESSAGE("\x12\x06\x0A\x01n\x12\x01\x00"),
                 STATUS_INVALID);
    cr_expect_eq(CHECK_MESSAGE("\x22\x01\xFF"), STATUS_INVALID);
    cr_expect_eq(CHECK_MESSAGE("\x22\x02t\x00"), STATUS_INVALID);
    cr_expect_eq(CHECK_MESSAGE("\x2A\x01\xFF"), STATUS_INVALID);
    cr_expect_eq(CHECK_MESSAGE("\x2A\x02i\x00"), STATUS_INVALID);
    cr_expect_eq(CHECK_MESSAGE("\x1A\x02\xFF\x00"), STATUS_OK);
}

Test(codec_message, no_message_cut_inside_a_field_is_accepted)
{
    static const char whole[] = "\x0A\x03key\x12\x08\x0A\x02na\x12\x02va"
                                "\x1A\x04"
                                "body";
    static const size_t between[] = { 0, 5, 15, 21 };
    size_t next = 0;

    for (size_t len = 0; len < sizeof whole; len++) {
        bool ends_well = next < COUNT_OF(between) && between[next] == len;

        next += ends_well;
        cr_expect_eq(check(whole, len), ends_well ? STATUS_OK : STATUS_INVALID,
                     "%zu bytes", len);
    }
    cr_expect_eq(next, COUNT_OF(between));
}

static enum status check_made(const struct wire_message *m)
{
    bytes_consume(&buffer, bytes_len(&buffer));
    cr_assert_eq(codec_message_write(&buffer, m), STATUS_OK);
    refusal = (struct refusal) { 0 };
    return codec_message_check(content(), NULL, &refusal);
}

static void expect_message_bound(struct wire_message *m, struct slice *part,
                                 size_t allowed, const char *limit)
{
    char *text = malloc(allowed + 1);
    struct slice before = *part;

    memset(text, 'x', allowed + 1);
    *part = slice_of(text, allowed);
    cr_expect_eq(check_made(m), STATUS_OK, "%s: %s", limit, refusal.text);
    part->len++;
    expect_limit(check_made(m), STATUS_TOO_LARGE, limit, allowed + 1, allowed);
    *part = before;
    free(text);
}

Test(codec_message, parts_of_a_message_have_bounds)
{
    struct wire_message m = { .header_count = 1 };

    m.headers[0] = (struct wire_header) { slice_text("n"), slice_text("v") };
    expect_message_bound(&m, &m.key, KEY_LEN_MAX, "key_len");
    expect_message_bound(&m, &m.headers[0].name, HEADER_NAME_LEN_MAX,
                         "header_name_len");
    expect_message_bound(&m, &m.headers[0].value, HEADER_VALUE_LEN_MAX,
                         "header_value_len");
    expect_message_bound(&m, &m.body, BODY_LEN_MAX, "body_len");
    expect_message_bound(&m, &m.tag, TAG_LEN_MAX, "tag_len");
    expect_message_bound(&m, &m.id, MESSAGE_ID_LEN_MAX, "message_id_len");
}

static void expect_time_bound(struct wire_message *m, uint64_t *part,
                              uint64_t allowed, const char *limit)
{
    *part = allowed;
    cr_expect_eq(check_made(m), STATUS_OK, "%s: %s", limit, refusal.text);
    (*part)++;
    expect_limit(check_made(m), STATUS_INVALID, limit, allowed + 1, allowed);
    *part = UINT64_MAX;
    expect_limit(check_made(m), STATUS_INVALID, limit, UINT64_MAX, allowed);
    *part = 0;
}

Test(codec_message, times_of_a_message_have_bounds)
{
    struct wire_message m = { 0 };

    expect_time_bound(&m, &m.delay_ms, UINT64_C(366) * 24 * 3600 * 1000,
                      "delay_ms");
    expect_time_bound(&m, &m.deliver_at_ms, DELIVER_AT_MS_MAX, "deliver_at_ms");
    expect_time_bound(&m, &m.ttl_ms, UINT64_C(3660) * 24 * 3600 * 1000,
                      "ttl_ms");
    cr_expect_lt(DELIVER_AT_MS_MAX, UINT64_MAX / 1000, "in microseconds too");
}

/* What is checked is told, and what is not there is told as nothing, whatever
 * stood in the struct before. */
Test(codec_message, options_come_back)
{
    struct wire_message m = { .tag = slice_text("red"),
                              .id = slice_text("order-7"),
                              .delay_ms = 1500,
                              .deliver_at_ms = DELIVER_AT_MS_MAX,
                              .ttl_ms = 1 };
    struct wire_message parts;
    Godwit__V1__Message *g;

    memset(&parts, 0xAA, sizeof parts);
    cr_assert_eq(check_made(&m), STATUS_OK);
    cr_assert_eq(codec_message_check(content(), &parts, &refusal), STATUS_OK);
    cr_expect(slice_is(parts.tag, "red"));
    cr_expect(slice_is(parts.id, "order-7"));
    cr_expect_eq(parts.delay_ms, 1500);
    cr_expect_eq(parts.deliver_at_ms, DELIVER_AT_MS_MAX);
    cr_expect_eq(parts.ttl_ms, 1);
    g = godwit__v1__message__unpack(NULL, content().len, content().at);
    cr_assert_not_null(g);
    cr_expect_str_eq(g->tag, "red");
    cr_expect_str_eq(g->id, "order-7");
    cr_expect_eq(g->delay_ms, 1500);
    cr_expect_eq(g->deliver_at_ms, DELIVER_AT_MS_MAX);
    cr_expect_eq(g->ttl_ms, 1);
    godwit__v1__message__free_unpacked(g, NULL);
    memset(&parts, 0xAA, sizeof parts);
    cr_assert_eq(codec_message_check(slice_text("\x0A\x01k"), &parts, &refusal),
                 STATUS_OK);
    cr_expect_eq(parts.tag.len + parts.id.len + parts.body.len, 0);
    cr_expect_eq(parts.delay_ms + parts.deliver_at_ms + parts.ttl_ms, 0);
    cr_expect_eq(parts.header_count, 0);
}

Test(codec_message, headers_of_a_message_have_a_bound)
{
    struct wire_message m = { .header_count = HEADER_COUNT_MAX };

    for (size_t i = 0; i < HEADER_COUNT_MAX; i++) {
        m.headers[i].name =
            slice_of(&"abcdefghijklmnopqrstuvwxyz0123456789"[i], 1);
    }
    cr_assert_eq(check_made(&m), STATUS_OK);
    cr_assert_eq(bytes_append(&buffer, "\x12\x03\x0A\x01?", 5), STATUS_OK);
    expect_limit(codec_message_check(content(), NULL, &refusal),
                 STATUS_TOO_LARGE, "header_count", HEADER_COUNT_MAX + 1,
                 HEADER_COUNT_MAX);
}

Test(codec_message, the_largest_message_is_within_its_bound)
{
    struct wire_message m = { .header_count = HEADER_COUNT_MAX };
    char *text = malloc(BODY_LEN_MAX);
    char names[HEADER_COUNT_MAX][HEADER_NAME_LEN_MAX];

    memset(text, 'x', BODY_LEN_MAX);
    m.key = slice_of(text, KEY_LEN_MAX);
    m.body = slice_of(text, BODY_LEN_MAX);
    m.tag = slice_of(text, TAG_LEN_MAX);
    m.id = slice_of(text, MESSAGE_ID_LEN_MAX);
    m.delay_ms = PUBLISH_DELAY_MS_MAX;
    m.deliver_at_ms = DELIVER_AT_MS_MAX;
    m.ttl_ms = TTL_MS_MAX;
    for (size_t i = 0; i < HEADER_COUNT_MAX; i++) {
        memset(names[i], 'a' + (int)(i % 26), sizeof names[i]);
        names[i][0] = (char)('A' + (int)(i / 26));
        m.headers[i].name = slice_of(names[i], sizeof names[i]);
        m.headers[i].value = slice_of(text, HEADER_VALUE_LEN_MAX);
    }
    cr_expect_eq(check_made(&m), STATUS_OK, "%s", refusal.text);
    cr_expect_leq(codec_message_len(&m), MESSAGE_LEN_MAX);
    free(text);
}
