/* Apps, topics and groups: what there is and who may do what. Every thread that
 * needs it holds a replica of its own, fed by the facts of the log in log
 * order, so reading takes no lock. Changes are decided on worker 0 alone (names
 * unique, ids never used twice), go into the log as facts, and are applied by
 * everybody when they are durable. */
#ifndef GODWIT_BROKER_ROUTER_CATALOG_H
#define GODWIT_BROKER_ROUTER_CATALOG_H

#include "broker/group_mode.h"
#include "proto/bytes.h"
#include "proto/limits.h"
#include "proto/refusal.h"
#include "storage/record.h"

struct catalog;
struct filter;

struct patterns {
    size_t count;
    char (*at)[PATTERN_LEN_MAX + 1]; /* heap, the owner's */
};

struct app {
    uint32_t id;
    char name[NAME_LEN_MAX + 1];
    char secret[SECRET_LEN_MAX + 1];
    bool admin;
    struct patterns publish;
    struct patterns subscribe;
    uint64_t created_us;
};

/* How a topic's messages are kept. */
enum topic_keep {
    KEEP_SETTLED = 1, /* until each group they are owed to has settled them */
    KEEP_LIMIT = 2    /* whether settled or not, up to a limit: to replay */
};

struct retention {
    enum topic_keep keep;
    uint64_t ms_min;    /* KEEP_SETTLED: at least so long, settled or not */
    uint64_t ms_max;    /* KEEP_LIMIT: what is older, */
    uint64_t bytes_max; /* what is beyond so many bytes */
    uint64_t count_max; /* or messages is dropped; 0: any */
};

struct topic {
    uint32_t id;
    char name[NAME_LEN_MAX + 1];
    uint32_t app; /* who made it */
    uint64_t created_us;
    struct retention retention;
    void *user; /* the replica owner's, NULL at first */
};

/* Where a group begins on the topics that are there before it. A seq is one
 * topic's, so that it goes with one topic, by its name. */
enum group_from {
    FROM_EARLIEST = 1,
    FROM_LATEST = 2,
    FROM_SEQ = 3, /* from_at is the first it gets */
    FROM_TIME = 4 /* the first one at or after from_at, a time_us */
};

/* What may be changed while the group lives. Owns the filter. */
struct group_options {
    enum group_mode mode;
    enum group_priority priority;
    uint64_t lease_ms;
    uint32_t attempts_max; /* then a message is dead; 0: no end */
    uint32_t backoff_ms[BACKOFF_COUNT_MAX]; /* after the 1st, 2nd, ... failure;
                                             * the last one repeats */
    size_t backoff_count;                   /* 0: doubled, with bounds */
    uint64_t in_flight_max;                 /* of the whole group */
    uint64_t notice_ms; /* before a lease ends; 0: no notice */
    bool paused;        /* nothing is given out */
    char *filter;       /* heap; NULL: it takes every message */
};

/* Which of them a request names. */
enum group_option {
    OPTION_MODE = 1,
    OPTION_PRIORITY = 2,
    OPTION_LEASE = 4,
    OPTION_ATTEMPTS = 8,
    OPTION_BACKOFF = 16,
    OPTION_IN_FLIGHT = 32,
    OPTION_NOTICE = 64,
    OPTION_PAUSED = 128,
    OPTION_FILTER = 256
};

/* Where a group begins on a topic that was there before it. */
struct lane_from {
    uint32_t topic;
    uint64_t after_seq; /* the last one it does not get */
};

struct group_fact {
    uint32_t id;
    char name[NAME_LEN_MAX + 1];
    uint32_t app; /* its owner */
    struct patterns topics;
    enum group_from from;
    uint64_t from_at; /* FROM_SEQ, FROM_TIME; else 0 */
    struct group_options options;
    struct filter *filter; /* options.filter compiled; NULL: there is none. It
                            * lives until the group's next change. */
    uint64_t created_us;
    size_t start_count; /* topics not listed begin at 1 */
    struct lane_from *starts;
    void *user; /* the replica owner's, NULL at first */
};

struct catalog *catalog_new(void); /* NULL: no memory */
void catalog_free(struct catalog *catalog);

/* What a fact did to the replica. For deletions the entry is gone when `gone`
 * has returned; for additions it is there before `added` is called. A topic's
 * retention may change without a word. */
struct catalog_watch {
    void (*topic_added)(void *arg, struct topic *topic);
    void (*topic_gone)(void *arg, struct topic *topic);
    void (*group_added)(void *arg, struct group_fact *group);
    /* Its options are others than before, and so is its compiled filter. */
    void (*group_changed)(void *arg, struct group_fact *group);
    void (*group_gone)(void *arg, struct group_fact *group);
    void (*app_gone)(void *arg, const struct app *app);
    void *arg;
};
void catalog_set_watch(struct catalog *catalog,
                       const struct catalog_watch *watch); /* copied */

