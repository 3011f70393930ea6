/* May this change be made, and what is the fact that makes it? Worker 0 only.
 *
 * The replica must know every change decided before: the caller asks for the
 * next decision only when the fact of the last one was applied. Ids are the
 * highest ever used plus one, deleted ones counted. */
#include "broker/router/catalog.h"

#include "broker/router/catalog_impl.h"
#include "proto/name.h"

#include <stdio.h>
#include <stdlib.h>

static const char *class_word(enum catalog_class class)
{
    switch (class) {
    case CATALOG_APP:
        return "app";
    case CATALOG_TOPIC:
        return "topic";
    case CATALOG_GROUP:
        return "group";
    }
    return "";
}

static void set_scope(struct refusal *refusal, enum catalog_class class,
                      const char *name)
{
    (void)snprintf(refusal->scope, sizeof refusal->scope, "%s %s",
                   class_word(class), name);
}

static enum status refuse_count(struct refusal *refusal, enum status status,
                                const char *limit, const char *text,
                                uint64_t used, uint64_t allowed)
{
    (void)refuse(refusal, status, limit, "%s", text);
    refusal->used = used;
    refusal->allowed = allowed;
    return status;
}

static enum status no_memory(struct refusal *refusal)
{
    return refuse(refusal, STATUS_NOMEM, "memory", "out of memory");
}

/* ---- who asks ---- */

/* The broker itself is an app that may everything. */
static enum status find_asker(const struct catalog *catalog, uint32_t id,
                              const struct app **out, struct refusal *refusal)
{
    *out = NULL;
    if (id == 0) {
        return STATUS_OK;
    }
    *out = catalog_app_by_id(catalog, id);
    if (*out == NULL) {
        return refuse(refusal, STATUS_UNAUTHENTICATED, "app",
                      "the app that asks has been deleted");
    }
    return STATUS_OK;
}

static enum status may_create_group(const struct app *asker,
                                    const struct patterns *topics,
                                    struct refusal *refusal)
{
    for (size_t i = 0; i < topics->count; i++) {
        if (!app_may_subscribe(asker, slice_text(topics->at[i]))) {
            return refuse(refusal, STATUS_FORBIDDEN, "grant",
                          "app %s has no subscribe grant for %s", asker->name,
                          topics->at[i]);
        }
    }
    return STATUS_OK;
}

static enum status may_create(const struct app *asker,
                              const struct catalog_request *request,
                              struct refusal *refusal)
{
    if (asker == NULL || asker->admin) {
        return STATUS_OK;
    }
    switch (request->class) {
    case CATALOG_APP:
        return refuse(refusal, STATUS_FORBIDDEN, "admin",
                      "only an admin app may create apps");
    case CATALOG_TOPIC:
        if (!app_may_publish(asker, slice_text(request->name))) {
            return refuse(refusal, STATUS_FORBIDDEN, "grant",
                          "app %s has no publish grant for %s", asker->name,
                          request->name);
        }
        return STATUS_OK;
    case CATALOG_GROUP:
        return may_create_group(asker, &request->topics, refusal);
    }
    return STATUS_OK;
}

static const char *verb_of(enum catalog_op op)
{
    return op == CATALOG_UPDATE ? "change" : "delete";
}

/* Delete or change what is there. */
static enum status may_change(const struct app *asker, enum catalog_op op,
                              enum catalog_class class,
                              const struct named *entry,
                              struct refusal *refusal)
{
    uint32_t owner = 0;

    if (asker == NULL || asker->admin) {
        return STATUS_OK;
    }
    switch (class) {
    case CATALOG_APP:
        return refuse(refusal, STATUS_FORBIDDEN, "admin",
                      "only an admin app may delete apps");
    case CATALOG_TOPIC:
        owner = ((const struct topic *)entry)->app;
        break;
    case CATALOG_GROUP:
        owner = ((const struct group_fact *)entry)->app;
        break;
    }
    if (owner != asker->id) {
        return refuse(refusal, STATUS_FORBIDDEN, "owner",
                      "only its owner or an admin app may %s a %s", verb_of(op),
                      class_word(class));
    }
    return STATUS_OK;
}

/* ---- the numbers of a request ---- */

