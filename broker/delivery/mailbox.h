/* Letters between threads: many senders, one receiver, in order per sender. For
 * the rare things: a connection handed over, a catalog request and its answer. */
#ifndef GODWIT_BROKER_DELIVERY_MAILBOX_H
#define GODWIT_BROKER_DELIVERY_MAILBOX_H

#include <stdbool.h>

/* Embedded first in what is sent; pushing is giving. */
struct letter {
    struct letter *next; /* the mailbox's */
    void (*deliver)(struct letter *letter,
                    void *receiver); /* takes the letter */
};

struct mailbox;

struct mailbox *mailbox_new(void (*wake)(void *arg), void *arg); /* or NULL */
void mailbox_free(struct mailbox *mailbox); /* must be empty */
/* Any thread. Wakes the receiver if the box was empty. */
void mailbox_push(struct mailbox *mailbox, struct letter *letter);
/* Receiver: the oldest letter, NULL if none. */
struct letter *mailbox_take(struct mailbox *mailbox);
bool mailbox_empty(const struct mailbox *mailbox);

#endif
