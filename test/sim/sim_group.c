/* links: godwit_delivery godwit_storage godwit_proto */
/* with: test/lib/group_sim.c test/lib/group_sim_check.c */
/* with: test/lib/group_sim_give.c test/lib/group_sim_log.c */
/* with: test/lib/group_sim_model.c test/lib/group_sim_settle.c */
/* with: test/lib/group_sim_steps.c test/lib/tmpdir.c */
/* Groups against a model of them, by seed; see test/lib/group_sim.h.
 *
 *   sim_group            the short form: some seeds, every plant, tiers
 *   sim_group --long     more of each
 *   sim_group --seed N   one run; also --steps N, --tiers WORD, --plant WORD
 *             --trace    and what happens in each step
 *
 * A run that fails prints the command that makes it again. */
#include "test/lib/group_sim.h"

#include <getopt.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct amounts {
    uint64_t seeds;
    uint64_t steps;
    uint64_t plant_seeds;
    uint64_t plant_steps;
    uint64_t tier_seeds;
    uint64_t tier_steps;
};
/* With a sanitizer a tenth as fast, and other seeds are the same code to it. */
#ifdef __SANITIZE_ADDRESS__
static const struct amounts short_form = { 2, 70000, 1, 20000, 1, 20000 };
#else
static const struct amounts short_form = { 8, 100000, 2, 20000, 4, 20000 };
#endif
static const struct amounts long_form = { 200, 400000, 20, 40000, 30, 60000 };

static const char *program;

/* ---- one run ---- */

static char replay[256];

static void set_replay(const struct sim_options *o, uint64_t steps)
{
    (void)snprintf(replay, sizeof replay,
                   "  replay: %s --seed %lu --steps %lu --tiers %s --plant %s "
                   "--trace\n",
                   program, o->seed, steps, sim_tiers_word(o->tiers),
                   sim_plant_word(o->plant));
}

/* A CHECK that fails aborts: say which run it was. */
static void on_abort(int signal_number)
{
    (void)signal_number;
    (void)!write(STDERR_FILENO, replay, strlen(replay));
}

static bool run(struct sim *s, const struct sim_options *options)
{
    set_replay(options, options->steps);
    if (sim_run(s, options)) {
        return true;
    }
    if (options->plant == PLANT_NONE || options->trace != NULL) {
        set_replay(options, options->steps);
        (void)fprintf(stderr, "step %lu: %s\n%s", s->step, s->text, replay);
    }
    return false;
}

static void say(const struct sim *s)
{
    (void)printf(
        "seed %lu: %lu steps, %lu simulated hours, %lu deliveries (%lu "
        "again), %lu died, %lu redriven, %lu expired, %lu seeks, of "
        "which %lu and %lu ends of topics in turns, %lu restarts, %lu refused, "
        "%lu notices, %lu times the breaker, %lu set "
        "aside\n",
        s->options.seed, s->step, s->now / HOUR, s->delivered, s->redelivered,
        s->died, s->redriven, s->expired, s->seeks, s->long_seeks,
        s->long_drops, s->restarts, s->refused, s->noticed, s->broken,
        s->aside);
    (void)fflush(stdout);
}

/* ---- the parts ---- */

/* It must have been about something. */
static bool was_busy(const struct sim *s)
{
    return s->now / HOUR >= 1000 && s->delivered > s->step / 100
           && s->redelivered > 0 && s->died > 0 && s->redriven > 0
           && s->restarts > 0 && s->long_seeks > 0 && s->expired > 0
           && s->noticed > 0;
}

static bool model_and_group_agree(const struct amounts *a)
{
    uint64_t refused = 0;

    for (uint64_t seed = 1; seed <= a->seeds; seed++) {
        static struct sim s;
        if (!run(&s,
                 &(struct sim_options) { .seed = seed, .steps = a->steps })) {
            return false;
        }
        say(&s);
        refused += s.refused;
        if (!was_busy(&s)) {
            (void)fprintf(stderr, "seed %lu: not much happened\n", seed);
            return false;
        }
    }
    if (refused == 0) {
        (void)fprintf(stderr, "the table was never full\n");
    }
    return refused > 0;
}

/* In a process of its own: a CHECK of the group finds it just as well. True:
 * the planted fault happened and was found. */
