/* What the log has not been told of a lane yet, in parts that are told one
 * after the other. Within one part the order is that of struct effects; what
 * must come later begins a new one. One thread. */
#ifndef GODWIT_BROKER_DELIVERY_UNTOLD_H
#define GODWIT_BROKER_DELIVERY_UNTOLD_H

#include "broker/delivery/group.h"

struct part;

/* Zero-initialised is empty. */
struct untold {
    struct part *first; /* kept when it is empty: the usual one */
    struct part *last;
    size_t range_count; /* of all sets */
    size_t failure_count;
    size_t reason_bytes;
};

void untold_fini(struct untold *untold);
/* The lane begins anew, behind all that is untold: of that the log has to know
 * who died. STATUS_NOMEM: nothing changed. */
MUST_CHECK enum status untold_seek(struct untold *untold, uint64_t after);

/* STATUS_NOMEM: nothing changed. */
MUST_CHECK enum status untold_add(struct untold *untold, enum effect_set set,
                                  struct seq_range range);
/* The same for EFFECT_REDRIVEN, behind what was told to be dead. */
MUST_CHECK enum status untold_add_redriven(struct untold *untold,
                                           struct seq_range range);
/* Room for one more failure and a copy of its reason; then note it, or drop the
 * copy. */
MUST_CHECK enum status untold_reserve(struct untold *untold,
                                      struct slice reason, uint8_t **copy);
/* Takes failure->reason.at, which is that copy, or NULL. */
void untold_note(struct untold *untold, const struct failure *failure);

bool untold_is_empty(const struct untold *untold);
/* The first of it, bounded as struct effects says, the order of a part kept;
 * lent until it changes. The sets are views. */
struct untold_view {
    struct seqset sets[EFFECT_SETS];
    struct effects effects; /* but for the topic */
};
void untold_first(const struct untold *untold, struct untold_view *out);
void untold_told(struct untold *untold, const struct untold_view *view);

#endif