/* Apply one fact. STATUS_CORRUPT, STATUS_NEWER: its value makes no sense, the
 * replica stays as it was. STATUS_NOMEM: so does it, and it is not the log's
 * any more; the caller may not go on with it. */
MUST_CHECK enum status catalog_apply(struct catalog *catalog,
                                     const struct record_fact *fact);

/* At a start: the highest id of this class that the log ever had, deleted ones
 * counted. Facts raise it. */
void catalog_set_last_id(struct catalog *catalog, enum catalog_class class,
                         uint32_t id);

struct app *catalog_app(const struct catalog *catalog, struct slice name);
struct app *catalog_app_by_id(const struct catalog *catalog, uint32_t id);
struct topic *catalog_topic(const struct catalog *catalog, struct slice name);
struct topic *catalog_topic_by_id(const struct catalog *catalog, uint32_t id);
struct group_fact *catalog_group(const struct catalog *catalog,
                                 struct slice name);
struct group_fact *catalog_group_by_id(const struct catalog *catalog,
                                       uint32_t id);
/* In the order of names. */
void catalog_each_app(const struct catalog *catalog,
                      void (*fn)(void *arg, struct app *app), void *arg);
void catalog_each_topic(const struct catalog *catalog,
                        void (*fn)(void *arg, struct topic *topic), void *arg);
void catalog_each_group(const struct catalog *catalog,
                        void (*fn)(void *arg, struct group_fact *group),
                        void *arg);
size_t catalog_count(const struct catalog *catalog, enum catalog_class class);

bool group_takes_topic(const struct group_fact *group, struct slice topic);
/* The last seq of the topic that the group does not get. */
uint64_t group_starts_after(const struct group_fact *group, uint32_t topic);

/* ---- may this app? ---- */

bool app_may_publish(const struct app *app, struct slice topic);
/* Does what the app may subscribe to cover the whole pattern? A pattern is
 * covered when one grant matches it as a text, '*' standing for itself too. */
bool app_may_subscribe(const struct app *app, struct slice pattern);

/* ---- changes; worker 0 ---- */

enum catalog_op {
    CATALOG_CREATE = 1,
    CATALOG_DELETE = 2,
    CATALOG_UPDATE = 3 /* a topic's retention, the whole of it; of a group's
                        * options those that are given */
};

/* What is asked for. Owns its patterns and the filter; catalog_request_fini(). */
struct catalog_request {
    enum catalog_op op;
    enum catalog_class class;
    uint32_t app; /* who asks; 0: the broker itself */
    char name[NAME_LEN_MAX + 1];
    /* create app */
    bool admin;
    struct patterns publish;
    struct patterns subscribe;
    /* create, update topic */
    struct retention retention; /* keep 0: KEEP_SETTLED, if nothing is set */
    /* create group */
    struct patterns topics;
    enum group_from from;
    uint64_t from_at;
    /* create, update group: options that are not given have their default, or
     * stay as they are */
    struct group_options options;
    unsigned given; /* of enum group_option */
};
void catalog_request_fini(struct catalog_request *request);

/* Decide a request, on a replica to which the fact of the decision before was
 * applied: may the asker, is the name good and free, are the numbers
 * in range? On STATUS_OK the fact's record body is appended to `body`, and
 * `secret` holds a new app's secret (random, from the caller's bytes).
 * `last_seq` gives a topic's last durable seq, for FROM_LATEST; `floor_seq`
 * where a group begins at the earliest; `seq_at` the first message of this time
 * or later, last_seq + 1 when there is none (NULL: FROM_TIME is not offered).
 * Otherwise *refusal says why. The same definition once more: STATUS_EXISTS. */
struct catalog_context {
    uint64_t now_us;
    const uint8_t *random; /* SECRET_RANDOM_LEN bytes, for a secret */
    uint64_t lane_count;   /* of all workers, about now */
    uint64_t (*last_seq)(void *arg, const struct topic *topic);
    uint64_t (*floor_seq)(void *arg, const struct topic *topic); /* from 1 */
    uint64_t (*seq_at)(void *arg, const struct topic *topic, uint64_t time_us);
    void *arg;
};
MUST_CHECK enum status
catalog_decide(struct catalog *catalog, const struct catalog_request *request,
               const struct catalog_context *context, struct bytes *body,
               char secret[SECRET_LEN_MAX + 1], struct refusal *refusal);

/* Those of a group that nothing is said of. */
struct group_options group_options_default(void);
/* "shared", "low" */
const char *group_mode_word(enum group_mode mode);
const char *group_priority_word(enum group_priority priority);

/* Takes a text "a,b" or one added by one; checks each. */
MUST_CHECK enum status patterns_add(struct patterns *patterns,
                                    struct slice pattern,
                                    struct refusal *refusal);
void patterns_fini(struct patterns *patterns);
bool patterns_match(const struct patterns *patterns, struct slice name);

#endif
