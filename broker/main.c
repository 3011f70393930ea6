/* godwitd: arguments, configuration, signals; the rest is server.c. */
#include "broker/config.h"
#include "broker/net/tls.h"
#include "broker/server.h"
#include "storage/store.h"

#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

enum { EXIT_USAGE = 2, EXIT_CONFIG = 3, EXIT_BUSY = 4 };

static const char help[] =
    "usage: godwitd [--config FILE] [--data-dir DIR] [--listen HOST:PORT]\n"
    "               [--check-config] [--version]\n"
    "\n"
    "The Godwit message broker. A confirm means that the message is on disk.\n"
    "\n"
    "  --config FILE        read settings from a YAML file; what is said on\n"
    "                       the command line wins\n"
    "  --data-dir DIR       where the messages live (default godwit-data); "
    "made\n"
    "                       at the first start, with DIR/admin.credentials\n"
    "  --listen HOST:PORT   default 127.0.0.1:7654; port 0 takes a free one\n"
    "  --check-config       read the settings, say if they are good, and end\n"
    "  --version            what this is\n"
    "\n"
    "SIGTERM or SIGINT stops it in an orderly way: what was taken is answered\n"
    "and synced. Exit codes: 0 stopped, 1 failed, 2 usage, 3 configuration,\n"
    "4 another process has the port or, after 5 seconds still, the data "
    "folder.\n";

struct arguments {
    const char *config_file;
    const char *data_dir;
    const char *listen;
    bool check_config;
};

static void print_version(void)
{
    printf("godwitd %s, store format %d\n", GODWIT_VERSION,
           STORE_FORMAT_VERSION);
}

/* Ends the process for --help, --version and what it does not know. */
static void parse_arguments(int argc, char **argv, struct arguments *out)
{
    static const struct option options[] = {
        { "config", required_argument, NULL, 'c' },
        { "data-dir", required_argument, NULL, 'd' },
        { "listen", required_argument, NULL, 'l' },
        { "check-config", no_argument, NULL, 'k' },
        { "version", no_argument, NULL, 'V' },
        { "help", no_argument, NULL, 'h' },
        { NULL, 0, NULL, 0 },
    };
    int option;

    while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        switch (option) {
        case 'c':
            out->config_file = optarg;
            break;
        case 'd':
            out->data_dir = optarg;
            break;
        case 'l':
            out->listen = optarg;
            break;
        case 'k':
            out->check_config = true;
            break;
        case 'V':
            print_version();
            exit(EXIT_SUCCESS);
        case 'h':
            fputs(help, stdout);
            exit(EXIT_SUCCESS);
        default:
            fputs("try: godwitd --help\n", stderr);
            exit(EXIT_USAGE);
        }
    }
    if (optind < argc) {
        fprintf(stderr,
                "godwitd: unexpected argument \"%s\"\n"
                "try: godwitd --help\n",
                argv[optind]);
        exit(EXIT_USAGE);
    }
}

static enum status read_config(const struct arguments *arguments,
                               struct config *config, struct error *err)
{
    enum status status = STATUS_OK;

    config_init(config);
    if (arguments->config_file != NULL) {
        status = config_read(config, arguments->config_file, err);
    }
    if (status == STATUS_OK && arguments->data_dir != NULL) {
        status = config_set_data_dir(config, arguments->data_dir, err);
    }
    if (status == STATUS_OK && arguments->listen != NULL) {
        status = config_set_listen(config, arguments->listen, err);
    }
    if (status == STATUS_OK) {
        status = config_check(config, err);
    }
    return status;
}

/* Connections need descriptors: take as many as we may have. */
static void raise_descriptors(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &limit) != 0) {
            log_warn("descriptor limit not raised limit=%llu",
                     (unsigned long long)limit.rlim_cur);
        }
    }
}

static void block_signals(sigset_t *stop)
{
    sigset_t blocked;

    sigemptyset(stop);
    sigaddset(stop, SIGTERM);
    sigaddset(stop, SIGINT);
    blocked = *stop;
    sigaddset(&blocked, SIGPIPE);
    sigaddset(&blocked, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &blocked, NULL);
}

static int run(const struct config *config)
{
    struct server *server = NULL;
    struct error err = { 0 };
    sigset_t stop;
    enum status status;
    int signal_number = 0;

    block_signals(&stop);
    raise_descriptors();
    log_info("starting version=%s data_dir=%s", GODWIT_VERSION,
             config->data_dir);
    status = server_start(&server, config, &err);
    if (status == STATUS_CLOSED) {
        log_info("stopped before it started reason=\"%s\"", err.text);
        return EXIT_SUCCESS;
    }
    if (status != STATUS_OK) {
        log_error("start failed status=%s reason=\"%s\"", status_word(status),
                  err.text);
        return status == STATUS_BUSY ? EXIT_BUSY : EXIT_FAILURE;
    }
    sigwait(&stop, &signal_number);
    log_info("stopping signal=%s",
             signal_number == SIGTERM ? "SIGTERM" : "SIGINT");
    if (!server_stop(server)) {
        log_error("stopped with a frozen store");
        return EXIT_FAILURE;
    }
    log_info("stopped");
    return EXIT_SUCCESS;
}

static bool tls_is_good(const struct config *config, struct error *err)
{
    struct tls_context *context = NULL;

    if (config->certificate[0] != '\0'
        && tls_context_new(&context, config->certificate, config->key, err)
               != STATUS_OK) {
        return false;
    }
    tls_context_free(context);
    return true;
}

int main(int argc, char **argv)
{
    static struct config config;
    struct arguments arguments = { 0 };
    struct error err = { 0 };

    parse_arguments(argc, argv, &arguments);
    if (read_config(&arguments, &config, &err) != STATUS_OK) {
        fprintf(stderr, "godwitd: %s\n", err.text);
        return EXIT_CONFIG;
    }
    if (arguments.check_config && !tls_is_good(&config, &err)) {
        fprintf(stderr, "godwitd: %s\n", err.text);
        return EXIT_CONFIG;
    }
    if (arguments.check_config) {
        printf("the configuration is good: listen %s:%u, data_dir %s, workers "
               "%u\n",
               config.host, config.port, config.data_dir, config.workers);
        return EXIT_SUCCESS;
    }
    log_set_level(config.log_level);
    return run(&config);
}
