/* links: godwit_delivery godwit_proto */
#include "broker/delivery/keys.h"

#include <criterion/criterion.h>
#include <signal.h>

static struct key_budget budget;
static struct key_account account;
static struct keys *keys;

static void set_up(void)
{
    budget = (struct key_budget) { .max = 1024 * 1024 };
    account = (struct key_account) { .budget = &budget };
    keys = keys_new(&account);
}

static void tear_down(void)
{
    keys_free(keys);
    cr_assert_eq(budget.used, 0);
    cr_assert_eq(account.used, 0);
}

TestSuite(keys, .init = set_up, .fini = tear_down, .timeout = 30);

/* True: it has the key now. */
static bool arrive(uint64_t hash, uint64_t seq)
{
    cr_assert(keys_reserve(keys, hash, seq) == STATUS_OK);
    if (keys_is_free(keys, hash, seq)) {
        keys_claim(keys, hash, seq);
        return true;
    }
    keys_wait(keys, hash, seq);
    return false;
}

Test(keys, one_has_it_the_others_follow_by_seq)
{
    cr_assert(arrive(1, 10));
    cr_assert_not(arrive(1, 13));
    cr_assert_not(arrive(1, 11));
    cr_assert(arrive(2, 12)); /* another key */
    cr_assert_eq(keys_woken(keys), 0);
    cr_assert(keys_leave(keys, 10));
    cr_assert_eq(keys_woken(keys), 11);
    cr_assert_not(arrive(1, 14)); /* not before those that wait */
    cr_assert(arrive(1, 11));
    cr_assert_eq(keys_owner(keys, 1), 11);
    cr_assert_eq(keys_woken(keys), 0);
    cr_assert(keys_leave(keys, 11));
    cr_assert(arrive(1, 9)); /* redriven: it is before those that wait */
    cr_assert(keys_leave(keys, 9));
    cr_assert(arrive(1, 13));
    cr_assert(keys_leave(keys, 13));
    cr_assert(arrive(1, 14));
    cr_assert_not(keys_leave(keys, 14));
    cr_assert_not(keys_leave(keys, 14));
}

Test(keys, who_has_it_may_come_again)
{
    cr_assert(arrive(1, 10));
    cr_assert(arrive(1, 10));
    cr_assert_eq(keys_owner(keys, 1), 10);
}

static bool is_even(void *arg, uint64_t seq)
{
    (void)arg;
    return seq % 2 == 0;
}

Test(keys, what_is_settled_stands_in_nobodys_way)
{
    cr_assert(arrive(1, 10));
    (void)arrive(1, 11);
    (void)arrive(1, 13);
    keys_drop_gone(keys, 1, is_even, NULL); /* it has an owner: as it is */
    cr_assert(keys_leave(keys, 10));
    cr_assert_eq(keys_woken(keys), 11);
    keys_drop_gone(keys, 1, is_even, NULL);
    keys_drop_gone(keys, 1, is_even, NULL); /* gone already */
    cr_assert_eq(keys_woken(keys), 0);
    cr_assert(arrive(1, 14));
}

Test(keys, what_is_trimmed_waits_no_more)
{
    cr_assert(arrive(1, 10));
    (void)arrive(1, 11);
    (void)arrive(1, 12);
    cr_assert(keys_leave(keys, 10));
    keys_trim(keys, 12);
    cr_assert_eq(keys_woken(keys), 12);
    keys_trim(keys, 13);
    cr_assert_eq(keys_woken(keys), 0);
    cr_assert_eq(budget.used, 0);
}

/* Half of it for one; the rest is for others. What waits already never needs
 * more, or nothing would go on at the bound. */
Test(keys, the_budget_bounds_one_group_and_all)
{
    struct key_account other_account = { .budget = &budget };
    struct keys *other = keys_new(&other_account);
    uint64_t seq = 1;

    cr_assert(arrive(1, seq));
    while (keys_reserve(keys, 1, seq + 1) == STATUS_OK) {
        keys_wait(keys, 1, ++seq);
    }
    cr_assert(budget.used <= budget.max / 2);
    cr_assert(budget.used + 16 > budget.max / 2);
    cr_assert(keys_reserve(keys, 2, seq + 1) == STATUS_AGAIN);
    cr_assert(keys_reserve(other, 2, 1) == STATUS_OK);
    keys_tidy(other, 2);
    cr_assert_eq(other_account.used, 0);
    cr_assert(keys_leave(keys, 1));
    cr_assert(arrive(1, 2));
    keys_free(other);
}

Test(keys, two_cannot_have_one_key, .signal = SIGABRT)
{
    cr_assert(arrive(1, 10));
    keys_claim(keys, 1, 11);
}

/* Against a plain list: random arrivals and leavings, in any order of seq. */
Test(keys, behaves_as_a_sorted_list_does)
{
    enum { SEQS = 200 };
    bool waits[SEQS + 1] = { false };
    uint64_t owner = 0;
    uint32_t random = 7;

    for (int i = 0; i < 20000; i++) {
        uint64_t seq;
        random = random * 1664525 + 1013904223;
        seq = 1 + random / 65536 % SEQS;
        if (owner != 0 && random / 16384 % 2 == 0) {
            (void)keys_leave(keys, owner);
            owner = 0;
        } else if (seq != owner && !waits[seq]) {
            bool first = owner == 0;
            for (uint64_t s = 1; s < seq; s++) {
                first = first && !waits[s];
            }
            cr_assert_eq(arrive(5, seq), first);
            waits[seq] = !first;
            owner = first ? seq : owner;
        } else if (owner == 0) {
            seq = keys_woken(keys);
            if (seq != 0) {
                for (uint64_t s = 1; s < seq; s++) {
                    cr_assert_not(waits[s]);
                }
                cr_assert(waits[seq]);
                cr_assert(arrive(5, seq));
                waits[seq] = false;
                owner = seq;
            }
        }
    }
}
