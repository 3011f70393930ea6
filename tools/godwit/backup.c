/* godwit backup: a copy of a data folder, also while a broker serves from it. */
#include "tools/godwit/commands.h"
#include "tools/godwit/copying.h"
#include "tools/godwit/offline.h"

#include <time.h>

static const struct help help = {
    .usage = "godwit backup DIR DEST [options]",
    .text = "Copies the data folder DIR into the new folder DEST. A broker may "
            "go on\n"
            "publishing, pushing and merging meanwhile: the copy holds each "
            "message\n"
            "that was confirmed before this command began, each ack, retry, "
            "topic,\n"
            "group and app, and maybe some of what came since; it never holds "
            "half of\n"
            "anything. Every checksum is verified on the way.\n"
            "\n"
            "DEST must not exist, or be empty. It gets the file `backup`, "
            "written last,\n"
            "with the length and checksum of each file: a folder without it is "
            "no whole\n"
            "backup. When something fails, or with Ctrl-C, nothing is left in "
            "DEST.\n"
            "DEST also has DIR/admin.credentials, if there: keep it as safe as "
            "DIR.\n"
            "\n"
            "Damage found in DIR is named and copied as it is: better a backup "
            "with a\n"
            "hole than none.\n"
            "\n"
            "Exit code 0: made; 1: made, and DIR is damaged; 2: not made.\n",
    .examples =
        "  godwit backup /var/lib/godwit /backup/godwit-monday\n"
        "  godwit verify /backup/godwit-monday\n"
        "  godwit restore /backup/godwit-monday /var/lib/godwit-again\n",
};

/* Beside what the store itself needs. */
static const char *const also[] = { "admin.credentials", NULL };

static uint64_t wall_us(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static int show(const struct copying *c, const struct manifest *m,
                const struct backup_job *job, bool json)
{
    if (json) {
        int code = copying_show_json(c, m, job->to);
        return code != EXIT_OK
                   ? OFFLINE_FAILED
                   : (m->damages > 0 ? OFFLINE_DAMAGE : OFFLINE_FINE);
    }
    printf("%s is backed up in %s\n", job->from, job->to);
    copying_show(c, m);
    printf("Bring it back with: godwit restore %s NEW-DIR\n", job->to);
    return m->damages > 0 ? OFFLINE_DAMAGE : OFFLINE_FINE;
}

static int make(struct backup_job *job, bool json)
{
    struct manifest manifest;
    struct copying copying;
    struct error err = { 0 };
    enum status status;
    int code;

    copying_begin(&copying, job, "copied");
    status = backup_make(job, &manifest, &err);
    copying_end(&copying);
    if (status == STATUS_OK) {
        code = show(&copying, &manifest, job, json);
    } else {
        code = offline_fail(status, &err);
        code = code == OFFLINE_DAMAGE ? OFFLINE_FAILED : code; /* none made */
    }
    manifest_fini(&manifest);
    return code;
}

int cmd_backup(int argc, char **argv)
{
    bool json = false;
    const struct arg table[] = {
        { "json", ARG_FLAG, &json, NULL, "say what was made as one JSON object",
          0, 0 },
        { NULL, ARG_FLAG, NULL, NULL, NULL, 0, 0 },
    };
    struct backup_job job = { .now_us = wall_us(), .also = also };
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
        return fail(OFFLINE_FAILED,
                    "%s lies inside %s; make the backup "
                    "somewhere else, best on another disk",
                    job.to, job.from);
    }
    return make(&job, json);
}
