/* The broker's counters. Each worker and the journal add to their own set with
 * relaxed atomics; whoever answers /metrics or /health reads them all, and the
 * store's with store_stats(). */
#ifndef GODWIT_BROKER_METRICS_H
#define GODWIT_BROKER_METRICS_H

#include "proto/bytes.h"
#include "storage/store.h"

#include <stdatomic.h>

/* name, type, help */
#define WORKER_METRICS(X)                                                      \
    X(published_messages, counter, "Messages accepted into the log")           \
    X(published_bytes, counter, "Their encoded bytes")                         \
    X(confirmed_messages, counter, "Messages confirmed after fdatasync")       \
    X(duplicate_messages, counter, "Publishes dropped as stored before")       \
    X(refused_messages, counter, "Messages refused")                           \
    X(delivered_messages, counter, "Deliveries, redeliveries included")        \
    X(delivered_bytes, counter, "Their encoded bytes")                         \
    X(redelivered_messages, counter, "Deliveries with an attempt above 1")     \
    X(settled_accepted, counter, "Settlements accepted")                       \
    X(settled_late, counter, "Settlements that came late")                     \
    X(settled_unknown, counter, "Settlements of what was never delivered")     \
    X(settles_continued, counter, "Settle requests too large for one turn")    \
    X(gap_messages, counter, "Messages reported as gaps")                      \
    X(deleted_messages, counter,                                               \
      "Deleted before they were settled, or discarded")                        \
    X(expired_messages, counter, "Their time to live was over")                \
    X(filtered_messages, counter, "Not wanted by their group's filter")        \
    X(died_messages, counter, "Dead: their last attempt failed, or rejected")  \
    X(redriven_messages, counter, "Dead ones made ready again")                \
    X(ended_transactions_us, counter,                                          \
      "Microseconds that ended deliveries were in flight")                     \
    X(breakers_open, gauge,                                                    \
      "Groups whose deliveries nearly all fail: only trials are made")         \
    X(authentication_failures, counter, "Refused logins")                      \
    X(sessions, gauge, "Open connections")                                     \
    X(attached_members, gauge, "Members attached to groups")                   \
    X(lanes, gauge, "Pairs of a group and a topic it takes")                   \
    X(pending_confirms, gauge, "Requests that wait for the sync")              \
    X(submission_bytes, gauge, "Bytes in the submission ring")                 \
    X(stalled_sessions, gauge, "Connections not read: the ring is full")       \
    X(searches, gauge, "Searches under way")                                   \
    X(tails, gauge, "Searches that wait for what comes, or would")             \
    X(searched_messages, counter, "Messages that searches have looked at")     \
    X(books_differences, counter, "Lanes whose books did not balance")         \
    X(net_received_bytes, counter, "Bytes read from sockets")                  \
    X(net_sent_bytes, counter, "Bytes written to sockets")                     \
    X(net_requests, counter, "HTTP requests")                                  \
    X(net_frames, counter, "WebSocket messages received")                      \
    X(net_bad_requests, counter, "HTTP requests refused by the parser")        \
    X(net_bad_frames, counter, "WebSocket frames refused")                     \
    X(net_accepted, counter, "Connections accepted")                           \
    X(net_refused, counter, "Connections refused at the limit")                \
    X(net_pings_unanswered, counter, "Pings answered by a later one's pong")

/* Where the messages of all lanes stand, at the last look: by state. */
#define BOOKS_METRICS(X)                                                       \
    X(acked)                                                                   \
    X(dead)                                                                    \
    X(expired)                                                                 \
    X(deleted)                                                                 \
    X(filtered)                                                                \
    X(gap)                                                                     \
    X(ready)                                                                   \
    X(delayed)                                                                 \
    X(in_flight)

/* Of the in-flight table, by tier. name, type, help */
#define TIER_METRICS(X)                                                        \
    X(in_flight_messages, gauge, "Open deliveries and what waits for another") \
    X(in_flight_bytes, gauge, "Memory of them")                                \
    X(in_flight_bytes_max, gauge, "Its budget")                                \
    X(transactions_ended, counter, "Deliveries that ended here")               \
    X(transactions_demoted, counter, "Came down to here")                      \
    X(transactions_promoted, counter, "Came up to here")

struct tier_metrics {
#define X(name, type, help) _Atomic uint64_t name;
    TIER_METRICS(X)
#undef X
};
enum { TIERS = 3 }; /* heap, direct, file */

struct worker_metrics {
#define X(name, type, help) _Atomic uint64_t name;
    WORKER_METRICS(X)
#undef X
    struct tier_metrics tiers[TIERS];
    struct {
#define X(name) _Atomic uint64_t name;
        BOOKS_METRICS(X)
#undef X
    } books;
};

#define JOURNAL_METRICS(X)                                                     \
    X(groups, counter, "Group commits")                                        \
    X(group_records, counter, "Records in them")                               \
    X(group_bytes, counter, "Bytes in them")                                   \
    X(sync_us, counter, "Microseconds spent in fdatasync")                     \
    X(append_us, counter, "Microseconds spent numbering and writing")          \
    X(sync_us_max, gauge, "Longest fdatasync so far, microseconds")

struct journal_metrics {
#define X(name, type, help) _Atomic uint64_t name;
    JOURNAL_METRICS(X)
#undef X
};

#define KEEPER_METRICS(X)                                                      \
    X(disk_free_bytes, gauge, "Free space on the disk, at the last look")      \
    X(disk_free_bytes_min, gauge, "Below this publishes are refused")          \
    X(disk_low, gauge,                                                         \
      "1 while publishes are refused: disk_free_bytes fell below the minimum") \
    X(upkeep_us, counter, "Microseconds in retention, merge and snapshots")    \
    X(upkeep_waits, gauge, "1 while these wait for space")                     \
    X(removal_waits, gauge,                                                    \
      "For over a minute: 1 for the lock store.hold, 2 for a reader")          \
    X(nothing_deleted, gauge, "1: a catalog entry does not read")              \
    X(scrub_us, counter, "Microseconds in the scrub")                          \
    X(scrub_behind, gauge, "1: no whole pass in twice the time for one")

struct keeper_metrics {
#define X(name, type, help) _Atomic uint64_t name;
    KEEPER_METRICS(X)
#undef X
};

/* All there is to show; owned by the server, passed to the workers read-only. */
struct broker_metrics {
    size_t worker_count;
    struct worker_metrics *workers;
    struct journal_metrics journal;
    struct keeper_metrics keeper;
    struct store *store; /* for its figures */
    const struct store_recovery *recovery;
    uint64_t started_us; /* wall clock */
};

static inline void metric_add(_Atomic uint64_t *metric, uint64_t count)
{
    /* One writer at a time: a plain load and store, no locked instruction. */
    atomic_store_explicit(
        metric, atomic_load_explicit(metric, memory_order_relaxed) + count,
        memory_order_relaxed);
}

static inline void metric_set(_Atomic uint64_t *metric, uint64_t value)
{
    atomic_store_explicit(metric, value, memory_order_relaxed);
}

#endif
