#include "broker/delivery/member.h"

#include <stdlib.h>

void members_init(struct members *members)
{
    *members = (struct members) { 0 };
    link_init(&members->joined);
    link_init(&members->able);
    link_init(&members->idle);
}

static void member_free(struct member *member)
{
    struct members *of = member->of;

    link_remove(&member->joined);
    link_remove(&member->able);
    link_remove(&member->idle);
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

    CHECK(members->joined_count == 0);
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
    link_init(&member->joined);
    link_init(&member->able);
    link_init(&member->idle);
    hash_put(&members->by_lease, lease, 0, member);
    list_append(&members->joined, &member->joined);
    members->joined_count++;
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

/* The one that joined first, if it is in this line. */
static struct member *only(const struct members *members, bool must_be_idle)
{
    struct link *first = list_first(&members->joined);
    struct member *member;

    if (first == NULL) {
        return NULL;
    }
    member = container_of(first, struct member, joined);
    return link_is_alone(must_be_idle ? &member->idle : &member->able) ? NULL
                                                                       : member;
}

struct member *members_turn(const struct members *members)
{
    struct link *first = list_first(&members->able);

    if (members->exclusive) {
        return only(members, false);
    }
    return first == NULL ? NULL : container_of(first, struct member, able);
}

struct member *members_idle(const struct members *members)
{
    struct link *first = list_first(&members->idle);

    if (members->exclusive) {
        return only(members, true);
    }
    return first == NULL ? NULL : container_of(first, struct member, idle);
}

static void put_in(struct link *head, struct link *link, bool in)
{
    if (in) {
        list_append(head, link);
    } else {
        link_remove(link);
    }
}

/* Its place in the two lines follows from its state alone. */
static void member_refresh(struct member *member)
{
    struct members *of = member->of;
    bool able = !member->retired && !member->paused && !member->alone
                && (member != of->reserved || member->held.count == 0)
                && member->held.count < member->credit_messages
                && member->held_bytes < member->credit_bytes;

    put_in(&of->able, &member->able, able);
    put_in(&of->idle, &member->idle, able && member->held.count == 0);
}

void members_reserve(struct members *members, struct member *member)
{
    struct member *before = members->reserved;

    members->reserved = member;
    if (before != NULL) {
        member_refresh(before);
    }
    if (member != NULL) {
        member_refresh(member);
    }
}

void member_charge(struct member *member, size_t bytes)
{
    member->held_bytes += bytes;
    link_remove(&member->able); /* to the end of the line, if at all */
    member_refresh(member);
}

void member_set_alone(struct member *member, uint32_t topic, uint64_t seq)
{
    CHECK(!member->alone);
    member->alone = true;
    member->alone_topic = topic;
    member->alone_seq = seq;
    member->of->alone_count++;
    member_refresh(member);
}

/* What it held before it got that one may stay with it for long. */
static void end_alone(struct member *member, uint32_t topic,
                      struct seq_range range)
{
    if (member->alone && member->alone_topic == topic
        && member->alone_seq >= range.first
        && member->alone_seq <= range.last) {
        member->alone = false;
        member->of->alone_count--;
    }
}

static void free_if_done(struct member *member)
{
    if (member->retired && member->held.count == 0) {
        member_free(member);
    }
}

void member_credit(struct member *member, uint32_t topic,
                   struct seq_range range, size_t bytes)
{
    CHECK(member->held_bytes >= bytes);
    member->held_bytes -= bytes;
    end_alone(member, topic, range);
    member_refresh(member);
    free_if_done(member);
}

void member_retire(struct member *member)
{
    CHECK(!member->retired && member->of->joined_count > 0);
    member->retired = true;
    link_remove(&member->joined);
    member->of->joined_count--;
    if (member->of->reserved == member) {
        member->of->reserved = NULL;
    }
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
