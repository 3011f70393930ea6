/* links: godwit_delivery godwit_proto */
/* with: test/lib/group_sim.c test/lib/group_sim_model.c */
#include "test/lib/group_sim.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <unistd.h>

/*   GODWIT_SIM_SEED=n   run this seed only (a failure prints it)
 *   GODWIT_SIM_STEPS=n  this many steps instead */

enum { SEEDS = 40, STEPS = 100000, PLANT_SEEDS = 8, PLANT_STEPS = 20000 };

/* ---- the tests ---- */

static uint64_t env_number(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text == NULL ? otherwise : strtoull(text, NULL, 0);
}

static char running[96];

/* A CHECK that fails aborts: say which seed it was. */
static void on_abort(int signal_number)
{
    (void)signal_number;
    (void)!write(STDERR_FILENO, running, strlen(running));
}

static void say_running(uint64_t seed)
{
    (void)snprintf(running, sizeof running,
                   "aborted; replay with GODWIT_SIM_SEED=%lu\n", seed);
    (void)signal(SIGABRT, on_abort);
}

Test(sim_group, model_and_group_agree, .timeout = 280)
{
    uint64_t only = env_number("GODWIT_SIM_SEED", 0);
    uint64_t steps = env_number("GODWIT_SIM_STEPS", STEPS);
    static struct sim s;
    uint64_t refused = 0;

    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        if (only != 0 && seed > 1) {
            break;
        }
        say_running(only != 0 ? only : seed);
        cr_assert(sim_run(&s, only != 0 ? only : seed, steps, PLANT_NONE),
                  "%s (step %lu; replay with GODWIT_SIM_SEED=%lu)", s.text,
                  s.step, s.seed);
        /* It must have been about something. */
        cr_assert(s.delivered > steps / 100 && s.restarts > steps / 5000);
        refused += s.refused;
    }
    cr_assert(only != 0 || refused > 0);
}

static void expect_found(enum plant plant)
{
    static struct sim s;
    uint64_t found = 0;

    for (uint64_t seed = 1; seed <= PLANT_SEEDS; seed++) {
        (void)signal(SIGABRT, SIG_DFL);
        found += !sim_run(&s, seed, PLANT_STEPS, plant);
        cr_assert(s.planted > 0 && s.failed, "plant %d, seed %lu: not found",
                  (int)plant, seed);
    }
    cr_assert(found == PLANT_SEEDS);
}

Test(sim_group, finds_a_lost_redelivery, .timeout = 100)
{
    expect_found(PLANT_LOST_REDELIVERY);
}

Test(sim_group, finds_two_holders, .timeout = 100)
{
    expect_found(PLANT_TWO_HOLDERS);
}

Test(sim_group, finds_a_forgotten_ack, .timeout = 100)
{
    expect_found(PLANT_FORGOTTEN_ACK);
}

Test(sim_group, finds_wrong_attempts, .timeout = 100)
{
    expect_found(PLANT_WRONG_ATTEMPTS);
}

Test(sim_group, finds_too_much_credit, .timeout = 100)
{
    expect_found(PLANT_LOST_CREDIT);
}

Test(sim_group, finds_deleted_messages_that_come_back, .timeout = 100)
{
    expect_found(PLANT_FORGOTTEN_TRIM);
}

Test(sim_group, finds_a_trim_that_goes_too_far, .timeout = 100)
{
    expect_found(PLANT_HASTY_TRIM);
}