static uint64_t count_max(enum catalog_class class)
{
    switch (class) {
    case CATALOG_APP:
        return APP_COUNT_MAX;
    case CATALOG_TOPIC:
        return TOPIC_COUNT_MAX;
    case CATALOG_GROUP:
        return GROUP_COUNT_MAX;
    }
    return 0;
}

static const char *count_limit(enum catalog_class class)
{
    switch (class) {
    case CATALOG_APP:
        return "app_count";
    case CATALOG_TOPIC:
        return "topic_count";
    case CATALOG_GROUP:
        return "group_count";
    }
    return "";
}

static enum status check_count(const struct catalog *catalog,
                               enum catalog_class class,
                               struct refusal *refusal)
{
    uint64_t used = catalog_count(catalog, class);

    if (used >= count_max(class)) {
        return refuse_count(refusal, STATUS_TOO_LARGE, count_limit(class),
                            "there are as many already as there may be", used,
                            count_max(class));
    }
    return STATUS_OK;
}

/* Nothing said is the default. */
static struct group_options
options_for_new(const struct catalog_request *request)
{
    struct group_options defaults = group_options_default();

    return options_asked(request, &defaults);
}

static enum status check_group_request(const struct catalog_request *request,
                                       struct refusal *refusal)
{
    struct group_options options = options_for_new(request);

    if (request->topics.count == 0) {
        return refuse_count(refusal, STATUS_INVALID, "group_patterns",
                            "a group needs at least one topic or pattern", 0,
                            GROUP_PATTERN_COUNT_MAX);
    }
    if (request->topics.count > GROUP_PATTERN_COUNT_MAX) {
        return refuse_count(refusal, STATUS_TOO_LARGE, "group_patterns",
                            "too many topics or patterns in a group",
                            request->topics.count, GROUP_PATTERN_COUNT_MAX);
    }
    return options_check(&options, refusal);
}

static enum status check_app_request(const struct catalog_request *request,
                                     struct refusal *refusal)
{
    size_t used = request->publish.count > request->subscribe.count
                      ? request->publish.count
                      : request->subscribe.count;

    if (used > APP_GRANT_COUNT_MAX) {
        return refuse_count(refusal, STATUS_TOO_LARGE, "app_grants",
                            "too many grants of one kind", used,
                            APP_GRANT_COUNT_MAX);
    }
    if (used == 0 && !request->admin) {
        return refuse_count(refusal, STATUS_INVALID, "app_grants",
                            "an app needs at least one publish or subscribe "
                            "grant, or to be an admin",
                            0, APP_GRANT_COUNT_MAX);
    }
    return STATUS_OK;
}

/* Nothing said is the default. */
static struct retention asked_retention(const struct catalog_request *request)
{
    struct retention retention = request->retention;

    if (retention.keep == 0) {
        retention.keep = KEEP_SETTLED;
    }
    return retention;
}

static enum status check_topic_request(const struct catalog_request *request,
                                       struct refusal *refusal)
{
    struct retention retention = asked_retention(request);
    struct retention_fault fault;

    if (retention_valid(&retention, &fault)) {
        return STATUS_OK;
    }
    return refuse_count(refusal, STATUS_INVALID, fault.limit, fault.text,
                        fault.used, fault.allowed);
}

static enum status check_request(const struct catalog_request *request,
                                 struct refusal *refusal)
{
    switch (request->class) {
    case CATALOG_APP:
        return check_app_request(request, refusal);
    case CATALOG_TOPIC:
        return check_topic_request(request, refusal);
    case CATALOG_GROUP:
        return check_group_request(request, refusal);
    }
    return STATUS_OK;
}

static bool same_definition(const struct named *entry,
                            const struct catalog_request *request)
{
    const struct app *app = (const struct app *)entry;
    const struct group_fact *group = (const struct group_fact *)entry;
    const struct topic *topic = (const struct topic *)entry;
    struct retention retention = asked_retention(request);
    struct group_options options = options_for_new(request);

    switch (request->class) {
    case CATALOG_APP:
        return app->admin == request->admin
               && patterns_equal(&app->publish, &request->publish)
               && patterns_equal(&app->subscribe, &request->subscribe);
    case CATALOG_TOPIC:
        return retention_equal(&topic->retention, &retention);
    case CATALOG_GROUP:
        return group->from == request->from
               && group->from_at == request->from_at
               && options_equal(&group->options, &options)
               && patterns_equal(&group->topics, &request->topics);
    }
    return false;
}

