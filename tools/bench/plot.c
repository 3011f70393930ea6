#include "tools/bench/plot.h"

#include "proto/check.h"
#include "tools/godwit/command.h"
#include "tools/godwit/human.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { POINTS_A_DECADE = 60, DECADES_MAX = 9, LABEL_LOOKS = 20 };

/* What the label of a maximum covers, about: to its left and above. */
static const double LABEL_DECADES = 0.5;
static const double LABEL_ABOVE = 1.6;

static const char install[] =
    "to draw, install gnuplot (tools/install-packages bench; Debian: "
    "gnuplot-nox)";

/* ---- gnuplot ---- */

/* Run it with these as stdin and stdout; -1: /dev/null. False: said on stderr.
 */
static bool run_gnuplot(char *const words[], int in, int out)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t how;
    sigset_t none;
    pid_t pid;
    int failed;
    int status = 0;

    sigemptyset(
        &none); /* ours are blocked for the thread that waits for them */
    posix_spawnattr_init(&how);
    posix_spawnattr_setsigmask(&how, &none);
    posix_spawnattr_setflags(&how, POSIX_SPAWN_SETSIGMASK);
    posix_spawn_file_actions_init(&files);
    if (in >= 0) {
        posix_spawn_file_actions_adddup2(&files, in, STDIN_FILENO);
        posix_spawn_file_actions_adddup2(&files, out, STDOUT_FILENO);
    } else {
        posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null",
                                         O_RDONLY, 0);
        posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, "/dev/null",
                                         O_WRONLY, 0);
    }
    failed = posix_spawnp(&pid, words[0], &files, &how, words, environ);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&how);
    if (failed != 0) {
        fail(EXIT_FAILED, "gnuplot: %s; %s", strerror(failed), install);
        return false;
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        fail(EXIT_FAILED, "gnuplot has failed");
        return false;
    }
    return true;
}

/* ---- the file ---- */

/* A new file beside `path`, which takes its place when it is whole. */
static int make_beside(const char *path, char name[PATH_MAX])
{
    int fd;

    if (snprintf(name, PATH_MAX, "%s.XXXXXX", path) >= PATH_MAX) {
        fail(EXIT_FAILED, "--plot: the name is too long");
        return -1;
    }
    fd = mkostemp(name, O_CLOEXEC);
    if (fd < 0) {
        fail(EXIT_FAILED, "--plot %s cannot be written: %s", path,
             strerror(errno));
        return -1;
    }
    (void)fchmod(fd, 0644);
    return fd;
}

