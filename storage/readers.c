/* When is nobody left who may look at a segment that was taken out of the log's
 * table? Each view has a mark: 0 while it rests, else how many removals there
 * had been when it last held nothing. The keeper waits until every mark is 0 or
 * at least the number of its own removal.
 *
 * Why that is enough. A view looks into the table only after it has put its
 * mark up; the keeper looks at the marks only after it has emptied the slot.
 * These four steps are sequentially consistent, so they have one order for all
 * threads:
 *
 *   view:   mark = epoch     keeper:  slot = NULL
 *           look at slot              epoch + 1
 *                                     look at mark
 *
 * If the keeper finds the mark at 0, the view puts it up later and then finds
 * the slot empty. If it finds the mark at its own number or above, the view had
 * read that number from `epoch`, which was raised (release) after the slot was
 * emptied, so it finds the slot empty as well. Else it waits. What the view
 * read before it rested lies before its store of the mark (release), which the
 * keeper has read (acquire) before it unmaps.
 *
 * To wake and to rest costs a view one store each into memory of its own; the
 * list of the views is locked only to open, to close and to look at the marks.
 * A view that never rests says with each commit that it holds nothing. */
#include "storage/internal.h"

void views_init(struct views *views)
{
    *views = (struct views) { 0 };
    pthread_mutex_init(&views->lock, NULL);
    atomic_init(&views->epoch, 1);
}

void views_fini(struct views *views)
{
    CHECK(views->count == 0);
    pthread_mutex_destroy(&views->lock);
}

enum status views_add(struct views *views, struct view_mark *mark,
                      uint64_t reached)
{
    enum status status = STATUS_AGAIN;

    atomic_init(&mark->seen, 0);
    atomic_init(&mark->reached, reached);
    pthread_mutex_lock(&views->lock);
    if (views->count < STORE_VIEW_COUNT_MAX) {
        views->open[views->count++] = mark;
        status = STATUS_OK;
    }
    pthread_mutex_unlock(&views->lock);
    return status;
}

void views_remove(struct views *views, struct view_mark *mark)
{
    size_t i = 0;

    pthread_mutex_lock(&views->lock);
    while (i < views->count && views->open[i] != mark) {
        i++;
    }
    CHECK(i < views->count);
    views->open[i] = views->open[--views->count];
    pthread_mutex_unlock(&views->lock);
}

/* ---- the view's own thread ---- */

void view_wake(struct views *views, struct view_mark *mark)
{
    uint64_t epoch = atomic_load_explicit(&views->epoch, memory_order_acquire);

    if (atomic_load_explicit(&mark->seen, memory_order_relaxed) != epoch) {
        atomic_store_explicit(&mark->seen, epoch, memory_order_seq_cst);
    }
}

bool view_awake(const struct view_mark *mark)
{
    return atomic_load_explicit(&mark->seen, memory_order_relaxed) != 0;
}

void view_reached(struct view_mark *mark, uint64_t place)
{
    atomic_store_explicit(&mark->reached, place, memory_order_release);
}

void view_rest(struct view_mark *mark)
{
    atomic_store_explicit(&mark->seen, 0, memory_order_release);
}

/* ---- the keeper ---- */

bool store_retire_ready(struct store *store, uint32_t id)
{
    struct views *views = &store->views;
    bool ready = true;

    pthread_mutex_lock(&views->lock);
    for (size_t i = 0; i < views->count && ready; i++) {
        uint64_t reached = atomic_load_explicit(&views->open[i]->reached,
                                                memory_order_acquire);
        ready = place_segment(reached) > id;
    }
    pthread_mutex_unlock(&views->lock);
    return ready;
}

struct segment *store_retire_begin(struct store *store, uint32_t id,
                                   uint64_t *epoch)
{
    struct segment *segment = log_remove(&store->log, id);

    *epoch =
        atomic_fetch_add_explicit(&store->views.epoch, 1, memory_order_release)
        + 1;
    return segment;
}

bool store_retire_rested(struct store *store, uint64_t epoch)
{
    struct views *views = &store->views;
    bool rested = true;

    pthread_mutex_lock(&views->lock);
    for (size_t i = 0; i < views->count && rested; i++) {
        uint64_t seen =
            atomic_load_explicit(&views->open[i]->seen, memory_order_seq_cst);
        rested = seen == 0 || seen >= epoch;
    }
    pthread_mutex_unlock(&views->lock);
    return rested;
}