/* ---- the facts ---- */

static enum status write_fact(struct bytes *body, enum catalog_class class,
                              uint32_t id, const char *name, bool deleted,
                              const struct bytes *value)
{
    struct record_fact fact = {
        .class = class,
        .id = id,
        .deleted = deleted,
        .name = slice_text(name),
    };

    if (value != NULL && value->at != NULL) {
        fact.value = slice_of(bytes_begin(value), bytes_len(value));
    }
    return record_fact_write(body, &fact);
}

static void make_secret(const uint8_t *random, char secret[SECRET_LEN_MAX + 1])
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                 "abcdefghijklmnopqrstuvwxyz0123456789-_";
    size_t len = 0;

    for (size_t i = 0; i < SECRET_RANDOM_LEN; i += 3) {
        uint32_t three = (uint32_t)random[i] << 16
                         | (uint32_t)random[i + 1] << 8 | random[i + 2];

        for (unsigned shift = 24; shift > 0; shift -= 6) {
            secret[len++] = digits[three >> (shift - 6) & 63];
        }
    }
    secret[len] = '\0';
}

static enum status app_value(struct bytes *value,
                             const struct catalog_request *request,
                             const struct catalog_context *context,
                             char secret[SECRET_LEN_MAX + 1])
{
    /* The patterns stay the request's. */
    struct app app = {
        .admin = request->admin,
        .publish = request->publish,
        .subscribe = request->subscribe,
        .created_us = context->now_us,
    };
    enum status status;

    make_secret(context->random, app.secret);
    memcpy(secret, app.secret, sizeof app.secret);
    status = value_app_write(value, &app);
    explicit_bzero(app.secret, sizeof app.secret);
    return status;
}

static enum status group_value(struct catalog *catalog, struct bytes *value,
                               const struct catalog_request *request,
                               const struct catalog_context *context)
{
    /* The patterns and the filter stay the request's. */
    struct group_fact group = {
        .app = request->app,
        .topics = request->topics,
        .from = request->from,
        .from_at = request->from_at,
        .options = options_for_new(request),
        .created_us = context->now_us,
    };
    enum status status = start_find(catalog, context, &group);

    if (status == STATUS_OK) {
        status = value_group_write(value, &group);
    }
    free(group.starts);
    return status;
}

static enum status write_creation(struct catalog *catalog,
                                  const struct catalog_request *request,
                                  const struct catalog_context *context,
                                  uint32_t id, struct bytes *body,
                                  char secret[SECRET_LEN_MAX + 1])
{
    struct topic topic = { .app = request->app,
                           .created_us = context->now_us,
                           .retention = asked_retention(request) };
    struct bytes value = { 0 };
    enum status status = STATUS_INTERNAL;

    switch (request->class) {
    case CATALOG_APP:
        status = app_value(&value, request, context, secret);
        break;
    case CATALOG_TOPIC:
        status = value_topic_write(&value, &topic);
        break;
    case CATALOG_GROUP:
        status = group_value(catalog, &value, request, context);
        break;
    }
    if (status == STATUS_OK) {
        status =
            write_fact(body, request->class, id, request->name, false, &value);
    }
    if (value.at != NULL) {
        explicit_bzero(value.at, value.capacity);
    }
    bytes_fini(&value);
    return status;
}

/* ---- decisions ---- */

static enum status check_creation(struct catalog *catalog,
                                  const struct catalog_request *request,
                                  const struct catalog_context *context,
                                  const struct named *entry,
                                  struct refusal *refusal)
{
    const struct app *asker;
    enum status status = find_asker(catalog, request->app, &asker, refusal);

    if (status != STATUS_OK) {
        return status;
    }
    status = may_create(asker, request, refusal);
    if (status != STATUS_OK) {
        return status;
    }
    status = check_request(request, refusal);
    if (status != STATUS_OK) {
        return status;
    }
    if (entry != NULL) {
        return refuse(refusal, STATUS_EXISTS, "name",
                      "%s %s exists already, with %s definition",
                      class_word(request->class), request->name,
                      same_definition(entry, request) ? "the same" : "another");
    }
    status = check_count(catalog, request->class, refusal);
    if (status == STATUS_OK && request->class == CATALOG_GROUP) {
        status = start_check(catalog, request, context, refusal);
    }
    return status;
}

