/* A ring of links inside the things it lists. A link that is in no list points
 * to itself, as does the head of an empty one. One thread. */
#ifndef GODWIT_BROKER_LIST_H
#define GODWIT_BROKER_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct link {
    struct link *next;
    struct link *prev;
};

static inline void link_init(struct link *link)
{
    link->next = link->prev = link;
}

static inline bool link_is_alone(const struct link *link)
{
    return link->next == link;
}

static inline void link_remove(struct link *link)
{
    link->prev->next = link->next;
    link->next->prev = link->prev;
    link_init(link);
}

/* At the end, if it is in no list yet. */
static inline void list_append(struct link *head, struct link *link)
{
    if (link_is_alone(link)) {
        link->prev = head->prev;
        link->next = head;
        head->prev->next = link;
        head->prev = link;
    }
}

/* NULL: empty. */
static inline struct link *list_first(const struct link *head)
{
    return head->next == head ? NULL : head->next;
}

/* The first becomes the last. */
static inline void list_rotate(struct link *head)
{
    struct link *first = list_first(head);

    if (first != NULL) {
        link_remove(first);
        list_append(head, first);
    }
}

/* Move all of a list to another head, whatever that held. */
static inline void list_take_all(struct link *to, struct link *from)
{
    link_init(to);
    if (!link_is_alone(from)) {
        *to = *from;
        to->next->prev = to;
        to->prev->next = to;
        link_init(from);
    }
}

#endif
