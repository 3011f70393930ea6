#include "storage/offline/books.h"

#include "storage/internal.h"
#include "storage/ranges.h"

#include <stdlib.h>

static void free_facts(struct books *books)
{
    for (size_t class = 0; class < BOOKS_CLASSES; class ++) {
        for (size_t i = 0; i < books->fact_counts[class]; i++) {
            free(books->facts[class][i].bytes);
        }
        free(books->facts[class]);
    }
}

void books_fini(struct books *books)
{
    for (size_t i = 0; i < books->topic_count; i++) {
        seqset_fini(&books->topics[i].have);
        seqset_fini(&books->topics[i].damaged);
    }
    free(books->topics);
    free_facts(books);
    lanes_fini(&books->lanes);
    *books = (struct books) { 0 };
}

/* Make an array by id hold `id`, new entries zeroed. */
static enum status reach(void **array, size_t *count, uint32_t id,
                         size_t entry_len)
{
    size_t wanted = *count == 0 ? 64 : *count;
    uint8_t *grown;

    if (id > TOPIC_ID_MAX) {
        return STATUS_CORRUPT;
    }
    while (wanted <= id) {
        wanted *= 2;
    }
    if (wanted == *count) {
        return STATUS_OK;
    }
    grown = realloc(*array, wanted * entry_len);
    if (grown == NULL) {
        return STATUS_NOMEM;
    }
    memset(grown + *count * entry_len, 0, (wanted - *count) * entry_len);
    *array = grown;
    *count = wanted;
    return STATUS_OK;
}

static enum status topic_of(struct books *books, uint32_t id,
                            struct books_topic **out)
{
    void *topics = books->topics;
    enum status status =
        reach(&topics, &books->topic_count, id, sizeof *books->topics);

    if (status == STATUS_OK) {
        books->topics = topics;
        *out = &books->topics[id];
    }
    return status;
}

/* ---- facts ---- */

bool books_gone(const struct books *books, enum catalog_class class,
                uint32_t id)
{
    return id < books->fact_counts[class] && books->facts[class][id].known
           && books->facts[class][id].fact.deleted;
}

struct slice books_name(const struct books *books, enum catalog_class class,
                        uint32_t id)
{
    if (id >= books->fact_counts[class] || !books->facts[class][id].known) {
        return slice_of(NULL, 0);
    }
    return books->facts[class][id].fact.name;
}

static bool belongs_to(const void *arg, const struct lane_image *lane)
{
    const struct record_fact *fact = arg;

    return fact->class == CATALOG_TOPIC ? lane->topic == fact->id
                                        : lane->group == fact->id;
}

/* A deleted one keeps the last name it had. */
static enum status keep(struct books_fact *entry,
                        const struct record_fact *fact)
{
    struct slice name =
        fact->name.len == 0 && entry->known ? entry->fact.name : fact->name;
    uint8_t *bytes = malloc(name.len + fact->value.len + 1);

    if (bytes == NULL) {
        return STATUS_NOMEM;
    }
    if (name.len > 0) {
        memcpy(bytes, name.at, name.len);
    }
    if (fact->value.len > 0) {
        memcpy(bytes + name.len, fact->value.at, fact->value.len);
    }
    free(entry->bytes);
    entry->bytes = bytes;
    entry->fact = *fact;
    entry->fact.name = slice_of(bytes, name.len);
    entry->fact.value = slice_of(bytes + name.len, fact->value.len);
    entry->known = true;
    return STATUS_OK;
}

static enum status add_fact(struct books *books, const struct record_fact *fact)
{
    size_t class = fact->class;
    void *facts = class < BOOKS_CLASSES ? books->facts[class] : NULL;
    enum status status = STATUS_CORRUPT;

    if (class < BOOKS_CLASSES && fact->id != 0) {
        status = reach(&facts, &books->fact_counts[class], fact->id,
                       sizeof *books->facts[class]);
    }
    if (status == STATUS_OK) {
        books->facts[class] = facts;
        status = keep(&books->facts[class][fact->id], fact);
    }
    if (status == STATUS_OK && fact->deleted && fact->class != CATALOG_APP) {
        lanes_drop(&books->lanes, belongs_to, fact);
    }
    return status;
}

enum status books_fact(struct books *books, const struct record_fact *fact)
{
    enum status status = add_fact(books, fact);

    if (status == STATUS_OK) {
        books->facts[fact->class][fact->id].given = true;
    }
    return status;
}

/* ---- topics ---- */

