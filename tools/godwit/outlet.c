#include "tools/godwit/outlet.h"

#include "tools/godwit/print.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void outlet_fini(struct outlet *o)
{
    bytes_fini(&o->text);
    free(o->ranges);
    *o = (struct outlet) { 0 };
}

void outlet_clear(struct outlet *o)
{
    bytes_consume(&o->text, bytes_len(&o->text));
    o->range_count = 0;
    o->messages = 0;
}

static enum status range_add(struct outlet *o, const char *topic, uint64_t seq)
{
    struct outlet_range *range;

    if (o->range_count > 0) {
        range = &o->ranges[o->range_count - 1];
        if (range->last + 1 == seq && strcmp(range->topic, topic) == 0) {
            range->last = seq;
            return STATUS_OK;
        }
    }
    if (o->range_count == o->range_capacity) {
        size_t capacity = o->range_capacity > 0 ? 2 * o->range_capacity : 16;

        range = realloc(o->ranges, capacity * sizeof *range);
        if (range == NULL) {
            return STATUS_NOMEM;
        }
        o->ranges = range;
        o->range_capacity = capacity;
    }
    range = &o->ranges[o->range_count++];
    snprintf(range->topic, sizeof range->topic, "%s", topic);
    range->first = seq;
    range->last = seq;
    return STATUS_OK;
}

enum status outlet_add(struct outlet *o, const struct godwit_delivery *delivery,
                       bool json)
{
    size_t before = o->text.end;
    enum status status = print_delivery(&o->text, delivery, json);

    if (status == STATUS_OK) {
        status = range_add(o, delivery->topic, delivery->seq);
    }
    if (status != STATUS_OK) {
        o->text.end = before; /* half a message is none */
        return status;
    }
    o->messages++;
    return STATUS_OK;
}

enum status outlet_write(struct outlet *o, int fd)
{
    while (bytes_len(&o->text) > 0) {
        ssize_t n = write(fd, bytes_begin(&o->text), bytes_len(&o->text));

        if (n < 0 && errno != EINTR) {
            return errno == EPIPE ? STATUS_CLOSED : STATUS_IO;
        }
        bytes_consume(&o->text, n > 0 ? (size_t)n : 0);
    }
    return STATUS_OK;
}
