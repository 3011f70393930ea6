/* links: godwit_tool godwit_proto */
#include "tools/godwit/input.h"

#include "proto/limits.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static struct input *input;
static struct input_message message;
static struct error err;
static int fd = -1;

static enum status open_on(int from, int stop, enum input_format format,
                           const char *key_field)
{
    const struct input_fields fields = { { key_field } };

    return input_open(&input, from, stop, format, &fields);
}

static void give(enum input_format format, const char *key_field,
                 const void *from, size_t len)
{
    char path[] = "/tmp/godwit-input-XXXXXX";

    fd = mkstemp(path);
    cr_assert_geq(fd, 0);
    unlink(path);
    cr_assert_eq(write(fd, from, len), (ssize_t)len);
    cr_assert_eq(lseek(fd, 0, SEEK_SET), 0);
    cr_assert_eq(open_on(fd, -1, format, key_field), STATUS_OK);
}

static void give_text(enum input_format format, const char *key_field,
                      const char *text)
{
    give(format, key_field, text, strlen(text));
}

static void expect(const char *body, const char *key)
{
    enum status status = input_next(input, &message, &err);

    cr_assert_eq(status, STATUS_OK, "%s: %s", status_word(status), err.text);
    cr_assert(slice_is(message.body, body), "\"%.*s\"", (int)message.body.len,
              (const char *)message.body.at);
    if (key == NULL) {
        cr_assert_null(message.part[INPUT_KEY]);
    } else {
        cr_assert_not_null(message.part[INPUT_KEY]);
        cr_assert_str_eq(message.part[INPUT_KEY], key);
    }
}

static void expect_status(enum status want)
{
    enum status status = input_next(input, &message, &err);

    cr_assert_eq(status, want, "%s: %s", status_word(status), err.text);
}

static void tear_down(void)
{
    input_close(input);
    close(fd);
}

TestSuite(input, .fini = tear_down, .timeout = 20);

Test(input, lines_are_bodies_without_their_ends)
{
    give_text(INPUT_LINES, NULL, "one\ntwo\r\n\nlast, with \"quotes");
    expect("one", NULL);
    expect("two", NULL);
    expect("", NULL);
    expect("last, with \"quotes", NULL);
    cr_assert_eq(message.line, 4);
    expect_status(STATUS_CLOSED);
    expect_status(STATUS_CLOSED);
}

Test(input, empty_input_has_no_message)
{
    give_text(INPUT_LINES, NULL, "");
    expect_status(STATUS_CLOSED);
}

Test(input, csv_rows_are_bodies_as_they_stand)
{
    give_text(INPUT_CSV, "id", "id,name\n7,\"Smith, \"\"J\"\"\"\r\n8,plain\n");
    expect("7,\"Smith, \"\"J\"\"\"", "7");
    expect("8,plain", "8");
    expect_status(STATUS_CLOSED);
}

Test(input, csv_quoted_fields_span_lines)
{
    give_text(INPUT_CSV, "id", "text,id\n\"two\nlines\",\"a\"\"b\"\nx,y");
    expect("\"two\nlines\",\"a\"\"b\"", "a\"b");
    cr_assert_eq(message.line, 2);
    expect("x,y", "y");
    cr_assert_eq(message.line, 4);
    expect_status(STATUS_CLOSED);
}

Test(input, csv_a_quote_inside_an_unquoted_field_is_text)
{
    give_text(INPUT_CSV, "size", "size,what\n5\" x,\"6\"\" y\"\n7,z\n");
    expect("5\" x,\"6\"\" y\"", "5\" x");
    expect("7,z", "7");
}

Test(input, csv_header_may_be_quoted_and_have_a_mark)
{
    give_text(INPUT_CSV, "order id", "\xEF\xBB\xBF\"order id\",b\n1,2\n");
    expect("1,2", "1");
}

