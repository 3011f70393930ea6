/* A catalog with what the log would keep of it: decisions are applied at once,
 * and restart() reads it all again. For Criterion suites of the catalog, in one
 * file each: everything is static. */
#ifndef GODWIT_TEST_LIB_CATALOG_BED_H
#define GODWIT_TEST_LIB_CATALOG_BED_H

#include "broker/router/catalog.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

/* What the store keeps of the facts: the live ones, by class and id, and the
 * highest id there ever was. */
struct kept {
    enum catalog_class class;
    uint32_t id;
    char name[NAME_LEN_MAX + 1];
    uint8_t *value;
    size_t value_len;
};

static struct kept kept[4096];
static size_t kept_count;
static uint32_t last_ids[CATALOG_GROUP + 1];
static struct catalog *catalog;
static struct refusal refusal;
static char secret[SECRET_LEN_MAX + 1];
static uint64_t last_seq;

static uint64_t floor_seq = 1;

static uint64_t floor_seq_of(void *arg, const struct topic *topic)
{
    (void)arg;
    (void)topic;
    return floor_seq;
}

static uint64_t last_seq_of(void *arg, const struct topic *topic)
{
    (void)arg;
    (void)topic;
    return last_seq;
}

/* A message a microsecond, the first at 1. */
static uint64_t seq_at_of(void *arg, const struct topic *topic,
                          uint64_t time_us)
{
    (void)arg;
    (void)topic;
    return time_us > last_seq ? last_seq + 1 : time_us < 1 ? 1 : time_us;
}

static void keep(const struct record_fact *fact)
{
    struct kept *at = kept;

    if (fact->id > last_ids[fact->class]) {
        last_ids[fact->class] = fact->id;
    }
    while (at < kept + kept_count
           && (at->class != fact->class || at->id != fact->id)) {
        at++;
    }
    if (at < kept + kept_count) {
        free(at->value);
        *at = kept[--kept_count];
    }
    if (fact->deleted) {
        return;
    }
    at = &kept[kept_count++];
    cr_assert_lt(kept_count, 4096);
    at->class = fact->class;
    at->id = fact->id;
    memcpy(at->name, fact->name.at, fact->name.len);
    at->name[fact->name.len] = '\0';
    at->value = malloc(fact->value.len);
    memcpy(at->value, fact->value.at, fact->value.len);
    at->value_len = fact->value.len;
}

static enum status commit(struct bytes *body)
{
    struct record_fact fact;
    enum status status;

    cr_assert_eq(fact_read(slice_of(bytes_begin(body), bytes_len(body)), &fact),
                 STATUS_OK);
    keep(&fact);
    status = catalog_apply(catalog, &fact);
    bytes_fini(body);
    return status;
}

static int compare_kept(const void *a, const void *b)
{
    const struct kept *x = a;
    const struct kept *y = b;

    return x->class != y->class ? (x->class > y->class) - (x->class < y->class)
                                : (x->id > y->id) - (x->id < y->id);
}

static inline void restart(void)
{
    catalog_free(catalog);
    catalog = catalog_new();
    qsort(kept, kept_count, sizeof kept[0], compare_kept);
    for (size_t i = 0; i < kept_count; i++) {
        struct record_fact fact = { .class = kept[i].class,
                                    .id = kept[i].id,
                                    .name = slice_text(kept[i].name),
                                    .value = slice_of(kept[i].value,
                                                      kept[i].value_len) };

        cr_assert_eq(catalog_apply(catalog, &fact), STATUS_OK);
    }
    for (enum catalog_class class = CATALOG_APP; class <= CATALOG_GROUP;
         class ++) {
        catalog_set_last_id(catalog, class, last_ids[class]);
    }
}

static void set_up(void)
{
    catalog = catalog_new();
}

static void tear_down(void)
{
    catalog_free(catalog);
    while (kept_count > 0) {
        free(kept[--kept_count].value);
    }
}

static uint64_t lane_count;

/* Decide and give the body; takes the request's patterns. */
static enum status decide(struct catalog_request *request, struct bytes *body)
{
    static const uint8_t random[24] = "0123456789abcdefghijklm";
    struct catalog_context context = { .now_us = 77,
                                       .random = random,
                                       .lane_count = lane_count,
                                       .last_seq = last_seq_of,
                                       .floor_seq = floor_seq_of,
                                       .seq_at = seq_at_of };
    enum status status;

    refusal = (struct refusal) { 0 };
    status = catalog_decide(catalog, request, &context, body, secret, &refusal);
    if (status != STATUS_OK) {
        cr_assert_eq(refusal.status, status);
        cr_assert_neq(refusal.text[0], '\0');
        cr_assert_neq(refusal.limit[0], '\0');
        cr_assert_eq(bytes_len(body), 0);
        bytes_fini(body);
    }
    catalog_request_fini(request);
    return status;
}

static inline enum status change(struct catalog_request request)
{
    struct bytes body = { 0 };
    enum status status = decide(&request, &body);

    if (status == STATUS_OK) {
        cr_assert_eq(commit(&body), STATUS_OK);
    }
    return status;
}

static struct catalog_request named(enum catalog_op op,
                                    enum catalog_class class, const char *name,
                                    uint32_t asker)
{
    struct catalog_request request = { .op = op, .class = class, .app = asker };

    snprintf(request.name, sizeof request.name, "%s", name);
    return request;
}

static struct patterns patterns_of(const char *text)
{
    struct patterns patterns = { 0 };
    struct refusal r;

    if (text != NULL) {
        cr_assert_eq(patterns_add(&patterns, slice_text(text), &r), STATUS_OK);
    }
    return patterns;
}

static inline enum status create_app(const char *name, bool admin,
                                     const char *publish, const char *subscribe,
                                     uint32_t asker)
{
    struct catalog_request request =
        named(CATALOG_CREATE, CATALOG_APP, name, asker);

    request.admin = admin;
    request.publish = patterns_of(publish);
    request.subscribe = patterns_of(subscribe);
    return change(request);
}

static inline enum status create_topic(const char *name, uint32_t asker)
{
    return change(named(CATALOG_CREATE, CATALOG_TOPIC, name, asker));
}

static struct catalog_request group_request(const char *name,
                                            const char *topics, uint32_t asker)
{
    struct catalog_request request =
        named(CATALOG_CREATE, CATALOG_GROUP, name, asker);

    request.topics = patterns_of(topics);
    request.from = FROM_EARLIEST;
    return request;
}

static inline enum status create_group(const char *name, const char *topics,
                                       uint32_t asker)
{
    return change(group_request(name, topics, asker));
}

static inline uint32_t topic_id(const char *name)
{
    const struct topic *topic = catalog_topic(catalog, slice_text(name));

    return topic == NULL ? 0 : topic->id;
}

static inline uint32_t app_id(const char *name)
{
    return catalog_app(catalog, slice_text(name))->id;
}

#endif
