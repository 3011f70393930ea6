/* What backup and restore share: the copying as a person sees it. */
#ifndef GODWIT_TOOLS_COPYING_H
#define GODWIT_TOOLS_COPYING_H

#include "storage/offline/backup.h"

#include "tools/godwit/progress.h"

struct copying {
    struct progress progress;
    uint64_t begun_ns;
    uint64_t damages;
    bool stopped;
};

/* Fill in what the job tells of its work; `c` must live as long as the job. */
void copying_begin(struct copying *c, struct backup_job *job, const char *what);

/* Take the progress line away. */
void copying_end(struct copying *c);

/* What a backup is and holds, some lines on stdout. */
void copying_show(const struct copying *c, const struct manifest *m);

/* The same as one JSON object. */
int copying_show_json(const struct copying *c, const struct manifest *m,
                      const char *dir);

#endif