static bool finds(enum plant plant, uint64_t seed, uint64_t steps)
{
    int status = 0;
    pid_t child = fork();

    if (child == 0) {
        static struct sim s;
        bool fine;
        (void)signal(SIGABRT, SIG_DFL);
        (void)!freopen("/dev/null", "w", stderr);
        fine = run(&s, &(struct sim_options) {
                           .seed = seed, .steps = steps, .plant = plant });
        _exit(!fine && s.planted > 0 ? 1 : 0);
    }
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    return (WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT)
           || (WIFEXITED(status) && WEXITSTATUS(status) == 1);
}

static bool plants_are_found(const struct amounts *a)
{
    for (int plant = PLANT_NONE + 1; plant < PLANTS; plant++) {
        for (uint64_t seed = 1; seed <= a->plant_seeds; seed++) {
            if (!finds((enum plant)plant, seed, a->plant_steps)) {
                (void)fprintf(stderr, "planted %s, seed %lu: not found\n",
                              sim_plant_word((enum plant)plant), seed);
                return false;
            }
        }
        (void)printf("planted %s: found\n", sim_plant_word((enum plant)plant));
    }
    return true;
}

/* The same history with the places shared out otherwise: the same outcomes. */
static bool tiers_agree(const struct amounts *a)
{
    for (uint64_t seed = 1; seed <= a->tier_seeds; seed++) {
        uint64_t hash = 0;
        for (int tiers = TIERS_HEAP; tiers < TIERS; tiers++) {
            static struct sim s;
            if (!run(&s,
                     &(struct sim_options) { .seed = seed,
                                             .steps = a->tier_steps,
                                             .tiers = (enum tiers)tiers })) {
                return false;
            }
            if (tiers > TIERS_HEAP && s.hash != hash) {
                (void)fprintf(stderr, "seed %lu: tiers %s end otherwise\n%s",
                              seed, sim_tiers_word((enum tiers)tiers), replay);
                return false;
            }
            hash = s.hash;
        }
        (void)printf("seed %lu: the same outcomes in all tiers (%lx)\n", seed,
                     hash);
    }
    return true;
}

/* ---- the command line ---- */

static int word_index(const char *word, const char *(*word_of)(int))
{
    for (int i = 0; word_of(i) != NULL; i++) {
        if (strcmp(word_of(i), word) == 0) {
            return i;
        }
    }
    (void)fprintf(stderr, "%s: unknown word '%s'\n", program, word);
    exit(2);
}

static const char *plant_word(int i)
{
    return sim_plant_word((enum plant)i);
}

static const char *tiers_word(int i)
{
    return sim_tiers_word((enum tiers)i);
}

struct command {
    struct sim_options options;
    const struct amounts *amounts;
};

static void parse(struct command *c, int argc, char **argv)
{
    static const struct option options[] = {
        { "seed", required_argument, NULL, 'n' },
        { "steps", required_argument, NULL, 's' },
        { "tiers", required_argument, NULL, 't' },
        { "plant", required_argument, NULL, 'p' },
        { "trace", no_argument, NULL, 'v' },
        { "long", no_argument, NULL, 'l' },
        { 0 },
    };
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'n':
            c->options.seed = strtoull(optarg, NULL, 0);
            break;
        case 's':
            c->options.steps = strtoull(optarg, NULL, 0);
            break;
        case 't':
            c->options.tiers = (enum tiers)word_index(optarg, tiers_word);
            break;
        case 'p':
            c->options.plant = (enum plant)word_index(optarg, plant_word);
            break;
        case 'v':
            c->options.trace = stdout;
            break;
        case 'l':
            c->amounts = &long_form;
            break;
        default:
            exit(2);
        }
    }
}

int main(int argc, char **argv)
{
    struct command c = { .amounts = &short_form };
    static struct sim s;
    bool fine;

    program = argv[0];
    parse(&c, argc, argv);
    (void)signal(SIGABRT, on_abort);
    if (c.options.seed == 0) {
        return model_and_group_agree(c.amounts) && plants_are_found(c.amounts)
                       && tiers_agree(c.amounts)
                   ? 0
                   : 1;
    }
    c.options.steps = c.options.steps == 0 ? c.amounts->steps : c.options.steps;
    fine = run(&s, &c.options);
    say(&s);
    (void)printf("%s, all answers hash to %lx\n", fine ? "agreed" : "FAILED",
                 s.hash);
    return fine ? 0 : 1;
}
