/* links: godwit_client godwit_proto */
/* with: test/lib/fake_broker.c */
/* The example programs do what they say. */
#include "test/lib/fake_broker.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static struct fake_broker broker;
static char output[8192];

static void set_up(void)
{
    fake_broker_init(&broker);
    cr_assert_eq(setenv("GODWIT_URL", broker.url, 1), 0);
    cr_assert_eq(setenv("GODWIT_APP", "app", 1), 0);
    cr_assert_eq(setenv("GODWIT_SECRET", "secret", 1), 0);
}

static void tear_down(void)
{
    fake_broker_fini(&broker);
}

TestSuite(client_examples, .init = set_up, .fini = tear_down, .timeout = 30);

/* Runs what the build put beside us; its output is in `output`. */
static int run_example(const char *name_and_arguments)
{
    char self[512] = { 0 };
    char command[1024];
    char *slash;
    size_t len;
    int result;
    FILE *pipe;

    cr_assert_gt(readlink("/proc/self/exe", self, sizeof self - 1), 0);
    slash = strrchr(self, '/');
    cr_assert_not_null(slash);
    *slash = '\0';
    (void)snprintf(command, sizeof command, "%s/../client/example_%s 2>&1",
                   self, name_and_arguments);
    pipe = popen(command, "r");
    cr_assert_not_null(pipe);
    len = fread(output, 1, sizeof output - 1, pipe);
    output[len] = '\0';
    result = pclose(pipe);
    return WIFEXITED(result) ? WEXITSTATUS(result) : -1;
}

Test(client_examples, publish_sees_each_message_confirmed)
{
    fake_broker_play(&broker);
    cr_assert_eq(run_example("publish topic"), 0, "%s", output);
    cr_assert_not_null(strstr(output, "message 0 is stored as number 1\n"));
    cr_assert_not_null(strstr(output, "message 9 is stored as number 10\n"));
}

Test(client_examples, publish_says_what_is_wrong)
{
    cr_assert_eq(run_example("publish"), 2);
    cr_assert_not_null(strstr(output, "usage:"));
    cr_assert_eq(setenv("GODWIT_URL", "nonsense", 1), 0);
    cr_assert_eq(run_example("publish topic"), 2);
    cr_assert_not_null(strstr(output, "cannot begin: url"), "%s", output);
}

Test(client_examples, subscribe_takes_and_acks_what_comes)
{
    broker.deliver_count = 10;
    fake_broker_play(&broker);
    cr_assert_eq(run_example("subscribe group 10"), 0, "%s", output);
    cr_assert_not_null(strstr(output, "topic 1: body 1\n"));
    cr_assert_not_null(strstr(output, "topic 10: body 10\n"));
    cr_assert_eq(atomic_load(&broker.settled), 10);
}
