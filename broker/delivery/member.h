/* The members of a group as its files see them: credit, what each holds, whose
 * turn it is. A member that left or retired stays until what it holds is
 * settled or taken back, so every transaction in flight has one. One thread. */
#ifndef GODWIT_BROKER_DELIVERY_MEMBER_H
#define GODWIT_BROKER_DELIVERY_MEMBER_H

#include "broker/delivery/group.h"
#include "broker/delivery/hash.h"
#include "broker/list.h"

struct members {
    struct hash by_lease;
    bool exclusive;     /* only the one that joined first has turns */
    struct link joined; /* neither left nor retired, first one first */
    size_t joined_count;
    struct link able; /* who may be given a message now, next one first */
    struct link idle; /* of these, those that hold nothing */
    size_t alone_count;
    struct member *reserved; /* gets nothing more until it holds nothing */
    struct member *last_found;
};

struct member {
    struct members *of;
    uint64_t lease;
    void *user;
    uint64_t credit_messages;
    uint64_t credit_bytes;
    uint64_t held_bytes;
    struct inflight_list held;
    bool paused;
    bool retired;
    bool alone; /* it holds one that was set aside: nothing more beside it */
    uint32_t alone_topic; /* that one */
    uint64_t alone_seq;
    struct link joined;
    struct link able;
    struct link idle;
};

void members_init(struct members *members);
void members_fini(struct members *members); /* nobody is joined any more */

/* STATUS_NOMEM; STATUS_EXISTS: the lease number is in use. */
MUST_CHECK enum status members_join(struct members *members, uint64_t lease,
                                    struct member **out);
/* NULL: nobody. */
struct member *members_find(struct members *members, uint64_t lease);
/* Whose turn it is; NULL: nobody may have one. */
struct member *members_turn(const struct members *members);

/* Whose turn it is of those that hold nothing; NULL: nobody may have one. */
struct member *members_idle(const struct members *members);
/* This one is to be free soon; NULL: no one needs to be. */
void members_reserve(struct members *members, struct member *member);

/* A message was given to it: the next one's turn. Its `held` list is up to date
 * already. */
void member_charge(struct member *member, size_t bytes);
/* This one, which it was just given, it is to have alone. */
void member_set_alone(struct member *member, uint32_t topic, uint64_t seq);
/* It holds these no more, so many bytes in all. A retired member with nothing
 * left is freed: *member may be gone. */
void member_credit(struct member *member, uint32_t topic,
                   struct seq_range range, size_t bytes);
/* No more for it, and free it if it holds nothing. */
void member_retire(struct member *member);

#endif
