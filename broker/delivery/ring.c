#include "broker/delivery/ring.h"

#include <stdalign.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* Sequences count entries since the start and never wrap. `published` is the
 * producer's, `done` each consumer's; both only rise. A sequence that another
 * thread writes has a cache line of its own.
 *
 * Sleeping is Dekker's pattern: each side first stores what the other must see,
 * then looks at what the other stored.
 *
 *   producer: published = n; asleep?      consumer: asleep = true; published?
 *
 * Both stores and both loads are seq_cst, so in their one total order at least
 * one side sees the other: no wake is lost. (Operations and not fences: the
 * same instructions here, and ThreadSanitizer understands them.) */

enum { CACHE_LINE = 64 };

struct consumer {
    alignas(CACHE_LINE) _Atomic uint64_t done;
    alignas(CACHE_LINE) _Atomic bool asleep;
    /* set before the threads start */
    ring_wake_fn wake;
    void *wake_arg;
};

/* Padding is meant: it keeps apart what different threads write.
 * NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding) */
struct ring {
    /* never changes */
    size_t slot_len;
    size_t slot_count;
    size_t consumer_count;
    uint8_t *slots;
    ring_wake_fn wake_producer;
    void *wake_producer_arg;
    struct consumer *consumers;

    /* written by the producer only */
    alignas(CACHE_LINE) uint64_t next; /* sequence of the slot to fill */
    uint64_t slowest; /* a lower bound of every `done`, from the last look */

    alignas(CACHE_LINE) _Atomic uint64_t published;
    alignas(CACHE_LINE) _Atomic bool producer_waits;
};