static bool is_folder(const char *path)
{
    struct stat status;

    return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

int plot_check(const char *path)
{
    char *words[] = { "gnuplot", "--version", NULL };
    const char *end = strrchr(path, '.');
    char name[PATH_MAX];
    int fd;

    if (end == NULL || strcmp(end, ".svg") != 0) {
        return fail(EXIT_USAGE, "--plot %s: it will be SVG: name it so (.svg)",
                    path);
    }
    if (is_folder(path)) {
        return fail(EXIT_FAILED, "--plot %s is a folder", path);
    }
    fd = make_beside(path, name);
    if (fd < 0) {
        return EXIT_FAILED;
    }
    close(fd);
    (void)unlink(name);
    return run_gnuplot(words, -1, -1) ? EXIT_OK : EXIT_FAILED;
}

/* ---- what is drawn ---- */

/* "99.9" of 1,000: the percentile where one of `x` is above. */
static double percent_at(double x)
{
    return 100.0 - 100.0 / x;
}

static double us_at(const struct histogram *h, double x)
{
    return (double)histogram_percentile(h, percent_at(x)) / 1e3;
}

/* The percentile axis: 0, 50, 90, 99, ... as far as there are values. */
static void write_percentiles(FILE *to, double x_max)
{
    static const char *const names[] = { "90",       "99",       "99.9",
                                         "99.99",    "99.999",   "99.9999",
                                         "99.99999", "99.999999" };
    static const double tails[] = { 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8 };

    fprintf(to, "set xrange [1:%g]\nset xtics ('0 %%%%' 1, '50 %%%%' 2", x_max);
    for (size_t i = 0; i < COUNT_OF(names) && tails[i] <= x_max; i++) {
        fprintf(to, ", '%s %%%%' %g", names[i], tails[i]);
    }
    fprintf(to, ")\n");
}

/* 1, 2, 5 and their tenfolds, with units, over [low, high] in µs. */
static void write_times(FILE *to, double low, double high)
{
    static const double steps[] = { 1, 2, 5 };
    static const double decades[] = { 0.1, 1,   1e1, 1e2, 1e3,
                                      1e4, 1e5, 1e6, 1e7, 1e8 };
    char text[HUMAN_LEN];
    const char *separator = "";

    fprintf(to, "set yrange [%g:%g]\nset ytics (", low, high);
    for (size_t d = 0; d < COUNT_OF(decades) && decades[d] <= high; d++) {
        for (size_t i = 0; i < COUNT_OF(steps); i++) {
            double at = steps[i] * decades[d];
            double shown = at >= 1e6 ? at / 1e6 : at >= 1e3 ? at / 1e3 : at;

            if (at < low * 0.999 || at > high * 1.001) {
                continue;
            }
            snprintf(text, sizeof text, "%g %s", shown,
                     at >= 1e6   ? "s"
                     : at >= 1e3 ? "ms"
                                 : "µs");
            fprintf(to, "%s'%s' %g", separator, text, at);
            separator = ", ";
        }
    }
    fprintf(to, ")\n");
}

/* The next of 1, 2, 5 and their tenfolds below or above. */
static double round_125(double value, bool up)
{
    double decade = pow(10, floor(log10(value)));
    double steps[] = { 1, 2, 5, 10 };

    for (size_t i = 0; i < COUNT_OF(steps); i++) {
        if (up && steps[i] * decade >= value) {
            return steps[i] * decade;
        }
        if (!up && steps[COUNT_OF(steps) - 1 - i] * decade <= value) {
            return steps[COUNT_OF(steps) - 1 - i] * decade;
        }
    }
    return value;
}

/* Points of each curve, and a last one for its maximum. */
static void write_values(FILE *to, const struct plot *plot)
{
    for (size_t i = 0; i < plot->count; i++) {
        const struct histogram *h = plot->curves[i].values;
        double decades = log10((double)h->count);
        int points = (int)(decades * POINTS_A_DECADE);

        fprintf(to, "$c%zu << EOD\n", i);
        for (int k = 0; k <= points; k++) {
            double x = pow(10, (double)k / POINTS_A_DECADE);

            fprintf(to, "%.6g %.6g\n", x, us_at(h, x));
        }
        fprintf(to, "%.6g %.6g\nEOD\n", (double)h->count, (double)h->max / 1e3);
    }
}

static const char *colour_of(const struct plot *plot, size_t i)
{
    static const char *const colours[PLOT_CURVES_MAX] = { "#0b62c4", "#e07b00",
                                                          "#2a9d58",
                                                          "#8a3ab9" };

    return plot->curves[i].beside ? "#8b949e" : colours[i];
}

/* Does curve `i` come near `max` left of its label's end, or does its own
 * label, when it has one (`labelled`)? A label ends at `x` and is about
 * LABEL_DECADES long. */
static bool is_in_the_way(const struct plot *plot, size_t i, double x,
                          double max, bool labelled)
{
    const struct histogram *h = plot->curves[i].values;
    double other = (double)h->max;

    if (labelled && max > other * 0.8 && max < other * 1.25) {
        return true;
    }
    for (int k = 0; k <= LABEL_LOOKS; k++) {
        double at = x / pow(10, LABEL_DECADES * k / LABEL_LOOKS);
        double y = us_at(h, fmax(at, 1)) * 1e3;

        if (at <= (double)h->count && y > max * 1.02 && y < max * LABEL_ABOVE) {
            return true;
        }
    }
    return false;
}

/* Would the label of the maximum of `c`, which is above it and to its left, be
 * struck through by a curve or be on top of an earlier label? */
static bool is_crowded(const struct plot *plot, size_t c)
{
    const struct histogram *h = plot->curves[c].values;

    for (size_t i = 0; i < plot->count; i++) {
        if (i != c
            && is_in_the_way(plot, i, (double)h->count, (double)h->max,
                             i < c)) {
            return true;
        }
    }
    return false;
}

/* How a curve is drawn. */
static void write_style(FILE *to, const struct plot *plot, size_t i)
{
    const struct plot_curve *c = &plot->curves[i];

    const char *dash = c->beside ? " dt (6,4)" : i > 0 ? " dt (3,4)" : "";

    fprintf(to, "with lines lw %g lc rgb '%s'%s",
            c->beside ? 1.6
            : i > 0   ? 2.0
                      : 3.2,
            colour_of(plot, i), dash);
}

static void write_maximum(FILE *to, const struct plot *plot, size_t i)
{
    const struct histogram *h = plot->curves[i].values;
    char text[HUMAN_LEN];

    fprintf(to,
            ", '+' using (%.6g):(%.6g):('max %s') every ::0::0 with labels "
            "point pt 7 ps 0.5 lc rgb '%s' right offset -0.8,0.6 "
            "tc rgb '%s' font ',11' notitle",
            (double)h->count, (double)h->max / 1e3,
            human_duration(text, h->max), colour_of(plot, i),
            colour_of(plot, i));
}

/* In order: the later ones, thin and broken, are on top of the first one. */
static void write_curves(FILE *to, const struct plot *plot)
{
    fprintf(to, "plot ");
    for (size_t i = 0; i < plot->count; i++) {
        fprintf(to, "keyentry ");
        write_style(to, plot, i);
        fprintf(to, " title '%s', ", plot->curves[i].name);
    }
    for (size_t i = 0; i < plot->count; i++) {
        fprintf(to, "$c%zu ", i);
        write_style(to, plot, i);
        fprintf(to, " notitle");
        if (!is_crowded(plot, i)) {
            write_maximum(to, plot, i);
        }
        fprintf(to, "%s", i + 1 < plot->count ? ", " : "\n");
    }
}

static void write_frame(FILE *to, const struct plot *plot)
{
    fprintf(to,
            "set terminal svg size 960,600 noenhanced font 'Helvetica,14' "
            "background '#ffffff'\n"
            "set encoding utf8\n"
            "set samples 2\n"
            "set label 1 '%s' at screen 0.035,0.955 font ',20' "
            "tc rgb '#1f2328'\n"
            "set label 2 '%s' at screen 0.035,0.905 font ',13' "
            "tc rgb '#59636e'\n"
            "set tmargin at screen 0.86\nset bmargin at screen 0.19\n"
            "set lmargin at screen 0.10\nset rmargin at screen 0.97\n"
            "set logscale xy\n"
            "set border 3 lc rgb '#8b949e'\n"
            "set grid xtics ytics lt 1 lw 0.7 lc rgb '#d8dee4'\n"
            "set tics nomirror scale 0.4 tc rgb '#1f2328'\n"
            "set xlabel 'percentile of the messages' tc rgb '#59636e'\n"
            "set ylabel 'latency' tc rgb '#59636e'\n"
            "set key at screen 0.535,0.045 center horizontal maxcols 4 "
            "maxrows 1 reverse Left samplen 2.5 width -6 tc rgb '#1f2328'\n",
            plot->title, plot->subtitle);
}

static void write_script(FILE *to, const struct plot *plot)
{
    double low = 1e12;
    double high = 1;
    double x_max = 10;

    for (size_t i = 0; i < plot->count; i++) {
        const struct histogram *h = plot->curves[i].values;

        low = fmin(low, fmax((double)h->min / 1e3, 0.1));
        high = fmax(high, (double)h->max / 1e3);
        x_max = fmax(x_max, (double)h->count);
    }
    write_frame(to, plot);
    write_percentiles(to, x_max);
    write_times(to, round_125(low, false), round_125(high * 1.05, true));
    write_values(to, plot);
    write_curves(to, plot);
}

/* The script as a file that has no name. -1: said on stderr. */
static int make_script(const struct plot *plot)
{
    int fd = memfd_create("plot", MFD_CLOEXEC);
    FILE *to = fd >= 0 ? fdopen(dup(fd), "w") : NULL;

    if (to != NULL) {
        write_script(to, plot);
    }
    if (to == NULL || fclose(to) != 0 || lseek(fd, 0, SEEK_SET) != 0) {
        fail(EXIT_FAILED, "--plot: %s", strerror(errno));
        if (fd >= 0) {
            close(fd);
        }
        return -1;
    }
    return fd;
}

/* Curves without values are left out. */
static void only_full(struct plot *plot)
{
    size_t kept = 0;

    for (size_t i = 0; i < plot->count; i++) {
        if (plot->curves[i].values->count > 0) {
            plot->curves[kept++] = plot->curves[i];
        }
    }
    plot->count = kept;
}

int plot_draw(const char *path, const struct plot *plot)
{
    char *words[] = { "gnuplot", NULL };
    struct plot full = *plot;
    char name[PATH_MAX];
    bool drawn = false;
    int script;
    int fd;

    only_full(&full);
    if (full.count == 0) {
        return fail(EXIT_FAILED, "--plot: nothing was measured");
    }
    fd = make_beside(path, name);
    if (fd < 0) {
        return EXIT_FAILED;
    }
    script = make_script(&full);
    if (script >= 0) {
        drawn = run_gnuplot(words, script, fd);
        close(script);
    }
    close(fd);
    if (drawn && rename(name, path) != 0) {
        fail(EXIT_FAILED, "--plot %s: %s", path, strerror(errno));
        drawn = false;
    }
    if (!drawn) {
        (void)unlink(name);
    }
    return drawn ? EXIT_OK : EXIT_FAILED;
}
