/* Names of apps, topics and groups, and patterns over them. */
#ifndef GODWIT_PROTO_NAME_H
#define GODWIT_PROTO_NAME_H

#include "proto/bytes.h"

/* 1 to NAME_LEN_MAX of [A-Za-z0-9._-], not beginning with '.' or '-'. */
bool name_valid(struct slice name);

/* A name that may also hold '*' anywhere. */
bool pattern_valid(struct slice pattern);

/* '*' stands for any run of characters, dots too, also none. Linear time in
 * practice, bounded by len(pattern) x len(name) at worst. */
bool pattern_matches(struct slice pattern, struct slice name);

#endif
