/* The parts of `godwit verify`: verify.c does the work, verify_show.c and
 * verify_json.c tell what came of it, verify_receipt.c answers for receipts. */
#ifndef GODWIT_TOOLS_VERIFY_H
#define GODWIT_TOOLS_VERIFY_H

#include "storage/offline/backup.h"
#include "storage/offline/inspect.h"

#include "tools/godwit/args.h"
#include "tools/godwit/progress.h"

struct verify {
    const char *dir;
    bool in_use; /* by a broker, when it began */
    bool is_backup;
    struct manifest manifest; /* of a backup */
    uint64_t file_damages;    /* of it: files that are not as they were */
    struct inspect *inspect;
    struct inspect_totals totals;
    struct store_damage *damages; /* the first VERIFY_DAMAGES_KEPT */
    size_t damage_count;
    size_t damage_capacity;
    uint64_t took_ns;
    struct progress progress;
};

enum { VERIFY_DAMAGES_KEPT = 10000 };

/* Is all as it was written, and all there? */
bool verify_is_fine(const struct verify *v);

/* The next run of numbers of a topic, from *seq on, that are not there; *seq is
 * then behind it. False: there is no more. */
bool verify_next_missing(const struct inspect_topic *topic, uint64_t *seq,
                         struct seq_range *out);

/* Each living group that has settled and retried nothing at all. STATUS_NOMEM.
 */
MUST_CHECK enum status verify_each_idle_group(const struct verify *v,
                                              store_fact_fn fn, void *arg);

/* How the file of a damage is called: "log/0000000012.seg", "snapshot". */
char *verify_file(const struct store_damage *damage, char text[32]);

/* A report for people, on stdout; or as one JSON object. Each returns an exit
 * code. */
int verify_show(const struct verify *v);
int verify_show_json(const struct verify *v);

/* Look for each receipt and say what became of it, a line each. Returns an exit
 * code: OFFLINE_DAMAGE when one is neither there nor deleted by retention. */
int verify_receipts(struct verify *v, const struct arg_list *receipts,
                    bool json);

#endif
