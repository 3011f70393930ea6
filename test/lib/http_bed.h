/* Asking the HTTP door over a session and a store of paper. For one test file
 * each: all of it is static. */
#ifndef GODWIT_TEST_LIB_HTTP_BED_H
#define GODWIT_TEST_LIB_HTTP_BED_H

#include "broker/metrics.h"
#include "test/lib/fake_session.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

static struct session *session;
static struct worker_metrics workers[2];
static struct broker_metrics metrics = { .worker_count = 2,
                                         .workers = workers,
                                         .started_us = 1000000 };

/* ---- a store of paper ---- */

static bool frozen;
static bool space_low;
static uint64_t corrupt_reads;
static uint64_t damaged_records;
static struct store_damage damage[2];
static size_t damage_count;

bool store_frozen(const struct store *store)
{
    (void)store;
    return frozen;
}

bool store_space_low(const struct store *store)
{
    (void)store;
    return space_low;
}

void store_stats(const struct store *store, struct store_stats *out)
{
    (void)store;
    *out = (struct store_stats) { .segments = 3,
                                  .corrupt_reads = corrupt_reads,
                                  .damaged_records = damaged_records };
}

size_t store_damage_seen(struct store *store, uint64_t *next,
                         struct store_damage *out, size_t room)
{
    size_t count = 0;

    (void)store;
    for (; *next < damage_count && count < room; ++*next) {
        out[count++] = damage[*next];
    }
    return count;
}

const char *store_damage_word(enum damage_kind kind)
{
    return kind == DAMAGE_MESSAGE ? "message" : "snapshot";
}

static void set_up(void)
{
    session = fake_session_new(&door_http);
    fake_session_add(session, CATALOG_TOPIC, "orders", 1, NULL, false);
    fake_session_add(session, CATALOG_TOPIC, "a.other", 1, NULL, false);
    fake_session_add(session, CATALOG_GROUP, "billing", 1, "orders", false);
    metrics.store = (struct store *)&frozen;
}

static void tear_down(void)
{
    fake_session_free(session);
}

/* ---- asking ---- */

/* `headers` are whole lines, each ended by CRLF. All in memory of just that
 * length, gone when the call has returned. */
static void ask_with(const char *line, const char *headers, const void *body,
                     size_t body_len)
{
    char head[16384];
    char length[64];
    bool post = line[0] == 'P'; /* POST, PUT, PATCH: with a body */
    struct http_request request;
    struct http_fault fault;
    size_t head_len;
    uint8_t *copy;
    uint8_t *body_copy;
    int len;

    body_len = post ? body_len : 0;
    snprintf(length, sizeof length, "Content-Length: %zu\r\n", body_len);
    len = snprintf(head, sizeof head, "%s HTTP/1.1\r\nHost: x\r\n%s%s\r\n",
                   line, headers, post ? length : "");
    copy = malloc((size_t)len + 1);
    body_copy = malloc(body_len + 1);
    memcpy(copy, head, (size_t)len);
    if (body_len > 0) {
        memcpy(body_copy, body, body_len);
    }
    cr_assert_eq(http_head_parse(slice_of(copy, (size_t)len), &request,
                                 &head_len, &fault),
                 STATUS_OK, "%s", head);
    request.body = slice_of(body_copy, body_len);
    session->calls[0] = '\0';
    session->code = 0;
    session->answer_count = 0;
    if (request.upgrade) {
        http_api_upgrade(session, &request, 5000);
    } else {
        http_api_request(session, &request, &metrics);
    }
    memset(copy, 0xaa, (size_t)len);
    memset(body_copy, 0xaa, body_len);
    free(copy);
    free(body_copy);
}

#define AUTH "Authorization: Bearer a:b\r\n"

static void ask(const char *line, const char *body)
{
    ask_with(line, AUTH, body, strlen(body));
}

static const char *body(void)
{
    return (const char *)bytes_begin(&session->body);
}

static void cr_answer(int code, const char *want)
{
    cr_assert_eq(session->answer_count, 1, "%zu answers, calls: %s",
                 session->answer_count, session->calls);
    cr_assert_eq(session->code, code, "%d %s", session->code, body());
    cr_assert_str_eq(body(), want, "have %s\nwant %s", body(), want);
    session->answer_count = 0;
}

/* Refused with this code and word, and text that holds `more`. */
static void cr_refused(int code, const char *word, const char *more)
{
    char want[64];

    cr_assert_eq(session->answer_count, 1, "%zu answers, calls: %s",
                 session->answer_count, session->calls);
    cr_assert_eq(session->code, code, "%d %s", session->code, body());
    snprintf(want, sizeof want, "{\"refused\":{\"status\":\"%s\"", word);
    cr_assert_eq(strncmp(body(), want, strlen(want)), 0, "%s", body());
    cr_assert_not_null(strstr(body(), more), "%s", body());
    cr_assert_str_eq(session->type, "application/json");
    session->answer_count = 0;
}

static void cr_calls(const char *want)
{
    cr_assert_str_eq(session->calls, want, "have %s\nwant %s", session->calls,
                     want);
}

static void refuse_now(enum status status, const char *limit, uint64_t count)
{
    struct refusal refusal;

    (void)refuse(&refusal, status, limit, "because");
    session->door->refused(session, 1, count, &refusal);
}

#endif
