/* What each topic is to keep, and for whom: the catalog as the keeper knows it,
 * as of the last commit it was given. The store asks here before it deletes
 * anything, so what cannot be known (a fact that does not read, no memory) is
 * answered by keeping everything. One thread: the keeper's. */
#ifndef GODWIT_BROKER_POLICY_H
#define GODWIT_BROKER_POLICY_H

#include "broker/router/catalog.h"
#include "storage/store.h"

struct policy;

/* Reads the facts of the store; before the threads run. */
MUST_CHECK enum status policy_new(struct policy **out, struct store *store,
                                  struct error *err);
void policy_free(struct policy *policy); /* accepts NULL */

/* One more commit, in log order. */
void policy_commit(struct policy *policy, const struct store_commit *commit);
/* A fact by itself: for tests. */
void policy_fact(struct policy *policy, const struct record_fact *fact);
/* The keeper is about to sleep: see store_view_rest(). */
void policy_rest(struct policy *policy);

/* What store_upkeep() asks; `arg` is the policy. */
bool policy_topic(void *arg, uint32_t topic, struct store_retention *out);

/* A fact was not understood: nothing is deleted any more. */
bool policy_keeps_all(const struct policy *policy);

/* NULL, or a topic's name; lent until the next commit. */
const char *policy_topic_name(const struct policy *policy, uint32_t topic);

#endif