/* How many pairs of a group and a topic come with it. */
static uint64_t lanes_of(const struct catalog *catalog,
                         const struct catalog_request *request)
{
    const struct table *topics = &catalog->tables[CATALOG_TOPIC - CATALOG_APP];
    const struct table *groups = &catalog->tables[CATALOG_GROUP - CATALOG_APP];
    uint64_t count = 0;

    switch (request->class) {
    case CATALOG_APP:
        break;
    case CATALOG_TOPIC:
        for (size_t i = 0; i < groups->count; i++) {
            count +=
                group_takes_topic((const struct group_fact *)groups->by_id[i],
                                  slice_text(request->name));
        }
        break;
    case CATALOG_GROUP:
        for (size_t i = 0; i < topics->count; i++) {
            count += patterns_match(&request->topics,
                                    slice_text(topics->by_id[i]->name));
        }
        break;
    }
    return count;
}

static enum status check_lanes(const struct catalog *catalog,
                               const struct catalog_request *request,
                               const struct catalog_context *context,
                               struct refusal *refusal)
{
    uint64_t added = lanes_of(catalog, request);
    uint64_t used = context->lane_count + added;

    if (added == 0 || used <= LANE_COUNT_MAX) {
        return STATUS_OK;
    }
    return refuse_count(refusal, STATUS_TOO_LARGE, "lane_count",
                        "the groups take more topics together than they may",
                        used, LANE_COUNT_MAX);
}

static enum status
decide_create(struct catalog *catalog, const struct catalog_request *request,
              const struct catalog_context *context, struct bytes *body,
              char secret[SECRET_LEN_MAX + 1], struct refusal *refusal)
{
    struct table *table = catalog_table(catalog, request->class);
    enum status status = check_creation(
        catalog, request, context,
        table_by_name(table, slice_text(request->name)), refusal);

    if (status != STATUS_OK) {
        return status;
    }
    status = check_lanes(catalog, request, context, refusal);
    if (status != STATUS_OK) {
        return status;
    }
    if (table->last_id == UINT32_MAX) {
        return refuse_count(refusal, STATUS_TOO_LARGE, "id",
                            "all ids of this class are used up", UINT32_MAX,
                            UINT32_MAX);
    }
    return write_creation(catalog, request, context, table->last_id + 1, body,
                          secret)
                   == STATUS_OK
               ? STATUS_OK
               : no_memory(refusal);
}

/* Without an admin nobody could ever make another. */
static enum status check_last_admin(struct catalog *catalog,
                                    const struct app *app,
                                    struct refusal *refusal)
{
    const struct table *apps = catalog_table(catalog, CATALOG_APP);

    if (!app->admin) {
        return STATUS_OK;
    }
    for (size_t i = 0; i < apps->count; i++) {
        const struct app *other = (const struct app *)apps->by_id[i];

        if (other != app && other->admin) {
            return STATUS_OK;
        }
    }
    return refuse(refusal, STATUS_FORBIDDEN, "last_admin",
                  "app %s is the last admin", app->name);
}

/* May the asker delete or change it, and is it there? */
static enum status check_owner(struct catalog *catalog,
                               const struct catalog_request *request,
                               const struct named *entry,
                               struct refusal *refusal)
{
    const struct app *asker;
    enum status status = find_asker(catalog, request->app, &asker, refusal);

    if (status != STATUS_OK) {
        return status;
    }
    if (entry == NULL) {
        return refuse(refusal, STATUS_NOT_FOUND, "name", "no %s named %s",
                      class_word(request->class), request->name);
    }
    return may_change(asker, request->op, request->class, entry, refusal);
}

static enum status check_deletion(struct catalog *catalog,
                                  const struct catalog_request *request,
                                  const struct named *entry,
                                  struct refusal *refusal)
{
    enum status status = check_owner(catalog, request, entry, refusal);

    if (status != STATUS_OK || request->class != CATALOG_APP) {
        return status;
    }
    return check_last_admin(catalog, (const struct app *)entry, refusal);
}

