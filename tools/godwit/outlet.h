/* Text on its way to stdout and, behind it, the messages to settle once that
 * text is written: what a command acked, it has handed on. One thread. */
#ifndef GODWIT_TOOLS_OUTLET_H
#define GODWIT_TOOLS_OUTLET_H

#include "client/godwit.h"
#include "proto/bytes.h"
#include "proto/limits.h"

struct outlet_range {
    char topic[NAME_LEN_MAX + 1];
    uint64_t first;
    uint64_t last;
};

/* Zero-initialised is empty. */
struct outlet {
    struct bytes text;
    struct outlet_range *ranges;
    size_t range_count;
    size_t range_capacity;
    uint64_t messages;
};

void outlet_fini(struct outlet *o);

/* Add a message as print_delivery() shows it. STATUS_NOMEM: it is not in it. */
MUST_CHECK enum status
outlet_add(struct outlet *o, const struct godwit_delivery *delivery, bool json);

/* Write all of the text to `fd`. STATUS_CLOSED: nobody reads it any more;
 * STATUS_IO: see errno. */
MUST_CHECK enum status outlet_write(struct outlet *o, int fd);

/* Forget everything, keep the memory. */
void outlet_clear(struct outlet *o);

#endif
