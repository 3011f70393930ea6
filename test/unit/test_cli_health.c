/* links: godwit_tool godwit_client godwit_proto */
/* with: tools/godwit/health.c tools/godwit/session.c test/lib/fake_broker.c */
/* `godwit health`: its answer and its exit code. */
#include "test/lib/fake_broker.h"
#include "tools/godwit/commands.h"
#include "tools/godwit/command.h"

#include <criterion/criterion.h>
#include <criterion/redirect.h>
#include <stdio.h>
#include <string.h>

static struct fake_broker broker;
static char answer[1024];

static void set_up(void)
{
    cr_redirect_stdout();
    cr_redirect_stderr();
    fake_broker_init(&broker);
}

static void tear_down(void)
{
    fake_broker_stop(&broker);
    fake_broker_fini(&broker);
}

TestSuite(health, .init = set_up, .fini = tear_down, .timeout = 30);

static int health_of(const char *code, const char *body)
{
    char *argv[] = { "health", "--url",    broker.url, "--app",
                     "a",      "--secret", "s",        NULL };
    int len = snprintf(answer, sizeof answer,
                       "HTTP/1.1 %s\r\nContent-Length: %zu\r\n\r\n%s", code,
                       strlen(body), body);

    cr_assert(len > 0 && (size_t)len < sizeof answer);
    broker.http_answer = answer;
    broker.http_answer_len = (size_t)len;
    fake_broker_play(&broker);
    return cmd_health(7, argv);
}

/* Criterion compares the whole of a stream. */
static bool stdout_has(const char *words)
{
    static char text[1024];
    FILE *out = cr_get_redirected_stdout();
    size_t len;

    fflush(stdout);
    len = fread(text, 1, sizeof text - 1, out);
    text[len] = '\0';
    return strstr(text, words) != NULL;
}

Test(health, green_is_0)
{
    cr_assert_eq(health_of("200 OK", "{\"status\":\"green\",\"reasons\":[]}"),
                 EXIT_OK);
    cr_assert(stdout_has("green"));
}

Test(health, yellow_is_1_and_printed)
{
    cr_assert_eq(health_of("200 OK", "{\"status\":\"yellow\","
                                     "\"reasons\":[\"disk_full: x\"]}"),
                 EXIT_FAILED);
    cr_assert(stdout_has("disk_full: x"));
}

Test(health, red_is_1_and_printed_although_the_code_is_503)
{
    cr_assert_eq(health_of("503 Service Unavailable",
                           "{\"status\":\"red\","
                           "\"reasons\":[\"store_frozen: y\"]}"),
                 EXIT_FAILED);
    cr_assert(stdout_has("store_frozen: y"));
}

Test(health, a_refusal_is_no_health)
{
    cr_assert_eq(health_of("503 Service Unavailable",
                           "{\"refused\":{\"status\":\"closed\","
                           "\"text\":\"the broker is being stopped\"}}"),
                 EXIT_UNREACHABLE);
    cr_assert_not(stdout_has("stopped"));
}

Test(health, what_is_no_json_is_no_health)
{
    cr_assert_eq(health_of("502 Bad Gateway", "<html>"), EXIT_FAILED);
}
