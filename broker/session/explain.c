#include "broker/session/explain.h"

#include "broker/session/inside.h"

static const struct topic *topic_named(const struct session *s,
                                       struct slice name, struct refusal *r)
{
    const struct topic *topic = catalog_topic(session_catalog(s), name);

    if (topic == NULL) {
        (void)session_no_such_topic(name, r);
    }
    return topic;
}

enum status session_explain(struct session *s, struct slice name,
                            struct slice topic_name, uint64_t seq,
                            struct dispatch_explanation *out, struct refusal *r)
{
    const struct group_fact *group = session_group_here(s, name, r);
    const struct topic *topic;
    enum status status;

    if (group == NULL) {
        return r->status;
    }
    topic = topic_named(s, topic_name, r);
    if (topic == NULL) {
        return r->status;
    }
    status = dispatch_explain(s->worker->dispatch, group, topic, seq,
                              s->worker->now_us, out);
    return status == STATUS_OK ? status
                               : refuse(r, status, "seq", "numbers begin at 1");
}

enum status session_dead(struct session *s, struct dead_page *page,
                         struct refusal *r)
{
    const struct group_fact *group = session_group_here(s, page->group, r);

    page->next = NULL;
    page->next_seq = page->seq;
    page->count = 0;
    if (group == NULL) {
        return r->status;
    }
    if (page->topic.len > 0) {
        page->next = topic_named(s, page->topic, r);
        if (page->next == NULL) {
            return r->status;
        }
    }
    page->count =
        dispatch_dead(s->worker->dispatch, group, &page->next, &page->next_seq,
                      page->one_topic, page->dead, page->room);
    return STATUS_OK;
}

bool session_redrive_state(struct session *s, struct slice name,
                           struct redrive_state *out)
{
    struct refusal r;
    const struct group_fact *group = session_group_here(s, name, &r);

    return group != NULL && dispatch_redrive_state(group, out);
}

bool session_held_by(struct session *s, struct slice name, struct standing *out)
{
    struct refusal r;
    const struct group_fact *group = session_group_here(s, name, &r);

    return group != NULL
           && dispatch_held_by(s->worker->dispatch, group, s->worker->now_us,
                               out);
}
