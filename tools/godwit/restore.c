/* godwit restore: a data folder out of a backup. */
#include "tools/godwit/commands.h"
#include "tools/godwit/copying.h"
#include "tools/godwit/offline.h"

static const struct help help = {
    .usage = "godwit restore BACKUP DIR [options]",
    .text =
        "Makes the data folder DIR out of what `godwit backup` wrote. Each "
        "file is\n"
        "checked against the lengths and checksums in the backup; when one is\n"
        "damaged or missing all of them are named and nothing is restored. DIR "
        "must\n"
        "not exist, or be empty. The backup is not changed.\n"
        "\n"
        "A broker starts on DIR: it makes its index of the log again, which "
        "takes as\n"
        "long as reading the log once. What was acked stays acked, what was "
        "not is\n"
        "delivered again. Never let brokers on two copies serve the same "
        "clients:\n"
        "they would number new messages alike.\n"
        "\n"
        "Exit code 0: restored; 1: the backup is damaged; 2: not restored.\n",
    .examples = "  godwit restore /backup/godwit-monday /var/lib/godwit-again\n"
                "  godwitd --data-dir /var/lib/godwit-again\n",
};

static int show(const struct copying *c, const struct manifest *m,
                const struct backup_job *job, bool json)
{
    int code = c->damages > 0 ? OFFLINE_DAMAGE : OFFLINE_FINE;

    if (json) {
        return copying_show_json(c, m, job->to) == EXIT_OK ? code
                                                           : OFFLINE_FAILED;
    }
    printf("%s is restored in %s\n", job->from, job->to);
    copying_show(c, m);
    if (m->damages > 0) {
        fprintf(stderr,
                "note: the store was damaged already when it was backed up; "
                "see godwit verify %s\n",
                job->to);
    }
    printf("Start a broker on it with: godwitd --data-dir %s\n", job->to);
    return code;
}

static int restore(struct backup_job *job, bool json)
{
    struct manifest manifest;
    struct copying copying;
    struct error err = { 0 };
    enum status status;
    int code;

    copying_begin(&copying, job, "restored");
    status = backup_restore(job, &manifest, &err);
    copying_end(&copying);
    if (status == STATUS_OK) {
        code = show(&copying, &manifest, job, json);
    } else {
        code = offline_fail(status, &err);
    }
    manifest_fini(&manifest);
    return code;
}

int cmd_restore(int argc, char **argv)
{
    bool json = false;
    struct backup_job job = { 0 };
    const struct arg table[] = {
        { "despite-damage", ARG_FLAG, &job.despite_damage, NULL,
          "restore what is damaged too, as it is: the broker reports it as "
          "gaps",
          0, 0 },
        { "json", ARG_FLAG, &json, NULL,
          "say what was restored as one JSON object", 0, 0 },
        { NULL, ARG_FLAG, NULL, NULL, NULL, 0, 0 },
    };
    struct parsed parsed;

    if (!command_parse(&parsed, &help, table, NULL, 2, 2, argc, argv)) {
        return parsed.code;
    }
    job.from = parsed.operands.at[0];
    job.to = parsed.operands.at[1];
    if (!offline_check_folder(job.from)) {
        return OFFLINE_FAILED;
    }
    if (offline_inside(job.to, job.from)) {
        return fail(OFFLINE_FAILED, "%s lies inside %s", job.to, job.from);
    }
    return restore(&job, json);
}
