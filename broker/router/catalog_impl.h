/* Inside the catalog: the tables and the layout of a fact's value. Shared by
 * catalog.c, catalog_value.c and catalog_decide.c and by nobody else. */
#ifndef GODWIT_BROKER_ROUTER_CATALOG_IMPL_H
#define GODWIT_BROKER_ROUTER_CATALOG_IMPL_H

#include "broker/router/catalog.h"

/* How every entry begins, whatever its class. */
struct named {
    uint32_t id;
    char name[NAME_LEN_MAX + 1];
};

/* One class of things. Both arrays hold the same pointers and are kept sorted:
 * changes are rare, a look-up is a few comparisons, the listing is in order for
 * nothing, and no chosen name makes it slow. */
struct table {
    struct named **by_name;
    struct named **by_id;
    size_t count;
    size_t capacity;
    uint32_t last_id; /* highest ever heard of; ids are not used twice */
};

enum { CATALOG_CLASS_COUNT = 3 };

struct catalog {
    struct table tables[CATALOG_CLASS_COUNT];
    struct catalog_watch watch;
};

struct table *catalog_table(struct catalog *catalog, enum catalog_class class);
struct named *table_by_name(const struct table *table, struct slice name);

/* ---- catalog_value.c: the value of a fact ---- */

enum {
    VALUE_VERSION = 1,
    TOPIC_VALUE_VERSION = 2,
    GROUP_VALUE_VERSION = 2,
    VALUE_ADMIN = 2,
    VALUE_PAUSED = 4
};

MUST_CHECK enum status value_app_write(struct bytes *to, const struct app *app);
MUST_CHECK enum status value_topic_write(struct bytes *to,
                                         const struct topic *topic);
MUST_CHECK enum status value_group_write(struct bytes *to,
                                         const struct group_fact *group);

/* A new entry on the heap with everything but id and name, which the caller has
 * checked. STATUS_CORRUPT, STATUS_NEWER by its version byte, STATUS_NOMEM. */
MUST_CHECK enum status value_app_read(struct slice value, struct app **out);
MUST_CHECK enum status value_topic_read(struct slice value, struct topic **out);
MUST_CHECK enum status value_group_read(struct slice value,
                                        struct group_fact **out);
void app_free(struct app *app);
void topic_free(struct topic *topic);
void group_fact_free(struct group_fact *group);

/* Add one pattern that has been checked. STATUS_NOMEM. */
MUST_CHECK enum status patterns_append(struct patterns *patterns,
                                       struct slice pattern);
bool patterns_equal(const struct patterns *a, const struct patterns *b);

/* ---- group_options.c ---- */

/* What the request says, and where it is silent what `otherwise` says. Nothing
 * is copied: the filter stays whose it is. */
struct group_options options_asked(const struct catalog_request *request,
                                   const struct group_options *otherwise);
/* Within their bounds, without contradiction, the filter one that compiles? */
MUST_CHECK enum status options_check(const struct group_options *options,
                                     struct refusal *refusal);
/* Could another version have written them? */
bool options_sound(const struct group_options *options);
/* The same definition: whether it is paused is no part of it. */
bool options_equal(const struct group_options *a,
                   const struct group_options *b);

/* ---- catalog_start.c: where a new group begins ---- */

MUST_CHECK enum status start_check(struct catalog *catalog,
                                   const struct catalog_request *request,
                                   const struct catalog_context *context,
                                   struct refusal *refusal);
/* Fills group->starts, by id, because that is the order they are looked up in.
 * STATUS_NOMEM. */
MUST_CHECK enum status start_find(struct catalog *catalog,
                                  const struct catalog_context *context,
                                  struct group_fact *group);

/* ---- retention.c ---- */

/* Do its members go together, and are they within their bounds? *at is the one
 * that is not, with what is wrong about it. */
struct retention_fault {
    const char *limit;
    const char *text;
    uint64_t used;
    uint64_t allowed; /* 0: it is not a matter of how much */
};
bool retention_valid(const struct retention *retention,
                     struct retention_fault *fault);
bool retention_equal(const struct retention *a, const struct retention *b);

#endif
