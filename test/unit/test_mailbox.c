/* links: godwit_delivery godwit_proto */
#include "broker/delivery/mailbox.h"

#include <criterion/criterion.h>
#include <signal.h>

static struct mailbox *mailbox;
static int wakes;

static void count_wake(void *arg)
{
    ++*(int *)arg;
}

static void set_up(void)
{
    mailbox = mailbox_new(count_wake, &wakes);
}

TestSuite(mailbox, .init = set_up, .timeout = 10);

Test(mailbox, letters_come_in_order)
{
    struct letter letters[5];

    cr_assert(mailbox_take(mailbox) == NULL);
    cr_assert(mailbox_empty(mailbox));
    for (int i = 0; i < 3; i++) {
        mailbox_push(mailbox, &letters[i]);
    }
    cr_assert(!mailbox_empty(mailbox));
    cr_assert(mailbox_take(mailbox) == &letters[0]);
    mailbox_push(mailbox, &letters[3]);
    mailbox_push(mailbox, &letters[4]);
    for (int i = 1; i < 5; i++) {
        cr_assert(!mailbox_empty(mailbox));
        cr_assert(mailbox_take(mailbox) == &letters[i]);
    }
    cr_assert(mailbox_take(mailbox) == NULL);
    cr_assert(mailbox_empty(mailbox));
    mailbox_free(mailbox);
}

Test(mailbox, the_first_letter_wakes)
{
    struct letter letters[3];

    mailbox_push(mailbox, &letters[0]);
    mailbox_push(mailbox, &letters[1]);
    cr_assert_eq(wakes, 1);
    cr_assert(mailbox_take(mailbox) == &letters[0]);
    mailbox_push(mailbox, &letters[2]); /* all of before was taken over */
    cr_assert_eq(wakes, 2);
    cr_assert(mailbox_take(mailbox) == &letters[1]);
    cr_assert(mailbox_take(mailbox) == &letters[2]);
    mailbox_free(mailbox);
}

Test(mailbox, a_letter_can_be_sent_again)
{
    struct letter letter;

    for (int i = 0; i < 10; i++) {
        mailbox_push(mailbox, &letter);
        cr_assert(mailbox_take(mailbox) == &letter);
    }
    cr_assert_eq(wakes, 10);
    mailbox_free(mailbox);
}

Test(mailbox, one_with_letters_cannot_be_freed, .signal = SIGABRT)
{
    struct letter letter;

    mailbox_push(mailbox, &letter);
    mailbox_free(mailbox);
}

Test(mailbox, free_takes_null)
{
    mailbox_free(NULL);
    mailbox_free(mailbox);
}