static enum status decide_delete(struct catalog *catalog,
                                 const struct catalog_request *request,
                                 struct bytes *body, struct refusal *refusal)
{
    const struct named *entry = table_by_name(
        catalog_table(catalog, request->class), slice_text(request->name));
    enum status status = check_deletion(catalog, request, entry, refusal);

    if (status != STATUS_OK) {
        return status;
    }
    return write_fact(body, request->class, entry->id, entry->name, true, NULL)
                   == STATUS_OK
               ? STATUS_OK
               : no_memory(refusal);
}

/* The fact of a topic once more, with another retention. */
static enum status update_topic(const struct catalog_request *request,
                                const struct named *entry, struct bytes *value,
                                struct refusal *refusal)
{
    struct topic topic = *(const struct topic *)entry;
    enum status status = check_topic_request(request, refusal);

    if (status != STATUS_OK) {
        return status;
    }
    topic.retention = asked_retention(request);
    status = value_topic_write(value, &topic);
    return status == STATUS_OK ? STATUS_OK : no_memory(refusal);
}

/* That of a group, with other options. All else stays the entry's. */
static enum status update_group(const struct catalog_request *request,
                                const struct named *entry, struct bytes *value,
                                struct refusal *refusal)
{
    struct group_fact group = *(const struct group_fact *)entry;
    enum status status;

    group.options = options_asked(request, &group.options);
    status = options_check(&group.options, refusal);
    if (status != STATUS_OK) {
        return status;
    }
    status = value_group_write(value, &group);
    return status == STATUS_OK ? STATUS_OK : no_memory(refusal);
}

static enum status decide_update(struct catalog *catalog,
                                 const struct catalog_request *request,
                                 struct bytes *body, struct refusal *refusal)
{
    const struct named *entry = table_by_name(
        catalog_table(catalog, request->class), slice_text(request->name));
    struct bytes value = { 0 };
    enum status status = check_owner(catalog, request, entry, refusal);

    CHECK(request->class != CATALOG_APP);
    if (status == STATUS_OK) {
        status = request->class == CATALOG_TOPIC
                     ? update_topic(request, entry, &value, refusal)
                     : update_group(request, entry, &value, refusal);
    }
    if (status == STATUS_OK
        && write_fact(body, request->class, entry->id, entry->name, false,
                      &value)
               != STATUS_OK) {
        status = no_memory(refusal);
    }
    bytes_fini(&value);
    return status;
}

static enum status decide(struct catalog *catalog,
                          const struct catalog_request *request,
                          const struct catalog_context *context,
                          struct bytes *body, char secret[SECRET_LEN_MAX + 1],
                          struct refusal *refusal)
{
    switch (request->op) {
    case CATALOG_CREATE:
        return decide_create(catalog, request, context, body, secret, refusal);
    case CATALOG_DELETE:
        return decide_delete(catalog, request, body, refusal);
    case CATALOG_UPDATE:
        return decide_update(catalog, request, body, refusal);
    }
    return STATUS_INTERNAL;
}

enum status catalog_decide(struct catalog *catalog,
                           const struct catalog_request *request,
                           const struct catalog_context *context,
                           struct bytes *body, char secret[SECRET_LEN_MAX + 1],
                           struct refusal *refusal)
{
    enum status status;

    secret[0] = '\0';
    CHECK(memchr(request->name, '\0', sizeof request->name) != NULL);
    if (!name_valid(slice_text(request->name))) {
        (void)refuse(refusal, STATUS_INVALID, "name",
                     "a name is 1 to %d letters, digits, '.', '_' and '-', "
                     "and does not begin with '.' or '-'",
                     NAME_LEN_MAX);
        return STATUS_INVALID;
    }
    status = decide(catalog, request, context, body, secret, refusal);
    if (status != STATUS_OK) {
        secret[0] = '\0';
        set_scope(refusal, request->class, request->name);
    }
    return status;
}

void catalog_request_fini(struct catalog_request *request)
{
    patterns_fini(&request->publish);
    patterns_fini(&request->subscribe);
    patterns_fini(&request->topics);
    free(request->options.filter);
    request->options.filter = NULL;
}
