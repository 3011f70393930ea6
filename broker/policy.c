#include "broker/policy.h"

#include "broker/log.h"

#include <stdlib.h>

/* Longer than any clock says: nothing is that old. */
#define FOR_EVER_US (UINT64_C(1000) * 366 * 24 * 3600 * 1000000)

/* The groups that take a topic, by id; hangs on the catalog's entry. Made when
 * the store first asks, then kept current. */
struct owed {
    struct store_owed *at;
    size_t count;
    size_t capacity;
    bool known; /* false: to be looked for */
};

struct policy {
    struct catalog *catalog;
    struct store_view *view; /* reads the facts of new batches; NULL in tests */
    bool keep_all;           /* a fact was not understood */
};

static void keep_all(struct policy *p, const char *why)
{
    if (!p->keep_all) {
        log_error("nothing is deleted any more reason=\"%s\" effect=\"the disk "
                  "fills up\" do=\"restart\"",
                  why);
    }
    p->keep_all = true;
}

/* ---- who is owed ---- */

/* Where the group is, or would go. */
static size_t owed_place(const struct owed *owed, uint32_t group)
{
    size_t low = 0;
    size_t high = owed->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (owed->at[middle].group < group) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static enum status owed_add(struct owed *owed, const struct store_owed *added)
{
    size_t place;

    if (owed->count == owed->capacity) {
        size_t capacity = owed->capacity == 0 ? 4 : owed->capacity * 2;
        struct store_owed *at =
            realloc(owed->at, capacity * sizeof(struct store_owed));

        if (at == NULL) {
            return STATUS_NOMEM;
        }
        owed->at = at;
        owed->capacity = capacity;
    }
    place = owed_place(owed, added->group);
    memmove(owed->at + place + 1, owed->at + place,
            (owed->count - place) * sizeof(struct store_owed));
    owed->at[place] = *added;
    owed->count++;
    return STATUS_OK;
}

static void owed_remove(struct owed *owed, uint32_t group)
{
    size_t place = owed_place(owed, group);

    if (place < owed->count && owed->at[place].group == group) {
        owed->count--;
        memmove(owed->at + place, owed->at + place + 1,
                (owed->count - place) * sizeof(struct store_owed));
    }
}

static void forget(struct owed *owed)
{
    free(owed->at);
    *owed = (struct owed) { 0 };
}

/* Without memory it is looked for again, at the next question. */
static void add_if_taken(struct topic *topic, const struct group_fact *group)
{
    struct owed *owed = topic->user;
    const struct store_owed added = {
        .group = group->id,
        .after_seq = group_starts_after(group, topic->id),
    };

    if (owed != NULL && owed->known
        && group_takes_topic(group, slice_text(topic->name))
        && owed_add(owed, &added) != STATUS_OK) {
        forget(owed);
    }
}

struct looking {
    struct topic *topic;
    const struct group_fact *group;
};

static void look_at_group(void *arg, struct group_fact *group)
{
    struct looking *looking = arg;

    add_if_taken(looking->topic, group);
}

static void look_at_topic(void *arg, struct topic *topic)
{
    struct looking *looking = arg;

    add_if_taken(topic, looking->group);
}

static void drop_from_topic(void *arg, struct topic *topic)
{
    struct looking *looking = arg;

    if (topic->user != NULL) {
        owed_remove(topic->user, looking->group->id);
    }
}

/* False: no memory for it. */
static bool look_for_owed(struct policy *p, struct topic *topic)
{
    struct looking looking = { .topic = topic };
    struct owed *owed = topic->user;

    if (owed == NULL) {
        owed = topic->user = calloc(1, sizeof *owed);
    }
    if (owed == NULL) {
        return false;
    }
    if (!owed->known) {
        owed->known = true;
        catalog_each_group(p->catalog, look_at_group, &looking);
    }
    return owed->known;
}

/* ---- the catalog's changes ---- */

static void on_topic_gone(void *arg, struct topic *topic)
{
    (void)arg;
    if (topic->user != NULL) {
        forget(topic->user);
        free(topic->user);
        topic->user = NULL;
    }
}

static void on_group_added(void *arg, struct group_fact *group)
{
    struct policy *p = arg;
    struct looking looking = { .group = group };

    catalog_each_topic(p->catalog, look_at_topic, &looking);
}

static void on_group_gone(void *arg, struct group_fact *group)
{
    struct policy *p = arg;
    struct looking looking = { .group = group };

    catalog_each_topic(p->catalog, drop_from_topic, &looking);
}

void policy_fact(struct policy *p, const struct record_fact *fact)
{
    if (catalog_apply(p->catalog, fact) != STATUS_OK) {
        keep_all(p, "a catalog entry does not read");
    }
}

static void on_fact(void *arg, const struct record_fact *fact, uint32_t app)
{
    (void)app;
    policy_fact(arg, fact);
}

static void on_run(void *arg, const struct store_run *run)
{
    (void)arg;
    (void)run;
}

void policy_commit(struct policy *p, const struct store_commit *commit)
{
    const struct store_visitor visitor = { .run = on_run,
                                           .fact = on_fact,
                                           .arg = p };

    if (store_view_commit(p->view, commit, &visitor) != STATUS_OK) {
        keep_all(p, "a commit does not read");
    }
}

void policy_rest(struct policy *p)
{
    if (p->view != NULL) {
        store_view_rest(p->view);
    }
}

/* ---- answers ---- */

static void keep_for_ever(struct store_retention *out)
{
    *out = (struct store_retention) { .keep = STORE_KEEP_UNTIL_SETTLED,
                                      .age_us = FOR_EVER_US };
}

bool policy_topic(void *arg, uint32_t topic, struct store_retention *out)
{
    struct policy *p = arg;
    struct topic *t = catalog_topic_by_id(p->catalog, topic);
    const struct owed *owed;

    if (p->keep_all) {
        keep_for_ever(out);
        return true;
    }
    if (t == NULL) {
        return false;
    }
    if (t->retention.keep == KEEP_LIMIT) {
        *out = (struct store_retention) {
            .keep = STORE_KEEP_UNTIL_LIMIT,
            .age_us = t->retention.ms_max * 1000,
            .bytes = t->retention.bytes_max,
            .count = t->retention.count_max,
        };
        return true;
    }
    if (!look_for_owed(p, t)) {
        keep_for_ever(out); /* for now */
        return true;
    }
    owed = t->user;
    *out = (struct store_retention) { .keep = STORE_KEEP_UNTIL_SETTLED,
                                      .age_us = t->retention.ms_min * 1000,
                                      .owed = owed->at,
                                      .owed_count = owed->count };
    return true;
}

bool policy_keeps_all(const struct policy *p)
{
    return p->keep_all;
}

const char *policy_topic_name(const struct policy *p, uint32_t topic)
{
    const struct topic *t = catalog_topic_by_id(p->catalog, topic);

    return t == NULL ? NULL : t->name;
}

/* ---- making ---- */

static void load_fact(void *arg, const struct record_fact *fact)
{
    policy_fact(arg, fact);
}

enum status policy_new(struct policy **out, struct store *store,
                       struct error *err)
{
    struct policy *p = calloc(1, sizeof *p);
    const struct catalog_watch watch = {
        .topic_gone = on_topic_gone,
        .group_added = on_group_added,
        .group_gone = on_group_gone,
        .arg = p,
    };
    enum status status = STATUS_OK;

    if (p == NULL || (p->catalog = catalog_new()) == NULL) {
        policy_free(p);
        return error_set(err, STATUS_NOMEM, 0, "keeper: catalog");
    }
    catalog_set_watch(p->catalog, &watch);
    if (store != NULL) {
        status = store_view_open(&p->view, store, err);
        if (status == STATUS_OK
            && (status = store_each_fact(store, load_fact, p)) != STATUS_OK) {
            error_set(err, status, 0, "keeper: reading the catalog: %s",
                      status_text(status));
        }
    }
    if (status != STATUS_OK) {
        policy_free(p);
        return status;
    }
    *out = p;
    return STATUS_OK;
}

static void free_owed(void *arg, struct topic *topic)
{
    on_topic_gone(arg, topic);
}

void policy_free(struct policy *p)
{
    if (p == NULL) {
        return;
    }
    if (p->catalog != NULL) {
        catalog_each_topic(p->catalog, free_owed, p);
    }
    catalog_free(p->catalog);
    store_view_close(p->view);
    free(p);
}
