/* bench restart: how long a broker that was killed takes until the first
 * message is delivered again. It starts brokers of its own, each on a folder
 * that is removed at the end of its round. */
#include "tools/bench/report.h"

#include "tools/godwit/human.h"
#include "tools/godwit/interrupt.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <math.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    OPTIONS = BENCH_SIZE | BENCH_COUNT | BENCH_WINDOW,
    ROUNDS_MAX = 1000,
    START_MS_MAX = 120 * 1000, /* from exec to the first delivery */
    LOOK_NS = 100 * 1000,      /* between two looks whether it came */
    OPEN_FILES_MAX = 16,       /* of nftw() */
    LOG_END_LEN = 1024,        /* is shown when the broker ends */
    ADDRESS_LEN = 32
};

static const struct help help = {
    .usage = "godwit bench restart [options]",
    .text = "Starts a broker of its own in a new folder, publishes --count "
            "messages,\n"
            "kills it (SIGKILL) with the last confirm, starts it again and "
            "measures from\n"
            "that start until a subscriber has its first message. Each round "
            "has a new\n"
            "folder, which is removed. Uses no other broker.\n",
    .examples = "  godwit bench restart\n"
                "  godwit bench restart --godwitd build/release/broker/godwitd "
                "\\\n      --size 1024 --count 4M --rounds 3\n",
};

struct options {
    const char *godwitd;
    const char *folder;
    uint64_t rounds;
    struct bench_options bench;
};

/* One folder and the broker on it. */
struct bed {
    char dir[PATH_MAX];
    char data[PATH_MAX + 8];
    char log[PATH_MAX + 8];
    char credentials[PATH_MAX + 32];
    struct sockaddr_in name;
    char address[ADDRESS_LEN];
    char url[ADDRESS_LEN + 8];
    pid_t pid; /* 0: none runs */
};

/* What the rounds gave. */
struct outcome {
    struct histogram first_ns;  /* start to first delivery */
    struct histogram listen_ns; /* start to the subscriber's login */
    double
        replayed_kib; /* the broker's log says it, of the last round; or NAN */
    double open_ms;   /* the same: opening the store */
};

/* ---- the broker ---- */

/* A port that is free now. False: there is none. */
static bool find_address(struct bed *bed)
{
    socklen_t len = sizeof bed->name;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool found =
        fd >= 0
        && bind(fd, (const struct sockaddr *)&bed->name, sizeof bed->name) == 0
        && getsockname(fd, (struct sockaddr *)&bed->name, &len) == 0;

    if (fd >= 0) {
        close(fd);
    }
    snprintf(bed->address, sizeof bed->address, "127.0.0.1:%u",
             ntohs(bed->name.sin_port));
    snprintf(bed->url, sizeof bed->url, "ws://%s", bed->address);
    return found;
}

static int bed_start(struct bed *bed, const struct options *o)
{
    char *words[] = { (char *)o->godwitd, "--data-dir", bed->data,
                      "--listen",         bed->address, NULL };
    posix_spawn_file_actions_t files;
    sigset_t none;
    posix_spawnattr_t how;
    int failed;

    /* Ours are blocked for the thread that waits for them; not its. */
    sigemptyset(&none);
    posix_spawnattr_init(&how);
    posix_spawnattr_setsigmask(&how, &none);
    posix_spawnattr_setflags(&how, POSIX_SPAWN_SETSIGMASK);
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, bed->log,
                                     O_WRONLY | O_CREAT | O_APPEND, 0600);
    posix_spawn_file_actions_adddup2(&files, STDOUT_FILENO, STDERR_FILENO);
    failed = posix_spawnp(&bed->pid, o->godwitd, &files, &how, words, environ);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&how);
    if (failed != 0) {
        bed->pid = 0;
        return fail(EXIT_FAILED, "%s: %s", o->godwitd, strerror(failed));
    }
    return EXIT_OK;
}

static void bed_kill(struct bed *bed)
{
    if (bed->pid != 0) {
        kill(bed->pid, SIGKILL);
        waitpid(bed->pid, NULL, 0);
        bed->pid = 0;
    }
}

static bool has_ended(const struct bed *bed)
{
    siginfo_t info = { 0 };

    return waitid(P_PID, (id_t)bed->pid, &info, WEXITED | WNOHANG | WNOWAIT)
               == 0
           && info.si_pid != 0;
}

static void look_later(void)
{
    const struct timespec wait = { .tv_nsec = LOOK_NS };

    nanosleep(&wait, NULL);
}

/* The folder will be removed: what the log ends with is said here. */
static int say_ended(const struct bed *bed)
{
    char text[LOG_END_LEN + 1];
    const char *shown = text;
    FILE *file = fopen(bed->log, "re");
    size_t len = 0;

    if (file != NULL) {
        bool cut = fseek(file, -LOG_END_LEN, SEEK_END) == 0;

        if (!cut) {
            rewind(file);
        }
        len = fread(text, 1, LOG_END_LEN, file);
        text[len] = '\0';
        if (cut && strchr(text, '\n') != NULL) {
            shown = strchr(text, '\n') + 1; /* whole lines */
        }
        fclose(file);
    }
    if (len == 0) {
        return fail(EXIT_FAILED, "the broker ended and has logged nothing");
    }
    fail(EXIT_FAILED, "the broker ended; its log ends so:");
    fputs(shown, stderr);
    return EXIT_FAILED;
}

