#include "storage/store.h"

enum status store_view_history(struct store_view *view, uint32_t group,
                               uint32_t topic, uint64_t seq,
                               struct store_failure *out, size_t room,
                               size_t *count)
{
    (void)view;
    (void)group;
    (void)topic;
    (void)seq;
    (void)out;
    (void)room;
    *count = 0;
    return STATUS_OK;
}
