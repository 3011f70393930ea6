/* Dead letters lie where they died: in their topic. Looking at them, and
 * dropping them for good. */
#include "broker/dispatch/dispatch.h"

#include "broker/dispatch/inside.h"

enum { DEAD_RANGES = 64 };

struct listing {
    struct dispatch *d;
    struct group_run *run;
    const struct topic *from; /* NULL: from the first */
    uint64_t seq;
    bool one_topic;
    struct dispatch_dead *out;
    size_t room;
    size_t count;
    const struct topic *next; /* where to go on */
    uint64_t next_seq;
};

static void put(struct listing *l, const struct topic *topic, uint64_t seq)
{
    struct dispatch_failure history[HISTORY_MAX];
    size_t known = dispatch_history(l->d, l->run, topic->id, seq, history);
    struct dispatch_dead *to = &l->out[l->count++];

    *to = (struct dispatch_dead) { .topic = topic, .seq = seq };
    if (known > 0) {
        to->last = history[known - 1];
    }
}

/* False: there is no more room; *seq is where to go on. */
static bool put_range(struct listing *l, const struct topic *topic,
                      struct seq_range range, uint64_t *seq)
{
    for (*seq = range.first; *seq <= range.last; ++*seq) {
        if (l->count == l->room) {
            return false;
        }
        put(l, topic, *seq);
    }
    return true;
}

static void list_lane(struct listing *l, const struct topic *topic,
                      uint64_t seq)
{
    struct seq_range ranges[DEAD_RANGES];
    size_t count;

    do {
        count = group_dead(l->run->group, topic->id, seq, ranges, DEAD_RANGES);
        for (size_t i = 0; i < count; i++) {
            if (!put_range(l, topic, ranges[i], &seq)) {
                l->next = topic;
                l->next_seq = seq;
                return;
            }
        }
    } while (count == DEAD_RANGES);
}

static void list_topic(void *arg, struct topic *topic)
{
    struct listing *l = arg;
    bool first = l->from != NULL && l->from->id == topic->id;

    if (l->next != NULL || (l->one_topic && !first)
        || (l->from != NULL && strcmp(topic->name, l->from->name) < 0)
        || group_lane_user(l->run->group, topic->id) == NULL) {
        return;
    }
    list_lane(l, topic, first ? l->seq : 1);
}

size_t dispatch_dead(struct dispatch *d, const struct group_fact *group,
                     const struct topic **topic, uint64_t *seq, bool one_topic,
                     struct dispatch_dead *out, size_t room)
{
    struct listing listing = { .d = d,
                               .run = dispatch_run(group),
                               .from = *topic,
                               .seq = *seq,
                               .one_topic = one_topic && *topic != NULL,
                               .out = out,
                               .room = room };

    catalog_each_topic(d->catalog, list_topic, &listing);
    *topic = listing.next;
    *seq = listing.next_seq;
    return listing.count;
}

enum status dispatch_discard(struct dispatch *d, const struct group_fact *group,
                             uint32_t topic, struct seq_range range,
                             size_t *budget, uint64_t *next, uint64_t *count)
{
    struct group_run *run = dispatch_run(group);
    enum status status =
        group_discard(run->group, topic, range, budget, next, count);

    dispatch_touched(d, run);
    return status;
}
