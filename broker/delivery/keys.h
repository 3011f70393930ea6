/* Who has which key in one lane of an ordered group, and who waits for it.
 *
 *   key -- owner: the one message that has it (in flight, or between attempts)
 *       `- waiting: the numbers of those behind it, smallest first
 *
 * When the owner is done and some wait, the key is woken: nobody's until the
 * first of those is given. A waiting number may have been settled meanwhile;
 * whoever takes it from here looks. A key is a hash: two texts with the same
 * are one key. One thread. */
#ifndef GODWIT_BROKER_DELIVERY_KEYS_H
#define GODWIT_BROKER_DELIVERY_KEYS_H

#include "broker/delivery/group.h"
#include "broker/delivery/hash.h"
#include "broker/delivery/seqheap.h"
#include "broker/list.h"

/* What a group has of the worker's budget. */
struct key_account {
    struct key_budget *budget;
    size_t used;
};

struct keys {
    struct key_account *account;
    struct hash by_hash;
    struct hash by_owner;
    struct link woken;
    size_t freed_to; /* of by_hash, by keys_free_some() */
};

struct keys *keys_new(struct key_account *account); /* NULL: no memory */
void keys_free(struct keys *keys);                  /* accepts NULL */
/* Each key comes out of *budget (NULL: no bound). True: nothing is left but
 * what keys_free() needs no time for. False: the budget is used up, go on
 * later; then only these two may be called. */
bool keys_free_some(struct keys *keys, size_t *budget);

/* Room for keys_claim() if it is free for seq, else for keys_wait(), which then
 * cannot fail; call one of them or keys_tidy(). STATUS_AGAIN: the budget is
 * used up; never for what has the key or waits for it already. */
MUST_CHECK enum status keys_reserve(struct keys *keys, uint64_t hash,
                                    uint64_t seq);
/* May `seq` have it now? Yes if it has it, or if it is nobody's and none before
 * seq waits. */
bool keys_is_free(const struct keys *keys, uint64_t hash, uint64_t seq);
/* It has the key now, and waits no more. It may have it already. */
void keys_claim(struct keys *keys, uint64_t hash, uint64_t seq);
void keys_wait(struct keys *keys, uint64_t hash, uint64_t seq);
void keys_tidy(struct keys *keys, uint64_t hash);

/* It is settled or dead. True: its key was woken. */
bool keys_leave(struct keys *keys, uint64_t seq);
/* The first that waits for a key that is nobody's; 0: none. */
uint64_t keys_woken(const struct keys *keys);
void keys_pop_woken(struct keys *keys);
/* Those before all that `waits` says yes to, of a key that is nobody's, go. */
void keys_drop_gone(struct keys *keys, uint64_t hash,
                    bool (*waits)(void *arg, uint64_t seq), void *arg);
/* Numbers below `first` wait no more. */
void keys_trim(struct keys *keys, uint64_t first);

/* Who has it; 0: nobody. */
uint64_t keys_owner(const struct keys *keys, uint64_t hash);
/* How many of those that wait `counts` says yes to. */
size_t keys_count(const struct keys *keys,
                  bool (*counts)(void *arg, uint64_t seq), void *arg);

#endif