/* What can happen while one waits for it. */
static int bed_trouble(const struct bed *bed, uint64_t begun_ns)
{
    if (interrupted()) {
        return EXIT_INTERRUPTED;
    }
    if (has_ended(bed)) {
        return say_ended(bed);
    }
    if (now_ns() - begun_ns > START_MS_MAX * 1000000ULL) {
        return fail(EXIT_FAILED, "the broker is not ready after %d s",
                    START_MS_MAX / 1000);
    }
    return EXIT_OK;
}

static bool listens(const struct bed *bed)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool does =
        fd >= 0
        && connect(fd, (const struct sockaddr *)&bed->name, sizeof bed->name)
               == 0;

    if (fd >= 0) {
        close(fd);
    }
    return does;
}

/* The credentials are written before it listens. */
static int await_broker(const struct bed *bed, uint64_t begun_ns)
{
    int code = EXIT_OK;

    while (code == EXIT_OK && !listens(bed)) {
        code = bed_trouble(bed, begun_ns);
        look_later();
    }
    return code;
}

/* ---- the folder ---- */

static int bed_init(struct bed *bed, const struct options *o)
{
    *bed =
        (struct bed) { .name = { .sin_family = AF_INET,
                                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) } };
    snprintf(bed->dir, sizeof bed->dir, "%s/godwit-restart-XXXXXX", o->folder);
    if (mkdtemp(bed->dir) == NULL) {
        bed->dir[0] = '\0';
        return fail(EXIT_FAILED, "%s: no folder can be made: %s", o->folder,
                    strerror(errno));
    }
    snprintf(bed->data, sizeof bed->data, "%s/data", bed->dir);
    snprintf(bed->log, sizeof bed->log, "%s/log", bed->dir);
    snprintf(bed->credentials, sizeof bed->credentials, "%s/admin.credentials",
             bed->data);
    return find_address(bed)
               ? EXIT_OK
               : fail(EXIT_FAILED, "no port is free on 127.0.0.1");
}

static int remove_one(const char *path, const struct stat *status, int kind,
                      struct FTW *place)
{
    (void)status;
    (void)kind;
    (void)place;
    return remove(path);
}

static void bed_fini(struct bed *bed)
{
    bed_kill(bed);
    if (bed->dir[0] != '\0'
        && nftw(bed->dir, remove_one, OPEN_FILES_MAX, FTW_DEPTH | FTW_PHYS)
               != 0) {
        fail(EXIT_FAILED, "%s stays: %s", bed->dir, strerror(errno));
    }
}

/* "replayed_kib=123" in the last line about the store. */
static double log_figure(const char *line, const char *name)
{
    const char *at = strstr(line, name);

    return at == NULL ? NAN : strtod(at + strlen(name), NULL);
}

static void read_log(const struct bed *bed, struct outcome *out)
{
    char line[1024];
    FILE *file = fopen(bed->log, "re");

    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (strstr(line, "store open ") != NULL) {
            out->replayed_kib = log_figure(line, "replayed_kib=");
            out->open_ms = log_figure(line, " ms=");
        }
    }
    if (file != NULL) {
        fclose(file);
    }
}

/* ---- a round ---- */

/* Stamped by the client's thread. */
struct arrival {
    _Atomic uint64_t login_ns;
    _Atomic uint64_t delivery_ns;
};

static void on_state(void *arg, enum godwit_state state, enum godwit_status why,
                     const char *text)
{
    struct arrival *arrival = arg;

    (void)why;
    (void)text;
    if (state == GODWIT_CONNECTED && arrival->login_ns == 0) {
        arrival->login_ns = now_ns();
    }
}

static enum godwit_verdict on_delivery(void *arg,
                                       const struct godwit_delivery *delivery)
{
    struct arrival *arrival = arg;

    (void)delivery;
    if (arrival->delivery_ns == 0) {
        arrival->delivery_ns = now_ns();
    }
    return GODWIT_LATER;
}

/* A client that tries to connect every millisecond. */
static int open_subscriber(const struct options *o, const char *group,
                           struct arrival *arrival, struct godwit **out)
{
    const struct godwit_subscription subscription = {
        .group = group,
        .credit_messages = 1,
        .handler = on_delivery,
        .arg = arrival,
    };
    struct godwit_options options;
    const char *problem = "";
    enum godwit_status status;

