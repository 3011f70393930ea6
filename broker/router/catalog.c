/* The replica: facts in, look-ups out. What a value says is catalog_value.c's,
 * what may be changed catalog_decide.c's. */
#include "broker/router/catalog.h"

#include "broker/router/catalog_impl.h"
#include "proto/name.h"

#include <stdlib.h>

_Static_assert(
    offsetof(struct app, id) == offsetof(struct named, id)
        && offsetof(struct app, name) == offsetof(struct named, name)
        && offsetof(struct topic, id) == offsetof(struct named, id)
        && offsetof(struct topic, name) == offsetof(struct named, name)
        && offsetof(struct group_fact, id) == offsetof(struct named, id)
        && offsetof(struct group_fact, name) == offsetof(struct named, name),
    "every entry begins with its id and its name");

/* ---- one class of things ---- */

enum { PLACE_LEN = sizeof(void *) }; /* of an array of entries */

static int compare_name(struct slice a, const char *b_text)
{
    struct slice b = slice_text(b_text);
    size_t len = a.len < b.len ? a.len : b.len;
    int order = len == 0 ? 0 : memcmp(a.at, b.at, len);

    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

/* Where `name` is, or where it would go, in by_name. */
static size_t table_name_place(const struct table *table, struct slice name,
                               bool *found)
{
    size_t low = 0;
    size_t high = table->count;

    *found = false;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = compare_name(name, table->by_name[middle]->name);

        if (order == 0) {
            *found = true;
            return middle;
        }
        if (order < 0) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

static size_t id_place(const struct table *table, uint32_t id, bool *found)
{
    size_t low = 0;
    size_t high = table->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (table->by_id[middle]->id < id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    *found = low < table->count && table->by_id[low]->id == id;
    return low;
}

struct named *table_by_name(const struct table *table, struct slice name)
{
    bool found;
    size_t place = table_name_place(table, name, &found);

    return found ? table->by_name[place] : NULL;
}

static struct named *table_by_id(const struct table *table, uint32_t id)
{
    bool found;
    size_t place = id_place(table, id, &found);

    return found ? table->by_id[place] : NULL;
}

static enum status table_reserve(struct table *table)
{
    size_t capacity = table->capacity < 16 ? 16 : table->capacity * 2;
    struct named **at;

    if (table->count < table->capacity) {
        return STATUS_OK;
    }
    at = realloc(table->by_name, capacity * PLACE_LEN);
    if (at == NULL) {
        return STATUS_NOMEM;
    }
    table->by_name = at;
    at = realloc(table->by_id, capacity * PLACE_LEN);
    if (at == NULL) {
        return STATUS_NOMEM; /* by_name is only larger than it need be */
    }
    table->by_id = at;
    table->capacity = capacity;
    return STATUS_OK;
}

static void insert_at(struct named **array, size_t count, size_t place,
                      struct named *entry)
{
    memmove(array + place + 1, array + place, (count - place) * PLACE_LEN);
    array[place] = entry;
}

static void remove_at(struct named **array, size_t count, size_t place)
{
    memmove(array + place, array + place + 1, (count - place - 1) * PLACE_LEN);
}

/* Neither its name nor its id is there yet, and there is room. */
static void table_insert(struct table *table, struct named *entry)
{
    bool found;
    size_t place = table_name_place(table, slice_text(entry->name), &found);

    CHECK(!found && table->count < table->capacity);
    insert_at(table->by_name, table->count, place, entry);
    place = id_place(table, entry->id, &found);
    CHECK(!found);
    insert_at(table->by_id, table->count, place, entry);
    table->count++;
}

static void table_remove(struct table *table, const struct named *entry)
{
    bool found;
    size_t place = table_name_place(table, slice_text(entry->name), &found);

    CHECK(found && table->by_name[place] == entry);
    remove_at(table->by_name, table->count, place);
    place = id_place(table, entry->id, &found);
    CHECK(found && table->by_id[place] == entry);
    remove_at(table->by_id, table->count, place);
    table->count--;
}

/* ---- the catalog ---- */

struct catalog *catalog_new(void)
{
    return calloc(1, sizeof(struct catalog));
}

struct table *catalog_table(struct catalog *catalog, enum catalog_class class)
{
    CHECK(class >= CATALOG_APP && class <= CATALOG_GROUP);
    return &catalog->tables[class - CATALOG_APP];
}

static const struct table *table_of(const struct catalog *catalog,
                                    enum catalog_class class)
{
    return &catalog->tables[class - CATALOG_APP];
}

static void entry_free(enum catalog_class class, struct named *entry)
{
    switch (class) {
    case CATALOG_APP:
        app_free((struct app *)entry);
        break;
    case CATALOG_TOPIC:
        topic_free((struct topic *)entry);
        break;
    case CATALOG_GROUP:
        group_fact_free((struct group_fact *)entry);
        break;
    }
}

void catalog_free(struct catalog *catalog)
{
    if (catalog == NULL) {
        return;
    }
    for (unsigned i = 0; i < CATALOG_CLASS_COUNT; i++) {
        struct table *table = &catalog->tables[i];

        for (size_t j = 0; j < table->count; j++) {
            entry_free((enum catalog_class)(i + CATALOG_APP), table->by_id[j]);
        }
        free(table->by_name);
        free(table->by_id);
    }
    free(catalog);
}

void catalog_set_watch(struct catalog *catalog,
                       const struct catalog_watch *watch)
{
    catalog->watch = *watch;
}

static void tell_added(const struct catalog *catalog, enum catalog_class class,
                       struct named *entry)
{
    const struct catalog_watch *watch = &catalog->watch;

    switch (class) {
    case CATALOG_APP:
        break;
    case CATALOG_TOPIC:
        if (watch->topic_added != NULL) {
            watch->topic_added(watch->arg, (struct topic *)entry);
        }
        break;
    case CATALOG_GROUP:
        if (watch->group_added != NULL) {
            watch->group_added(watch->arg, (struct group_fact *)entry);
        }
        break;
    }
}

static void tell_gone(const struct catalog *catalog, enum catalog_class class,
                      struct named *entry)
{
    const struct catalog_watch *watch = &catalog->watch;

    switch (class) {
    case CATALOG_APP:
        if (watch->app_gone != NULL) {
            watch->app_gone(watch->arg, (struct app *)entry);
        }
        break;
    case CATALOG_TOPIC:
        if (watch->topic_gone != NULL) {
            watch->topic_gone(watch->arg, (struct topic *)entry);
        }
        break;
    case CATALOG_GROUP:
        if (watch->group_gone != NULL) {
            watch->group_gone(watch->arg, (struct group_fact *)entry);
        }
        break;
    }
}

/* The watcher still sees the entry; look-ups still find it until it returns. */
static void remove_entry(struct catalog *catalog, enum catalog_class class,
                         uint32_t id)
{
    struct table *table = catalog_table(catalog, class);
    struct named *entry = table_by_id(table, id);

    if (entry == NULL) {
        return;
    }
    tell_gone(catalog, class, entry);
    table_remove(table, entry);
    entry_free(class, entry);
}

static enum status read_entry(const struct record_fact *fact,
                              struct named **out)
{
    union {
        struct app *app;
        struct topic *topic;
        struct group_fact *group;
    } u = { NULL };
    enum status status = STATUS_CORRUPT;

    switch (fact->class) {
    case CATALOG_APP:
        status = value_app_read(fact->value, &u.app);
        *out = (struct named *)u.app;
        break;
    case CATALOG_TOPIC:
        status = value_topic_read(fact->value, &u.topic);
        *out = (struct named *)u.topic;
        break;
    case CATALOG_GROUP:
        status = value_group_read(fact->value, &u.group);
        *out = (struct named *)u.group;
        break;
    }
    return status;
}

static enum status change_topic(struct topic *topic,
                                const struct record_fact *fact)
{
    struct topic *newer;
    enum status status = value_topic_read(fact->value, &newer);

    if (status == STATUS_OK) {
        topic->retention = newer->retention;
        topic_free(newer);
    }
    return status;
}

/* The options change sides: what the entry had ends with `newer`, when the
 * watcher has seen the new ones. */
static enum status change_group(const struct catalog *catalog,
                                struct group_fact *group,
                                const struct record_fact *fact)
{
    struct group_fact *newer;
    struct group_options options = group->options;
    struct filter *filter = group->filter;
    enum status status = value_group_read(fact->value, &newer);

    if (status != STATUS_OK) {
        return status;
    }
    group->options = newer->options;
    group->filter = newer->filter;
    newer->options = options;
    newer->filter = filter;
    if (catalog->watch.group_changed != NULL) {
        catalog->watch.group_changed(catalog->watch.arg, group);
    }
    group_fact_free(newer);
    return STATUS_OK;
}

/* What was said of it before counts no more, if there is anything that may
 * change. */
static enum status change_entry(const struct catalog *catalog,
                                struct named *entry,
                                const struct record_fact *fact)
{
    if (!slice_is(fact->name, entry->name)) {
        return STATUS_CORRUPT;
    }
    switch (fact->class) {
    case CATALOG_APP:
        break;
    case CATALOG_TOPIC:
        return change_topic((struct topic *)entry, fact);
    case CATALOG_GROUP:
        return change_group(catalog, (struct group_fact *)entry, fact);
    }
    return STATUS_OK;
}

static enum status add_entry(struct catalog *catalog,
                             const struct record_fact *fact)
{
    struct table *table = catalog_table(catalog, fact->class);
    struct named *entry = table_by_id(table, fact->id);
    enum status status;

    if (entry != NULL) {
        return change_entry(catalog, entry, fact);
    }
    if (table_by_name(table, fact->name) != NULL) {
        return STATUS_CORRUPT;
    }
    status = table_reserve(table);
    if (status != STATUS_OK) {
        return status;
    }
    status = read_entry(fact, &entry);
    if (status != STATUS_OK) {
        return status;
    }
    entry->id = fact->id;
    memcpy(entry->name, fact->name.at, fact->name.len);
    entry->name[fact->name.len] = '\0';
    table_insert(table, entry);
    tell_added(catalog, fact->class, entry);
    return STATUS_OK;
}

void catalog_set_last_id(struct catalog *catalog, enum catalog_class class,
                         uint32_t id)
{
    struct table *table = catalog_table(catalog, class);

    if (id > table->last_id) {
        table->last_id = id;
    }
}

enum status catalog_apply(struct catalog *catalog,
                          const struct record_fact *fact)
{
    if (fact->class < CATALOG_APP || fact->class > CATALOG_GROUP
        || fact->id == 0 || !name_valid(fact->name)) {
        return STATUS_CORRUPT;
    }
    catalog_set_last_id(catalog, fact->class, fact->id);
    if (fact->deleted) {
        remove_entry(catalog, fact->class, fact->id);
        return STATUS_OK;
    }
    return add_entry(catalog, fact);
}

struct app *catalog_app(const struct catalog *catalog, struct slice name)
{
    return (struct app *)table_by_name(table_of(catalog, CATALOG_APP), name);
}

struct app *catalog_app_by_id(const struct catalog *catalog, uint32_t id)
{
    return (struct app *)table_by_id(table_of(catalog, CATALOG_APP), id);
}

struct topic *catalog_topic(const struct catalog *catalog, struct slice name)
{
    return (struct topic *)table_by_name(table_of(catalog, CATALOG_TOPIC),
                                         name);
}

struct topic *catalog_topic_by_id(const struct catalog *catalog, uint32_t id)
{
    return (struct topic *)table_by_id(table_of(catalog, CATALOG_TOPIC), id);
}

struct group_fact *catalog_group(const struct catalog *catalog,
                                 struct slice name)
{
    return (struct group_fact *)table_by_name(table_of(catalog, CATALOG_GROUP),
                                              name);
}

struct group_fact *catalog_group_by_id(const struct catalog *catalog,
                                       uint32_t id)
{
    return (struct group_fact *)table_by_id(table_of(catalog, CATALOG_GROUP),
                                            id);
}

void catalog_each_app(const struct catalog *catalog,
                      void (*fn)(void *arg, struct app *app), void *arg)
{
    const struct table *table = table_of(catalog, CATALOG_APP);

    for (size_t i = 0; i < table->count; i++) {
        fn(arg, (struct app *)table->by_name[i]);
    }
}

void catalog_each_topic(const struct catalog *catalog,
                        void (*fn)(void *arg, struct topic *topic), void *arg)
{
    const struct table *table = table_of(catalog, CATALOG_TOPIC);

    for (size_t i = 0; i < table->count; i++) {
        fn(arg, (struct topic *)table->by_name[i]);
    }
}

void catalog_each_group(const struct catalog *catalog,
                        void (*fn)(void *arg, struct group_fact *group),
                        void *arg)
{
    const struct table *table = table_of(catalog, CATALOG_GROUP);

    for (size_t i = 0; i < table->count; i++) {
        fn(arg, (struct group_fact *)table->by_name[i]);
    }
}

size_t catalog_count(const struct catalog *catalog, enum catalog_class class)
{
    CHECK(class >= CATALOG_APP && class <= CATALOG_GROUP);
    return table_of(catalog, class)->count;
}

bool group_takes_topic(const struct group_fact *group, struct slice topic)
{
    return patterns_match(&group->topics, topic);
}

uint64_t group_starts_after(const struct group_fact *group, uint32_t topic)
{
    size_t low = 0;
    size_t high = group->start_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (group->starts[middle].topic < topic) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < group->start_count && group->starts[low].topic == topic
               ? group->starts[low].after_seq
               : 0;
}

bool app_may_publish(const struct app *app, struct slice topic)
{
    return app->admin || patterns_match(&app->publish, topic);
}

bool app_may_subscribe(const struct app *app, struct slice pattern)
{
    return app->admin || patterns_match(&app->subscribe, pattern);
}