Test(input, csv_an_empty_key_is_no_key)
{
    give_text(INPUT_CSV, "id", "id,b\n,2\n\"\",3\n");
    expect(",2", NULL);
    expect("\"\",3", NULL);
}

Test(input, csv_without_the_key_column_is_refused)
{
    give_text(INPUT_CSV, "order", "id,name\n1,2\n");
    expect_status(STATUS_CORRUPT);
    cr_assert_str_eq(err.text, "the header row has no column \"order\"; it "
                               "reads: id,name");
}

Test(input, csv_a_short_row_is_named_and_passed_over)
{
    give_text(INPUT_CSV, "b", "a,b\n1\n\n2,3\n");
    expect_status(STATUS_INVALID);
    cr_assert_str_eq(err.text, "line 2: the row has no column \"b\"");
    expect("2,3", "3");
    cr_assert_eq(message.line, 4);
}

Test(input, csv_an_open_quote_is_named)
{
    give_text(INPUT_CSV, NULL, "a,b\n1,\"never\nclosed\n");
    expect_status(STATUS_CORRUPT);
    cr_assert_str_eq(err.text,
                     "line 2: a quoted field of this row is never closed");
}

Test(input, csv_text_behind_a_closing_quote_is_named)
{
    give_text(INPUT_CSV, NULL, "a,b\n\"1\" x,2\n");
    expect_status(STATUS_CORRUPT);
    cr_assert(strncmp(err.text, "line 2: a quoted field goes on", 30) == 0);
}

Test(input, json_documents_are_bodies_as_they_stand)
{
    give_text(INPUT_JSON, "id",
              "{ \"id\": \"a\\u00e4\" }\n\n{\"id\":9007199254740993}\n");
    expect("{ \"id\": \"a\\u00e4\" }", "a\xC3\xA4");
    expect("{\"id\":9007199254740993}", "9007199254740993");
    expect_status(STATUS_CLOSED);
}

Test(input, json_bad_documents_are_named_and_passed_over)
{
    give_text(INPUT_JSON, "id",
              "{\"id\":}\n[1]\n{\"id\":null}\n{\"id\":\"x\"}\n");
    expect_status(STATUS_INVALID);
    cr_assert(strncmp(err.text, "line 1: no JSON:", 16) == 0, "%s", err.text);
    expect_status(STATUS_INVALID);
    cr_assert_str_eq(err.text, "line 2: the document has no text or number "
                               "named \"id\"");
    expect_status(STATUS_INVALID);
    expect("{\"id\":\"x\"}", "x");
}

Test(input, the_longest_body_passes_and_one_byte_more_does_not)
{
    char *text = malloc(2 * BODY_LEN_MAX + 16);

    memset(text, 'x', 2 * BODY_LEN_MAX + 16);
    text[BODY_LEN_MAX] = '\r';
    text[BODY_LEN_MAX + 1] = '\n';
    text[BODY_LEN_MAX + 2 + BODY_LEN_MAX + 1] = '\n';
    text[BODY_LEN_MAX + 2 + BODY_LEN_MAX + 2] = 'y';
    give(INPUT_LINES, NULL, text, BODY_LEN_MAX + 2 + BODY_LEN_MAX + 3);
    free(text);
    expect_status(STATUS_OK);
    cr_assert_eq(message.body.len, BODY_LEN_MAX);
    expect_status(STATUS_INVALID);
    cr_assert_str_eq(err.text,
                     "line 2: a body of 1048577 bytes; allowed are 1048576");
    expect("y", NULL);
}

Test(input, an_endless_line_is_refused_in_bounded_memory)
{
    fd = open("/dev/zero", O_RDONLY);
    cr_assert_eq(open_on(fd, -1, INPUT_LINES, NULL), STATUS_OK);
    expect_status(STATUS_TOO_LARGE);
}

