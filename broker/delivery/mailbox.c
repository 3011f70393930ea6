#include "broker/delivery/mailbox.h"

#include "proto/check.h"

#include <stdalign.h>
#include <stdatomic.h>
#include <stdlib.h>

/* Senders push on a stack with one exchange of its head; the receiver takes the
 * whole stack at once and turns it round, which makes it a queue. Each letter
 * is turned once, so a take costs constant time on average.
 *
 * Padding is meant: it keeps apart what different threads write.
 * NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding) */
struct mailbox {
    /* never changes */
    void (*wake)(void *arg);
    void *wake_arg;

    /* shared */
    alignas(64) _Atomic(struct letter *) newest;

    /* the receiver's */
    alignas(64) struct letter *oldest; /* taken from the stack, in order */
};

struct mailbox *mailbox_new(void (*wake)(void *arg), void *arg)
{
    struct mailbox *mailbox = aligned_alloc(64, sizeof *mailbox);

    if (mailbox != NULL) {
        *mailbox = (struct mailbox) { .wake = wake, .wake_arg = arg };
    }
    return mailbox;
}

void mailbox_free(struct mailbox *mailbox)
{
    if (mailbox == NULL) {
        return;
    }
    CHECK(mailbox_empty(mailbox));
    free(mailbox);
}

void mailbox_push(struct mailbox *mailbox, struct letter *letter)
{
    struct letter *newest =
        atomic_load_explicit(&mailbox->newest, memory_order_relaxed);

    do {
        letter->next = newest;
        /* Release: the letter before its address. */
    } while (!atomic_compare_exchange_weak_explicit(
        &mailbox->newest, &newest, letter, memory_order_release,
        memory_order_relaxed));
    /* Only the one who found the stack empty wakes: the receiver takes all of
     * it after that wake, whoever pushed. From here on the letter is gone. */
    if (newest == NULL && mailbox->wake != NULL) {
        mailbox->wake(mailbox->wake_arg);
    }
}

static struct letter *turn_round(struct letter *newest)
{
    struct letter *oldest = NULL;

    while (newest != NULL) {
        struct letter *older = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = older;
    }
    return oldest;
}

struct letter *mailbox_take(struct mailbox *mailbox)
{
    struct letter *letter;

    if (mailbox->oldest == NULL) {
        /* Acquire: the letters' contents. Every push is a read-modify-write,
         * so this synchronises with all of them. */
        mailbox->oldest = turn_round(atomic_exchange_explicit(
            &mailbox->newest, NULL, memory_order_acquire));
    }
    letter = mailbox->oldest;
    if (letter != NULL) {
        mailbox->oldest = letter->next;
        letter->next = NULL;
    }
    return letter;
}

bool mailbox_empty(const struct mailbox *mailbox)
{
    return mailbox->oldest == NULL
           && atomic_load_explicit(&mailbox->newest, memory_order_acquire)
                  == NULL;
}