static uint64_t max_of(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

bool books_deleted(const struct books *books, uint32_t topic, uint64_t seq)
{
    return books_gone(books, CATALOG_TOPIC, topic)
           || (topic < books->topic_count
               && seq < books->topics[topic].first_seq);
}

enum status books_topic(struct books *books, const struct store_topic *topic)
{
    struct books_topic *t;
    enum status status = topic_of(books, topic->topic, &t);

    if (status == STATUS_OK) {
        t->last_seq = max_of(t->last_seq, topic->last_seq);
        t->first_seq = max_of(t->first_seq, topic->first_seq);
        t->floor_seq = max_of(t->floor_seq, topic->floor_seq);
    }
    return status;
}

static enum status note_message(struct books *books,
                                const struct record *record)
{
    struct books_topic *t;
    enum status status = topic_of(books, record->topic, &t);

    if (status == STATUS_OK) {
        status = seqset_add(&t->have, record->seq, record->seq, NULL);
    }
    if (status == STATUS_OK) {
        t->last_seq = max_of(t->last_seq, record->seq);
        t->bytes += record_size(record->body.len);
    }
    return status;
}

static enum status note_trim(struct books *books, const struct record *record)
{
    struct record_trim trim;
    struct store_topic topic = { 0 };
    enum status status = trim_read(record->body, &trim);

    if (status != STATUS_OK) {
        return status;
    }
    topic.topic = trim.topic;
    topic.first_seq = trim.first_seq;
    topic.floor_seq = trim.floor_seq;
    return books_topic(books, &topic);
}

enum status books_damaged(struct books *books, uint32_t topic, uint64_t seq)
{
    struct books_topic *t;
    enum status status = topic_of(books, topic, &t);

    return status == STATUS_OK ? seqset_add(&t->damaged, seq, seq, NULL)
                               : status;
}

/* ---- lanes ---- */

/* NULL with STATUS_OK: its group or topic is gone. */
static enum status lane_of(struct books *books, uint32_t group, uint32_t topic,
                           struct lane_image **out)
{
    *out = NULL;
    if (group > GROUP_ID_MAX || topic > TOPIC_ID_MAX) {
        return STATUS_CORRUPT;
    }
    if (books_gone(books, CATALOG_GROUP, group)
        || books_gone(books, CATALOG_TOPIC, topic)) {
        return STATUS_OK;
    }
    *out = lanes_find(&books->lanes, group, topic);
    if (*out == NULL) {
        *out = lanes_add(&books->lanes, group, topic);
    }
    return *out == NULL ? STATUS_NOMEM : STATUS_OK;
}

static enum status note_lane(struct books *books, const struct record *record,
                             enum books_news news)
{
    struct books_topic *t;
    struct lane_record r;
    struct lane_image *lane = NULL;
    uint64_t last_seq;
    enum status status = lane_record_read(record, &r);

    if (status == STATUS_OK) {
        status = lane_of(books, r.group, r.topic, &lane);
    }
    if (status == STATUS_OK) {
        status = topic_of(books, r.topic, &t);
    }
    if (status != STATUS_OK || lane == NULL
        || (news == BOOKS_MISSING && lane->given)) {
        return status; /* what came later may have undone it */
    }
    status = lane_record_apply(lane, &r, t->first_seq, &last_seq);
    if (status == STATUS_OK) {
        t->settled_last = max_of(t->settled_last, last_seq);
    }
    return status;
}

static enum status add_all(struct seqset *to, const struct seqset *set)
{
    enum status status = STATUS_OK;

    for (size_t i = 0; i < seqset_range_count(set) && status == STATUS_OK;
         i++) {
        status = seqset_add(to, seqset_ranges(set)[i].first,
                            seqset_ranges(set)[i].last, NULL);
    }
    return status;
}

static enum status fill_lane(struct lane_image *lane,
                             const struct store_lane *from)
{
    enum status status = add_all(&lane->acked, from->acked);

    if (status == STATUS_OK) {
        status = add_all(&lane->gaps, from->gaps);
    }
    if (status == STATUS_OK) {
        status = add_all(&lane->expired, from->expired);
    }
    if (status == STATUS_OK) {
        status = add_all(&lane->dead, from->dead);
    }
    for (size_t i = 0; i < from->retry_count && status == STATUS_OK; i++) {
        status = lane_retry(lane, &from->retries[i]);
    }
    lane->filtered = from->filtered;
    lane->discarded = from->discarded;
    lane->sought = from->sought;
    lane->after = from->after;
    return status;
}

enum status books_lane(struct books *books, const struct store_lane *from)
{
    struct books_topic *t;
    struct lane_image *lane = NULL;
    enum status status = lane_of(books, from->group, from->topic, &lane);

    if (status == STATUS_OK) {
        status = topic_of(books, from->topic, &t);
    }
    if (status != STATUS_OK || lane == NULL) {
        return status;
    }
    status = fill_lane(lane, from);
    lane->given = true;
    if (status == STATUS_OK && seqset_range_count(&lane->acked) > 0) {
        const struct seqset *set = &lane->acked;
        t->settled_last =
            max_of(t->settled_last,
                   seqset_ranges(set)[seqset_range_count(set) - 1].last);
    }
    return status;
}

/* ---- a record ---- */

static bool is_given(const struct books *books, const struct record_fact *fact)
{
    return fact->id < books->fact_counts[fact->class]
           && books->facts[fact->class][fact->id].given;
}

static enum status note_fact(struct books *books, const struct record *record,
                             enum books_news news)
{
    struct record_fact fact;
    enum status status = fact_read(record->body, &fact);

    if (status != STATUS_OK
        || (news == BOOKS_MISSING && is_given(books, &fact))) {
        return status;
    }
    return add_fact(books, &fact);
}

enum status books_record(struct books *books, const struct record *record,
                         enum books_news news)
{
    if (record->kind == RECORD_MESSAGE) {
        return note_message(books, record);
    }
    if (news == BOOKS_MESSAGES) {
        return STATUS_OK;
    }
    switch (record->kind) {
    case RECORD_MESSAGE:
        break;
    case RECORD_ACK:
    case RECORD_GAP:
    case RECORD_RETRY:
    case RECORD_FAILED:
    case RECORD_EXPIRED:
    case RECORD_FILTERED:
    case RECORD_REDRIVE:
    case RECORD_BURY:
    case RECORD_DISCARD:
    case RECORD_SEEK:
        return note_lane(books, record, news);
    case RECORD_CATALOG:
        return note_fact(books, record, news);
    case RECORD_TRIM:
        return note_trim(books, record);
    }
    return STATUS_CORRUPT;
}

/* ---- accounts ---- */

/* How many of first..last are in the set. */
static uint64_t count_in(const struct seqset *set, uint64_t first,
                         uint64_t last)
{
    return first <= last ? set_count(set, (struct seq_range) { first, last })
                         : 0;
}

static uint64_t length(uint64_t first, uint64_t last)
{
    return first <= last ? last - first + 1 : 0;
}

/* What became of some messages of a topic. */
struct account {
    uint64_t present;
    uint64_t deleted;
    uint64_t missing;
};

/* Damaged, and nowhere else whole. */
static uint64_t count_lost(const struct books_topic *t, uint64_t first,
                           uint64_t last)
{
    uint64_t lost = 0;

    for (size_t i = set_range_at(&t->damaged, first);
         first <= last && i < seqset_range_count(&t->damaged); i++) {
        const struct seq_range *r = &seqset_ranges(&t->damaged)[i];
        uint64_t from = r->first > first ? r->first : first;
        uint64_t to = r->last < last ? r->last : last;
        if (r->first > last) {
            break;
        }
        lost += to - from + 1 - count_in(&t->have, from, to);
    }
    return lost;
}

/* Below first_seq all are deleted; between it and floor_seq those that are not
 * there were settled by everybody, unless damage says otherwise. */
static void account(const struct books_topic *t, uint64_t first, uint64_t last,
                    struct account *a)
{
    uint64_t kept = max_of(first, t->first_seq);
    uint64_t below =
        t->floor_seq != 0 && t->floor_seq - 1 < last ? t->floor_seq - 1 : last;
    uint64_t present = count_in(&t->have, kept, last);
    uint64_t absent = length(kept, last) - present;
    uint64_t settled = 0;

    if (t->floor_seq > kept && kept <= below) {
        settled = length(kept, below) - count_in(&t->have, kept, below)
                  - count_lost(t, kept, below);
    }
    a->present += present;
    a->missing += absent - settled;
    a->deleted += length(first, last) - length(kept, last) + settled;
}

static uint64_t published(const struct books_topic *t)
{
    return max_of(t->last_seq, t->settled_last);
}

static const struct books_topic *topic_at(const struct books *books,
                                          uint32_t id)
{
    static const struct books_topic none;

    return id < books->topic_count ? &books->topics[id] : &none;
}

static void give_topic(const struct books *books, uint32_t id,
                       inspect_topic_fn fn, void *arg)
{
    const struct books_topic *t = topic_at(books, id);
    struct account a = { 0 };
    struct inspect_topic out = {
        .topic = id,
        .name = books_name(books, CATALOG_TOPIC, id),
        .gone = books_gone(books, CATALOG_TOPIC, id),
        .published = published(t),
        .first_seq = max_of(t->first_seq, 1),
        .floor_seq = max_of(t->floor_seq, 1),
        .bytes = t->bytes,
        .have = &t->have,
    };

    if (out.published == 0 && out.name.len == 0) {
        return;
    }
    account(t, 1, out.published, &a);
    out.present = a.present;
    out.deleted = a.deleted;
    out.missing = a.missing;
    fn(arg, &out);
}

void books_each_topic(const struct books *books, inspect_topic_fn fn, void *arg)
{
    size_t facts = books->fact_counts[CATALOG_TOPIC];
    size_t count = books->topic_count > facts ? books->topic_count : facts;

    for (uint32_t id = 1; id < count; id++) {
        give_topic(books, id, fn, arg);
    }
}

/* Account for each stretch of messages that the lane has not settled. */
static void lane_account(const struct books_topic *t,
                         const struct lane_image *lane, uint64_t last,
                         struct account *a)
{
    uint64_t next = 1;

    for (size_t i = 0; i < seqset_range_count(&lane->acked); i++) {
        const struct seq_range *r = &seqset_ranges(&lane->acked)[i];
        if (r->first > next) {
            account(t, next, r->first - 1, a);
        }
        if (r->last >= last) {
            return;
        }
        next = r->last + 1;
    }
    account(t, next, last, a);
}

static uint64_t count_retries(const struct books_topic *t,
                              const struct lane_image *lane)
{
    struct waiting_place place = { 0 };
    const struct retry *retry;
    uint64_t count = 0;

    while ((retry = waiting_next(&lane->retries, &place)) != NULL) {
        count += retry->seq >= t->first_seq && seqset_has(&t->have, retry->seq);
    }
    return count;
}

/* Dead ones that are there; *fits: none of them is settled. */
static uint64_t count_dead(const struct books_topic *t,
                           const struct lane_image *lane, bool *fits)
{
    struct account a = { 0 };

    *fits = true;
    for (size_t i = 0; i < seqset_range_count(&lane->dead); i++) {
        const struct seq_range *r = &seqset_ranges(&lane->dead)[i];
        account(t, r->first, r->last, &a);
        *fits = *fits && count_in(&lane->acked, r->first, r->last) == 0;
    }
    return a.present;
}

static void give_lane(const struct books *books, const struct lane_image *lane,
                      inspect_lane_fn fn, void *arg)
{
    const struct books_topic *t = topic_at(books, lane->topic);
    struct account a = { 0 };
    struct inspect_lane out = {
        .group = lane->group,
        .topic = lane->topic,
        .group_name = books_name(books, CATALOG_GROUP, lane->group),
        .topic_name = books_name(books, CATALOG_TOPIC, lane->topic),
        .published = published(t),
        .settled = seqset_count(&lane->acked),
        .gaps = seqset_count(&lane->gaps),
        .expired = seqset_count(&lane->expired),
        .filtered = lane->filtered,
        .discarded = lane->discarded,
        .sought = lane->sought,
        .after_seq = lane->after,
        .acked = &lane->acked,
        .lost = &lane->gaps,
    };
    bool fits;

    lane_account(t, lane, out.published, &a);
    out.unsettled = a.present;
    out.deleted = a.deleted;
    out.missing = a.missing;
    out.retries = count_retries(t, lane);
    out.dead = count_dead(t, lane, &fits);
    out.balanced =
        fits
        && out.gaps + out.expired + out.filtered + out.discarded <= out.settled
        && count_in(&lane->acked, t->last_seq + 1, UINT64_MAX) == 0
        && out.published
               == out.settled + out.deleted + out.missing + out.unsettled;
    fn(arg, &out);
}

static int by_ids(const void *a, const void *b)
{
    const struct lane_image *x = *(struct lane_image *const *)a;
    const struct lane_image *y = *(struct lane_image *const *)b;

    if (x->group != y->group) {
        return x->group < y->group ? -1 : 1;
    }
    return (x->topic > y->topic) - (x->topic < y->topic);
}

enum status books_each_lane(const struct books *books, inspect_lane_fn fn,
                            void *arg)
{
    size_t count = 0;
    const struct lane_image **lanes =
        malloc((books->lanes.count + 1) * sizeof(struct lane_image *));

    if (lanes == NULL) {
        return STATUS_NOMEM;
    }
    for (size_t i = 0; i < books->lanes.bucket_count; i++) {
        for (struct lane_image *lane = books->lanes.buckets[i]; lane != NULL;
             lane = lane->chained) {
            CHECK(count < books->lanes.count);
            lanes[count++] = lane;
        }
    }
    qsort(lanes, count, sizeof(struct lane_image *), by_ids);
    for (size_t i = 0; i < count; i++) {
        give_lane(books, lanes[i], fn, arg);
    }
    free(lanes);
    return STATUS_OK;
}