Test(input, the_longest_key_passes_and_one_byte_more_does_not)
{
    char text[2 * KEY_LEN_MAX + 16] = "k\n";

    memset(text + 2, 'a', KEY_LEN_MAX);
    text[2 + KEY_LEN_MAX] = '\n';
    memset(text + 3 + KEY_LEN_MAX, 'b', KEY_LEN_MAX + 1);
    give_text(INPUT_CSV, "k", text);
    expect_status(STATUS_OK);
    cr_assert_eq(strlen(message.part[INPUT_KEY]), KEY_LEN_MAX);
    expect_status(STATUS_INVALID);
    cr_assert(strstr(err.text, "has 1025 bytes; allowed are 1024") != NULL);
}

Test(input, a_stop_ends_the_wait)
{
    int in[2];
    int stop[2];

    cr_assert_eq(pipe(in), 0);
    cr_assert_eq(pipe(stop), 0);
    cr_assert_eq(open_on(in[0], stop[0], INPUT_LINES, NULL), STATUS_OK);
    cr_assert_eq(write(in[1], "a\nb", 3), 3);
    expect("a", NULL);
    cr_assert_eq(write(stop[1], "", 1), 1);
    expect_status(STATUS_AGAIN);
}

/* However the bytes arrive, the records are the same. */
Test(input, pieces_of_any_size_give_the_same_rows)
{
    static const char text[] = "id,t\r\n1,\"a\r\nb\"\r\n2,\"\"\"\"\r\n3,c";

    for (size_t piece = 1; piece < sizeof text; piece++) {
        int in[2];

        cr_assert_eq(pipe(in), 0);
        cr_assert_eq(open_on(in[0], -1, INPUT_CSV, "t"), STATUS_OK);
        if (fork() == 0) {
            for (size_t at = 0; at < sizeof text - 1; at += piece) {
                size_t n = sizeof text - 1 - at;

                n = n < piece ? n : piece;
                if (write(in[1], text + at, n) != (ssize_t)n) {
                    _exit(1);
                }
                sched_yield();
            }
            _exit(0);
        }
        close(in[1]);
        expect("1,\"a\r\nb\"", "a\r\nb");
        expect("2,\"\"\"\"", "\"");
        expect("3,c", "c");
        expect_status(STATUS_CLOSED);
        input_close(input);
        input = NULL;
        close(in[0]);
    }
}

static void expect_parts(const char *key, const char *tag, const char *id)
{
    cr_assert_eq(input_next(input, &message, &err), STATUS_OK, "%s", err.text);
    cr_assert_str_eq(message.part[INPUT_KEY], key);
    cr_assert_str_eq(message.part[INPUT_TAG], tag);
    cr_assert_str_eq(message.part[INPUT_ID], id);
}

Test(input, a_row_or_document_has_a_key_a_tag_and_an_id)
{
    static const struct input_fields fields = { { "k", "t", "n" } };

    give_text(INPUT_CSV, NULL, "n,k,t\n7,\"a,b\",red\n8,c,\"\"\n9,d\n");
    input_close(input);
    cr_assert_eq(lseek(fd, 0, SEEK_SET), 0);
    cr_assert_eq(input_open(&input, fd, -1, INPUT_CSV, &fields), STATUS_OK);
    expect_parts("a,b", "red", "7");
    cr_assert_eq(input_next(input, &message, &err), STATUS_OK);
    cr_assert_null(message.part[INPUT_TAG], "empty is none");
    expect_status(STATUS_INVALID); /* no third column */
    cr_assert_not_null(strstr(err.text, "\"t\""));
    tear_down();
    give_text(INPUT_JSON, NULL,
              "{\"k\":\"a\",\"t\":\"red\",\"n\":7}\n{\"k\":1,\"t\":2}");
    input_close(input);
    cr_assert_eq(lseek(fd, 0, SEEK_SET), 0);
    cr_assert_eq(input_open(&input, fd, -1, INPUT_JSON, &fields), STATUS_OK);
    expect_parts("a", "red", "7");
    expect_status(STATUS_INVALID);
    cr_assert_not_null(strstr(err.text, "named \"n\""));
}

