/* Words about a group that its definition (router/catalog.h) and the group
 * itself (delivery/group.h) share. Neither may include the other. The numbers
 * are on disk and never change. */
#ifndef GODWIT_BROKER_GROUP_MODE_H
#define GODWIT_BROKER_GROUP_MODE_H

enum group_mode {
    MODE_SHARED = 1, /* members take turns */
    MODE_ORDERED,    /* messages with one key one after the other */
    MODE_EXCLUSIVE   /* all to one member, the others stand by */
};

/* Whose turn is longer when many groups of a worker have something to give. */
enum group_priority { PRIORITY_LOW = 1, PRIORITY_NORMAL, PRIORITY_HIGH };

#endif
