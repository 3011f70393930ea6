/* bench disk: what the disk below a folder and the loopback interface can do
 * without a broker, so that a broker's figures can be compared with it. */
#include "tools/bench/limit.h"
#include "tools/bench/report.h"

#include "tools/godwit/interrupt.h"

enum { APPEND_MS = 2000, SYNC_MS = 1000, OTHER_MS = 500 };

static const struct help help = {
    .usage = "godwit bench disk [options]",
    .text =
        "Measures the machine, not a broker: one thread appends groups of "
        "256 KiB and\n"
        "then of 4 MiB to a file of zeros, each with fdatasync; it writes "
        "4 KiB with\n"
        "fdatasync, reads the file by a mapping, from the page cache, and "
        "streams over\n"
        "loopback TCP. Takes about five seconds and 128 MiB in --dir, in a "
        "file\n"
        "without a name that is gone whatever happens. The messages a second "
        "are the\n"
        "bytes a second of the better groups divided by the size of a body: "
        "plain\n"
        "appends to compare with, not a bound: the disk's pace changes while "
        "one looks,\n"
        "and another size of group may suit it better.\n",
    .examples = "  godwit bench disk --dir /var/lib/godwit\n",
};

/* What was found. */
static struct {
    struct appends append;
    struct pace read;
    struct pace loopback;
    struct histogram sync_ns;
} found;

static int measure(const char *dir)
{
    struct limit_file file;
    int code = limit_file_open(&file, dir);

    if (code == EXIT_OK) {
        code = limit_append(&file, APPEND_MS, &found.append);
    }
    if (code == EXIT_OK) {
        code = limit_sync(&file, SYNC_MS, &found.sync_ns);
    }
    if (code == EXIT_OK) {
        code = limit_read(&file, OTHER_MS, &found.read);
    }
    limit_file_close(&file);
    return code == EXIT_OK ? limit_loopback(OTHER_MS, &found.loopback) : code;
}

static void print_report(const struct bench_options *o)
{
    struct report r;
    double bytes = appends_bytes(&found.append);

    report_begin(&r, o, "disk", 0);
    report_bytes(&r, "synced each 256 KiB", "group_bytes_per_second",
                 pace_bytes(&found.append.group), "/s");
    report_bytes(&r, "synced each 4 MiB", "batch_bytes_per_second",
                 pace_bytes(&found.append.batch), "/s");
    report_bytes(&r, "the better of them", "append_bytes_per_second", bytes,
                 "/s");
    report_real(&r, "  as 128 B", "messages_per_second_128", bytes / 128,
                "msg/s");
    report_real(&r, "  as 1 KiB", "messages_per_second_1024", bytes / 1024,
                "msg/s");
    report_real(&r, "  as 16 KiB", "messages_per_second_16384", bytes / 16384,
                "msg/s");
    report_latency(&r, "sync of 4 KiB", "sync_us", &found.sync_ns);
    report_bytes(&r, "mapped read", "read_bytes_per_second",
                 pace_bytes(&found.read), "/s");
    report_bytes(&r, "loopback stream", "loopback_bytes_per_second",
                 pace_bytes(&found.loopback), "/s");
    report_end(&r);
}

int bench_disk(int argc, char **argv)
{
    struct bench_options o = { .dir = "." };
    const struct arg table[] = {
        { "dir", ARG_TEXT, &o.dir, "DIR",
          "the folder whose disk is meant; default this one", 0, 0 },
        { "json", ARG_FLAG, &o.json, NULL, "the figures as JSON", 0, 0 },
        { NULL, ARG_FLAG, NULL, NULL, NULL, 0, 0 },
    };
    struct parsed parsed;
    int code;

    if (!command_parse(&parsed, &help, table, NULL, 0, 0, argc, argv)) {
        return parsed.code;
    }
    code = measure(o.dir);
    if (code == EXIT_OK || (interrupted() && found.append.group.count > 0)) {
        print_report(&o);
    }
    return code;
}