Test(input, a_tag_and_an_id_have_bounds)
{
    char text[512];
    static const struct input_fields fields = { { NULL, "t", "t" } };

    for (int len = TAG_LEN_MAX; len <= TAG_LEN_MAX + 1; len++) {
        snprintf(text, sizeof text, "t\n%0*d\n", len, 7);
        give_text(INPUT_CSV, NULL, text);
        input_close(input);
        cr_assert_eq(lseek(fd, 0, SEEK_SET), 0);
        cr_assert_eq(input_open(&input, fd, -1, INPUT_CSV, &fields), STATUS_OK);
        expect_status(len > TAG_LEN_MAX ? STATUS_INVALID : STATUS_OK);
        if (len == TAG_LEN_MAX) {
            tear_down();
        }
    }
    cr_assert_not_null(strstr(err.text, "the tag in \"t\" has 129 bytes"));
}

static void open_with(enum input_format format,
                      const struct input_fields *fields, const char *text)
{
    give_text(format, NULL, text);
    input_close(input);
    cr_assert_eq(lseek(fd, 0, SEEK_SET), 0);
    cr_assert_eq(input_open(&input, fd, -1, format, fields), STATUS_OK);
}

static void expect_headers(const char *first, const char *second)
{
    const char *want[] = { first, second };

    cr_assert_eq(input_next(input, &message, &err), STATUS_OK, "%s", err.text);
    for (size_t i = 0; i < COUNT_OF(want); i++) {
        const char *got = message.part[INPUT_HEADER + i];

        cr_assert_eq(got == NULL, want[i] == NULL, "header %zu", i);
        cr_assert(got == NULL || strcmp(got, want[i]) == 0, "%s", got);
    }
}

Test(input, columns_and_members_are_headers)
{
    static const struct input_fields fields = {
        .name = { [INPUT_HEADER] = "region", [INPUT_HEADER + 1] = "vip" }
    };

    open_with(INPUT_CSV, &fields, "vip,n,region\ntrue,7,eu\n,8,\"u,s\"\n9\n");
    expect_headers("eu", "true");
    cr_assert_null(message.part[INPUT_KEY]);
    expect_headers("u,s", NULL);
    expect_status(STATUS_INVALID); /* no third column */
    tear_down();
    open_with(INPUT_JSON, &fields,
              "{\"region\":\"eu\",\"vip\":true}\n{\"vip\":1.50}\n"
              "{\"region\":null,\"vip\":false}\n{\"region\":[1]}\n");
    expect_headers("eu", "true");
    expect_headers(NULL, "1.5");
    expect_headers(NULL, "false");
    expect_status(STATUS_INVALID); /* no text */
    cr_assert_not_null(strstr(err.text, "named \"region\""));
}

static int put_value(char *to, size_t len)
{
    memset(to, 'x', len);
    to[len] = '\n';
    return (int)len + 1;
}

Test(input, as_many_headers_as_a_message_has_and_so_long)
{
    char *text = malloc(2 * HEADER_VALUE_LEN_MAX + 16);
    static struct input_fields fields;
    int len = snprintf(text, 8, "h\n");

    for (size_t i = 0; i < HEADER_COUNT_MAX; i++) {
        fields.name[INPUT_HEADER + i] = "h";
    }
    len += put_value(text + len, HEADER_VALUE_LEN_MAX);
    len += put_value(text + len, HEADER_VALUE_LEN_MAX + 1);
    text[len] = '\0';
    open_with(INPUT_CSV, &fields, text);
    free(text);
    expect_status(STATUS_OK);
    cr_assert_eq(strlen(message.part[INPUT_PARTS - 1]), HEADER_VALUE_LEN_MAX);
    expect_status(STATUS_INVALID);
    cr_assert_not_null(strstr(err.text, "the header in \"h\" has 4097 bytes"));
}
