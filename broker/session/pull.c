/* A pull is a member that lives for one answer: it joins the group with the
 * pull's bounds as its credit, gets what the pump gives it in one turn, and is
 * retired; what it got stays leased to its number. */
#include "broker/session/session.h"

#include "broker/session/inside.h"
#include "proto/limits.h"

#include <stdlib.h>

void pull_end(struct session *s, bool got)
{
    struct group_fact *group = session_group(s);
    uint64_t lease_ms = group == NULL ? 0 : group->options.lease_ms;

    s->pulling = false;
    ev_timer_stop(s->worker->loop, &s->timer);
    if (s->member != NULL && group != NULL) {
        dispatch_retire(s->worker->dispatch, group, s->member);
        metric_set(&s->worker->metrics->attached_members,
                   s->worker->metrics->attached_members - 1);
    }
    s->member = NULL;
    s->group = 0;
    s->door->pulled(s, s->pull_id, got ? s->lease : 0, lease_ms);
}

void session_finish_pulls(struct worker *w)
{
    while (w->pulled != NULL) {
        struct session *s = w->pulled;

        w->pulled = s->next_pulled;
        s->pull_got = false;
        if (s->pulling) {
            pull_end(s, true);
        } else if (s->conn == NULL && s->pending == 0) {
            session_unlink(s);
            free(s);
        }
    }
}

/* The group to pull from, joined for as long as the pull takes; or NULL. */
static struct group_fact *join_for_pull(struct session *s, struct slice name,
                                        uint64_t count_max, struct refusal *r)
{
    struct worker *w = s->worker;
    struct group_fact *group = session_group_here(s, name, r);
    enum status status;

    if (group == NULL) {
        return NULL;
    }
    if (s->member != NULL || s->pulling) {
        refuse(r, STATUS_BUSY, "one_group", "attached already");
        return NULL;
    }
    if (worker_draining(w)) {
        refuse(r, STATUS_CLOSED, "draining",
               "the broker is being stopped; connect again");
        return NULL;
    }
    s->lease = worker_lease(w);
    status = dispatch_join(w->dispatch, group, s->lease, count_max,
                           PULL_BYTES_MAX, s, &s->member);
    if (status != STATUS_OK) {
        refuse(r, status, "memory", "the broker is out of memory");
        return NULL;
    }
    return group;
}

void session_pull(struct session *s, uint64_t id, struct slice name,
                  uint64_t count_max, uint64_t wait_ms)
{
    struct worker *w = s->worker;
    struct refusal r;
    struct group_fact *group = join_for_pull(s, name, count_max, &r);

    if (group == NULL) {
        s->door->refused(s, id, 1, &r);
        return;
    }
    s->group = group->id;
    s->pulling = true;
    s->pull_waits = wait_ms > 0;
    s->pull_id = id;
    metric_add(&w->metrics->attached_members, 1);
    /* Even with no wait one turn of the loop looks what there is. */
    ev_timer_set(&s->timer, (double)wait_ms / 1000.0 + 0.001, 0.0);
    ev_timer_start(w->loop, &s->timer);
}

void session_end_pulls(struct worker *w)
{
    struct session *next;

    for (struct session *s = w->sessions; s != NULL; s = next) {
        next = s->next;
        if (s->pulling && !s->pull_got) {
            pull_end(s, false);
        }
    }
}
