#include "test/storage/upkeep.h"

#include "proto/check.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { CALLS_MAX = 20000, PASS_US = 2000 * 1000, IDLE_LOOKS = 3 };

static bool ask(void *arg, uint32_t topic, struct store_retention *out)
{
    struct upkeep_bed *bed = arg;

    if (topic >= KEPT_TOPICS_MAX || !bed->topics[topic].known) {
        return false;
    }
    *out = bed->topics[topic].retention;
    out->owed = bed->topics[topic].owed;
    return true;
}

void upkeep_bed_init(struct upkeep_bed *bed, struct harness *h)
{
    *bed = (struct upkeep_bed) {
        .h = h, .policy = { ask, bed }, .room = KEPT_ROOM, .views_rest = true
    };
    bed->to = aligned_alloc(8, KEPT_ROOM);
    CHECK(bed->to != NULL);
}

void upkeep_bed_fini(struct upkeep_bed *bed)
{
    free(bed->to);
    bed->to = NULL;
}

void keep_until_settled(struct upkeep_bed *bed, uint32_t topic, uint64_t age_us)
{
    struct kept_topic *t = &bed->topics[topic];

    t->known = true;
    t->retention.keep = STORE_KEEP_UNTIL_SETTLED;
    t->retention.age_us = age_us;
}

void keep_until_limit(struct upkeep_bed *bed, uint32_t topic, uint64_t age_us,
                      uint64_t bytes, uint64_t count)
{
    struct kept_topic *t = &bed->topics[topic];

    t->known = true;
    t->retention.keep = STORE_KEEP_UNTIL_LIMIT;
    t->retention.age_us = age_us;
    t->retention.bytes = bytes;
    t->retention.count = count;
}

void owe(struct upkeep_bed *bed, uint32_t topic, uint32_t group,
         uint64_t after_seq)
{
    struct kept_topic *t = &bed->topics[topic];

    CHECK(t->retention.owed_count < KEPT_GROUPS_MAX);
    t->owed[t->retention.owed_count++] =
        (struct store_owed) { group, after_seq };
}

void owe_no_more(struct upkeep_bed *bed, uint32_t topic, uint32_t group)
{
    struct kept_topic *t = &bed->topics[topic];
    size_t kept = 0;

    for (size_t i = 0; i < t->retention.owed_count; i++) {
        if (t->owed[i].group != group) {
            t->owed[kept++] = t->owed[i];
        }
    }
    t->retention.owed_count = kept;
}

void forget_topic(struct upkeep_bed *bed, uint32_t topic)
{
    bed->topics[topic] = (struct kept_topic) { 0 };
}

/* ---- the loop ---- */

/* Write the first message over the second, when they are as long. */
static void lose_second(struct upkeep_bed *bed, size_t len)
{
    size_t first = 0;

    for (size_t at = 0; at < len; at += record_size_at(bed->to + at)) {
        if (bed->to[at + 4] != RECORD_MESSAGE) {
            continue;
        }
        if (first != 0
            && record_size_at(bed->to + at)
                   == record_size_at(bed->to + first - 1)) {
            memcpy(bed->to + at, bed->to + first - 1,
                   record_size_at(bed->to + at));
            bed->lose_moved = false;
            return;
        }
        first = first == 0 ? at + 1 : first;
    }
}

static enum status append(struct upkeep_bed *bed, size_t len)
{
    struct harness *h = bed->h;
    size_t done = 0;

    if (bed->lose_moved) {
        lose_second(bed, len);
    }
    while (done < len) {
        struct store_span span = { .at = bed->to + done, .len = len - done };
        struct store_commit commit;
        enum status status =
            store_append_merge(h->store, &span, h->now_us, &commit, &h->err);
        if (status == STATUS_OK) {
            status = store_sync(h->store, &h->err);
        }
        if (status == STATUS_OK) {
            status = store_view_commit(h->view, &commit, NULL);
        }
        if (status == STATUS_OK) {
            status = store_apply(h->store, &commit);
        }
        if (status == STATUS_AGAIN) {
            status = store_checkpoint(h->store, &h->err);
            if (status == STATUS_OK) {
                status = store_apply(h->store, &commit);
            }
        }
        if (status != STATUS_OK) {
            return status;
        }
        CHECK(span.taken > 0);
        bed->moved_records += commit.record_count;
        done += span.taken;
    }
    return STATUS_OK;
}

enum status upkeep_once(struct upkeep_bed *bed, bool *more)
{
    struct harness *h = bed->h;
    struct store_upkeep call = { .policy = &bed->policy,
                                 .now_us = h->now_us,
                                 .to = bed->to,
                                 .room = bed->room };
    enum status status;

    if (bed->views_rest) {
        store_view_rest(h->view);
    }
    status = store_upkeep(h->store, &call, &h->err);
    *more = call.more;
    if (status == STATUS_OK && bed->meanwhile != NULL) {
        bed->meanwhile(bed->meanwhile_arg);
    }
    return status == STATUS_OK ? append(bed, call.len) : status;
}

enum status upkeep_all(struct upkeep_bed *bed, unsigned *calls)
{
    enum status status = store_checkpoint(bed->h->store, &bed->h->err);
    unsigned idle = 0;
    unsigned i = 0;

    for (; i < CALLS_MAX && status == STATUS_OK && idle < IDLE_LOOKS; i++) {
        bool more;
        status = upkeep_once(bed, &more);
        if (status == STATUS_OK && !more) {
            idle++;
            bed->h->now_us += PASS_US;
            status = store_checkpoint(bed->h->store, &bed->h->err);
        } else {
            idle = 0;
        }
    }
    CHECK(i < CALLS_MAX);
    if (calls != NULL) {
        *calls = i;
    }
    return status;
}

/* ---- looking ---- */

struct looking {
    uint32_t topic;
    struct store_topic found;
};

static void on_topic(void *arg, const struct store_topic *topic)
{
    struct looking *l = arg;

    if (topic->topic == l->topic) {
        l->found = *topic;
    }
}

static struct store_topic look(struct harness *h, uint32_t topic)
{
    struct looking l = { .topic = topic };

    CHECK(store_each_topic(h->store, on_topic, &l) == STATUS_OK);
    return l.found;
}

uint64_t first_seq(struct harness *h, uint32_t topic)
{
    return look(h, topic).first_seq;
}

uint64_t floor_seq(struct harness *h, uint32_t topic)
{
    return look(h, topic).floor_seq;
}

uint64_t log_files(const struct harness *h, const char *ending, uint64_t *bytes)
{
    char path[600];
    uint64_t count = 0;
    struct dirent *entry;
    DIR *dir;

    snprintf(path, sizeof path, "%s/log", h->dir);
    dir = opendir(path);
    CHECK(dir != NULL);
    *bytes = 0;
    while ((entry = readdir(dir)) != NULL) {
        size_t len = strlen(entry->d_name);
        char file[900];
        if (len < strlen(ending)
            || strcmp(entry->d_name + len - strlen(ending), ending) != 0) {
            continue;
        }
        snprintf(file, sizeof file, "%s/%s", path, entry->d_name);
        *bytes += file_len(file);
        count++;
    }
    closedir(dir);
    return count;
}
