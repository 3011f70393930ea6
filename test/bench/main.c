/* Runs the steps of the hot path, to be counted by callgrind: see counts, which
 * calls it.
 *
 *   bench_steps [--waste N] [TEXT]   all steps, or those with TEXT in their name
 *
 * Prints what the counts depend on, then a line a step. */
#include "test/bench/meter.h"

#include <gnu/libc-version.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <xxhash.h>

#ifdef __clang__
static const char compiler[] = __VERSION__;
#else
static const char compiler[] = "gcc " __VERSION__;
#endif

/* The C library chooses its memcpy() by it. */
static const char *vectors(void)
{
#ifdef __x86_64__
    return __builtin_cpu_supports("avx2") ? " avx2" : "";
#else
    return "";
#endif
}

static void print_facts(void)
{
    struct utsname name;

    must(uname(&name) == 0, "uname");
    printf("fact\tcompiler\t%s\n", compiler);
    printf("fact\tbuild\t%s\n", BENCH_BUILD);
    printf("fact\tmachine\t%s%s\n", name.machine, vectors());
    printf("fact\tlibraries\tglibc %s, xxHash %u\n", gnu_get_libc_version(),
           XXH_versionNumber());
}

static size_t run_some(const struct step *steps, size_t count, const char *text)
{
    size_t run = 0;

    for (size_t i = 0; i < count; i++) {
        if (strstr(steps[i].name, text) != NULL) {
            steps[i].run(&steps[i]);
            run++;
        }
    }
    return run;
}

int main(int argc, char **argv)
{
    const char *text = "";
    size_t run;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--waste") == 0 && i + 1 < argc) {
            meter_waste((unsigned)strtoul(argv[++i], NULL, 10));
        } else {
            text = argv[i];
        }
    }
    print_facts();
    run = run_some(broker_steps, broker_step_count, text)
          + run_some(module_steps, module_step_count, text);
    if (run == 0) {
        fprintf(stderr, "bench_steps: no step has '%s' in its name\n", text);
        return 2;
    }
    return 0;
}
