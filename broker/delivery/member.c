#include "broker/delivery/member.h"

#include <stdlib.h>

void members_init(struct members *members)
{
    *members = (struct members) { 0 };
    link_init(&members->able);
}

static void member_free(struct member *member)
{
    struct members *of = member->of;

    link_remove(&member->able);
    if (of->last_found == member) {
        of->last_found = NULL;
    }
    hash_remove(&of->by_lease, member->lease, 0);
    free(member);
}

void members_fini(struct members *members)
{
    size_t at = 0;
    struct member *member;

    CHECK(members->joined == 0);
    while ((member = hash_next(&members->by_lease, &at)) != NULL) {
        free(member);
    }
    hash_fini(&members->by_lease);
}

enum status members_join(struct members *members, uint64_t lease,
                         struct member **out)
{
    enum status status = hash_reserve(&members->by_lease);
    struct member *member;

    CHECK(lease != 0);
    if (status != STATUS_OK) {
        return status;
    }
    if (hash_get(&members->by_lease, lease, 0) != NULL) {
        return STATUS_EXISTS;
    }
    member = calloc(1, sizeof *member);
    if (member == NULL) {
        return STATUS_NOMEM;
    }
    member->of = members;
    member->lease = lease;
    link_init(&member->able);
    hash_put(&members->by_lease, lease, 0, member);
    members->joined++;
    *out = member;
    return STATUS_OK;
}

struct member *members_find(struct members *members, uint64_t lease)
{
    /* Settlements of one holder come in rows. */
    if (members->last_found == NULL || members->last_found->lease != lease) {
        members->last_found = hash_get(&members->by_lease, lease, 0);
    }
    return members->last_found;
}

struct member *members_turn(const struct members *members)
{
    struct link *first = list_first(&members->able);

    return first == NULL ? NULL : container_of(first, struct member, able);
}

/* Its place among the able follows from its state alone. */
static void member_refresh(struct member *member)
{
    if (!member->retired && !member->paused
        && member->held.count < member->credit_messages
        && member->held_bytes < member->credit_bytes) {
        list_append(&member->of->able, &member->able);
    } else {
        link_remove(&member->able);
    }
}

void member_charge(struct member *member, size_t bytes)
{
    member->held_bytes += bytes;
    link_remove(&member->able); /* to the end of the line, if at all */
    member_refresh(member);
}

static void free_if_done(struct member *member)
{
    if (member->retired && member->held.count == 0) {
        member_free(member);
    }
}

void member_credit(struct member *member, size_t bytes)
{
    CHECK(member->held_bytes >= bytes);
    member->held_bytes -= bytes;
    member_refresh(member);
    free_if_done(member);
}

void member_retire(struct member *member)
{
    CHECK(!member->retired && member->of->joined > 0);
    member->retired = true;
    member->of->joined--;
    member_refresh(member);
    free_if_done(member);
}

void member_set_credit(struct member *member, uint64_t credit_messages,
                       uint64_t credit_bytes)
{
    member->credit_messages = credit_messages;
    member->credit_bytes = credit_bytes;
    member_refresh(member);
}

void member_pause(struct member *member, bool paused)
{
    member->paused = paused;
    member_refresh(member);
}

void *member_user(const struct member *member)
{
    return member->user;
}
