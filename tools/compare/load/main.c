/* peer_load MODE --peer NAME --port PORT: one measurement of one broker, its
 * figures as a line of JSON. tools/compare/compare starts it. */
#include "tools/compare/load/load.h"

#include "tools/godwit/args.h"
#include "tools/godwit/command.h"

#include <stdlib.h>
#include <sys/resource.h>

static const struct {
    const char *name;
    bool (*run)(struct load *load);
} modes[] = {
    { "publish", load_publish }, { "fill", load_fill },
    { "endtoend", load_fanout }, { "fanout", load_fanout },
    { "latency", load_latency }, { "idle", load_idle },
    { "first", load_first },     { "ping", load_ping },
};

static const struct driver *const drivers[] = { &driver_redis, &driver_nats,
                                                &driver_mqtt, &driver_amqp };

static const struct help help = {
    .usage = "peer_load MODE --peer NAME --port PORT [options]",
    .text = "One measurement of a broker on 127.0.0.1. The modes: publish, "
            "endtoend, fanout,\n"
            "latency, idle (until its input ends), fill, first (delivery after "
            "a restart),\n"
            "ping. The peers: redis, nats, mqtt, amqp.\n",
};

static void raise_file_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static const struct driver *driver_named(const char *name)
{
    for (size_t i = 0; name != NULL && i < COUNT_OF(drivers); i++) {
        if (strcmp(drivers[i]->name, name) == 0) {
            return drivers[i];
        }
    }
    return NULL;
}

static int run(struct load *load, const char *mode)
{
    for (size_t i = 0; i < COUNT_OF(modes); i++) {
        if (strcmp(modes[i].name, mode) == 0) {
            bool ok = modes[i].run(load);

            load_fini(load);
            return ok ? EXIT_OK : fail(EXIT_FAILED, "%s", load->text);
        }
    }
    return fail(EXIT_USAGE, "no such mode: %s", mode);
}

int main(int argc, char **argv)
{
    static struct load load; /* large: histograms */
    struct load_options *o = &load.o;
    const char *peer = NULL;
    struct parsed parsed;

    *o = (struct load_options) { .name = "compare",
                                 .size = 1024,
                                 .count = 10000,
                                 .window = 1000,
                                 .connections = 1,
                                 .rate = 5000,
                                 .stall_ms = STALL_MS_DEFAULT };
    const struct arg table[] = {
        { "peer", ARG_TEXT, &peer, "NAME", "which protocol", 0, 0 },
        { "port", ARG_COUNT, &o->port, "PORT", "on 127.0.0.1", 1, 65535 },
        { "name", ARG_TEXT, &o->name, "NAME", "of the stream or queue", 0, 0 },
        { "size", ARG_SIZE, &o->size, "BYTES", "of a body", STAMP_LEN,
          64 * 1024 },
        { "count", ARG_COUNT, &o->count, "N", "messages", 1, 1000000000 },
        { "window", ARG_COUNT, &o->window, "N",
          "unconfirmed messages of a producer", 1, PEER_RING - 1 },
        { "connections", ARG_COUNT, &o->connections, "N",
          "producers, groups or idle connections", 1, 100000 },
        { "rate", ARG_COUNT, &o->rate, "N", "messages a second", 1, 1000000 },
        { "stall", ARG_SECONDS, &o->stall_ms, "SECONDS",
          "give up when nothing comes for so long", 100, 600 * 1000 },
        { NULL, ARG_FLAG, NULL, NULL, NULL, 0, 0 },
    };

    if (!command_parse(&parsed, &help, table, NULL, 1, 1, argc, argv)) {
        return parsed.code;
    }
    o->driver = driver_named(peer);
    if (o->driver == NULL || o->port == 0 || strlen(o->name) > PEER_NAME_MAX) {
        return fail(EXIT_USAGE, "give --peer and --port, see --help");
    }
    if (o->window > o->driver->window_max) {
        return fail(EXIT_USAGE, "--window: at most %u with %s",
                    (unsigned)o->driver->window_max, peer);
    }
    raise_file_limit();
    return run(&load, parsed.operands.at[0]);
}