    session_client_options(&o->bench.session, &options);
    options.retry_min_ms = 1;
    options.retry_max_ms = 1;
    options.on_state = on_state;
    options.state_arg = arrival;
    status = godwit_open(out, &options, &problem);
    if (status == GODWIT_OK) {
        status = godwit_subscribe(*out, &subscription);
    }
    return status == GODWIT_OK ? EXIT_OK
                               : fail(EXIT_FAILED, "no subscriber: %s",
                                      problem != NULL && problem[0] != '\0'
                                          ? problem
                                          : godwit_status_text(status));
}

static int time_restart(struct bed *bed, const struct options *o,
                        const char *group, struct outcome *out)
{
    struct arrival arrival = { 0 };
    struct godwit *client = NULL;
    uint64_t begun_ns = now_ns();
    int code = bed_start(bed, o);

    if (code == EXIT_OK) {
        code = open_subscriber(o, group, &arrival, &client);
    }
    while (code == EXIT_OK && arrival.delivery_ns == 0) {
        look_later();
        code = bed_trouble(bed, begun_ns);
    }
    godwit_close(client);
    if (code == EXIT_OK) {
        histogram_add(&out->listen_ns, arrival.login_ns - begun_ns);
        histogram_add(&out->first_ns, arrival.delivery_ns - begun_ns);
    }
    return code;
}

/* Make a broker with something in it. */
static int fill(struct bed *bed, struct options *o, struct bench_setup *setup)
{
    int code = bed_start(bed, o);

    if (code == EXIT_OK) {
        code = await_broker(bed, now_ns());
    }
    if (code == EXIT_OK) {
        (void)session_args(&o->bench.session); /* its defaults */
        o->bench.session.credentials = bed->credentials;
        o->bench.session.url = bed->url;
        code = session_resolve(&o->bench.session);
    }
    if (code == EXIT_OK) {
        code = bench_setup_open(setup, &o->bench, 1, 1);
    }
    return code == EXIT_OK ? bench_fill(&o->bench, setup) : code;
}

static int run_round(struct options *o, struct outcome *out)
{
    struct bench_setup setup = { 0 };
    struct bed bed;
    char group[64];
    int code = bed_init(&bed, o);

    if (code == EXIT_OK) {
        code = fill(&bed, o, &setup);
    }
    bed_kill(&bed);
    bench_name_end(false);
    session_close(&setup.admin); /* not bench_setup_close(): it goes with all */
    if (code == EXIT_OK) {
        code = time_restart(&bed, o, bench_name(&setup, 0, group), out);
        read_log(&bed, out);
    }
    bed_fini(&bed);
    return code;
}

/* ---- the whole ---- */

static void print_report(const struct options *o, const struct outcome *out)
{
    struct report r;

    report_begin(&r, &o->bench, "restart", BENCH_SIZE | BENCH_COUNT);
    report_count(&r, "rounds", "rounds", out->first_ns.count);
    report_real(&r, "replayed", "replayed_kib", out->replayed_kib, "KiB");
    report_real(&r, "store open", "store_open_ms", out->open_ms, "ms");
    report_latency(&r, "login", "login_us", &out->listen_ns);
    report_latency(&r, "first delivery", "first_delivery_us", &out->first_ns);
    report_end(&r);
}

static int read_options(struct options *o, int argc, char **argv)
{
    const struct arg table[] = {
        { "godwitd", ARG_TEXT, &o->godwitd, "PATH",
          "the broker's program; default godwitd", 0, 0 },
        { "folder", ARG_TEXT, &o->folder, "DIR",
          "where to make its folder; default TMPDIR or /tmp", 0, 0 },
        { "size", ARG_SIZE, &o->bench.size, "BYTES", "of a body; default 128",
          16, 1024 * 1024 },
        { "count", ARG_COUNT, &o->bench.count, "N",
          "messages that are stored; default 1,000,000", 1, 1000000000 },
        { "rounds", ARG_COUNT, &o->rounds, "N",
          "how often, each in a new folder; default 5", 1, ROUNDS_MAX },
        { "json", ARG_FLAG, &o->bench.json, NULL, "the figures as JSON", 0, 0 },
        { NULL, ARG_FLAG, NULL, NULL, NULL, 0, 0 },
    };
    struct parsed parsed;

    return command_parse(&parsed, &help, table, NULL, 0, 0, argc, argv)
               ? -1
               : parsed.code;
}

int bench_restart(int argc, char **argv)
{
    static struct outcome out;
    static struct options o; /* its session must not move */
    const char *tmp = getenv("TMPDIR");
    int code;

    o = (struct options) { .godwitd = "godwitd",
                           .folder = tmp != NULL ? tmp : "/tmp",
                           .rounds = 5,
                           .bench = { .size = 128,
                                      .count = 1000000,
                                      .window = 1000,
                                      .producers = 1 } };
    code = read_options(&o, argc, argv);
    if (code >= 0) {
        return code;
    }
    out.replayed_kib = out.open_ms = NAN;
    code = EXIT_OK;
    for (uint64_t i = 0; i < o.rounds && code == EXIT_OK; i++) {
        code = run_round(&o, &out);
    }
    if (code == EXIT_OK || code == EXIT_INTERRUPTED) {
        print_report(&o, &out);
    }
    return code;
}