static void *alloc_lines(size_t len)
{
    size_t rounded = (len + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
    void *at = aligned_alloc(CACHE_LINE, rounded);

    return at == NULL ? NULL : memset(at, 0, rounded);
}

struct ring *ring_new(size_t slot_len, size_t slot_count, size_t consumer_count)
{
    struct ring *ring;

    CHECK(slot_len > 0 && consumer_count > 0);
    CHECK(slot_count > 0 && (slot_count & (slot_count - 1)) == 0);
    ring = alloc_lines(sizeof *ring);
    if (ring == NULL) {
        return NULL;
    }
    ring->slot_len = (slot_len + 7) / 8 * 8;
    ring->slot_count = slot_count;
    ring->consumer_count = consumer_count;
    ring->slots = alloc_lines(ring->slot_len * slot_count);
    ring->consumers = alloc_lines(consumer_count * sizeof *ring->consumers);
    if (ring->slots == NULL || ring->consumers == NULL) {
        ring_free(ring);
        return NULL;
    }
    return ring;
}

void ring_free(struct ring *ring)
{
    if (ring == NULL) {
        return;
    }
    free(ring->slots);
    free(ring->consumers);
    free(ring);
}

void ring_set_wake(struct ring *ring, size_t consumer, ring_wake_fn wake,
                   void *arg)
{
    CHECK(consumer < ring->consumer_count);
    ring->consumers[consumer].wake = wake;
    ring->consumers[consumer].wake_arg = arg;
}

void ring_set_producer_wake(struct ring *ring, ring_wake_fn wake, void *arg)
{
    ring->wake_producer = wake;
    ring->wake_producer_arg = arg;
}

static uint8_t *slot_of(const struct ring *ring, uint64_t sequence)
{
    size_t index = (size_t)sequence & (ring->slot_count - 1);
    return ring->slots + index * ring->slot_len;
}

/* Look at every consumer again. seq_cst serves ring_wait_room(); it includes the
 * acquire that lets a slot be written over only after its readers are done. */
static bool find_room(struct ring *ring)
{
    uint64_t slowest = UINT64_MAX;

    for (size_t i = 0; i < ring->consumer_count; i++) {
        uint64_t done = atomic_load_explicit(&ring->consumers[i].done,
                                             memory_order_seq_cst);
        slowest = done < slowest ? done : slowest;
    }
    ring->slowest = slowest;
    return ring->next - slowest < ring->slot_count;
}

void *ring_claim(struct ring *ring)
{
    if (ring->next - ring->slowest >= ring->slot_count && !find_room(ring)) {
        return NULL;
    }
    return slot_of(ring, ring->next);
}

static void wake_consumer(struct consumer *consumer)
{
    /* The load keeps the line shared while nobody sleeps; the exchange makes
     * one wake of one sleep. */
    if (atomic_load_explicit(&consumer->asleep, memory_order_seq_cst)
        && atomic_exchange_explicit(&consumer->asleep, false,
                                    memory_order_seq_cst)
        && consumer->wake != NULL) {
        consumer->wake(consumer->wake_arg);
    }
}

void ring_publish(struct ring *ring)
{
    CHECK(ring->next - ring->slowest < ring->slot_count);
    ring->next++;
    /* Release: the slot's bytes before its number. seq_cst: see the top. */
    atomic_store_explicit(&ring->published, ring->next, memory_order_seq_cst);
    for (size_t i = 0; i < ring->consumer_count; i++) {
        wake_consumer(&ring->consumers[i]);
    }
}

bool ring_wait_room(struct ring *ring)
{
    atomic_store_explicit(&ring->producer_waits, true, memory_order_seq_cst);
    if (find_room(ring)) {
        atomic_store_explicit(&ring->producer_waits, false,
                              memory_order_relaxed);
        return false;
    }
    return true;
}

size_t ring_available(struct ring *ring, size_t consumer)
{
    uint64_t published =
        atomic_load_explicit(&ring->published, memory_order_acquire);
    /* Only this thread writes it: relaxed. */
    uint64_t done = atomic_load_explicit(&ring->consumers[consumer].done,
                                         memory_order_relaxed);
    return (size_t)(published - done);
}

const void *ring_entry(const struct ring *ring, size_t consumer, size_t index)
{
    uint64_t done = atomic_load_explicit(&ring->consumers[consumer].done,
                                         memory_order_relaxed);
    return slot_of(ring, done + index);
}

void ring_consumed(struct ring *ring, size_t consumer, size_t count)
{
    struct consumer *me = &ring->consumers[consumer];
    uint64_t done = atomic_load_explicit(&me->done, memory_order_relaxed);

    CHECK(count <= ring_available(ring, consumer));
    /* Release: our reads before the slots are free. seq_cst: see the top, with
     * the producer as the sleeper. */
    atomic_store_explicit(&me->done, done + count, memory_order_seq_cst);
    if (atomic_load_explicit(&ring->producer_waits, memory_order_seq_cst)
        && atomic_exchange_explicit(&ring->producer_waits, false,
                                    memory_order_seq_cst)
        && ring->wake_producer != NULL) {
        ring->wake_producer(ring->wake_producer_arg);
    }
}

bool ring_sleep(struct ring *ring, size_t consumer)
{
    struct consumer *me = &ring->consumers[consumer];
    uint64_t done = atomic_load_explicit(&me->done, memory_order_relaxed);

    atomic_store_explicit(&me->asleep, true, memory_order_seq_cst);
    if (atomic_load_explicit(&ring->published, memory_order_seq_cst) != done) {
        ring_awake(ring, consumer);
        return false;
    }
    return true;
}

void ring_awake(struct ring *ring, size_t consumer)
{
    /* Relaxed: seen late, it costs one needless wake. */
    atomic_store_explicit(&ring->consumers[consumer].asleep, false,
                          memory_order_relaxed);
}

uint64_t ring_published(const struct ring *ring)
{
    return atomic_load_explicit(&ring->published, memory_order_acquire);
}

uint64_t ring_done(const struct ring *ring, size_t consumer)
{
    return atomic_load_explicit(&ring->consumers[consumer].done,
                                memory_order_acquire);
}
