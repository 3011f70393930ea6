/* What codec.c (requests, messages) and codec_reply.c share. Internal. */
#ifndef GODWIT_PROTO_CODEC_IMPL_H
#define GODWIT_PROTO_CODEC_IMPL_H

#include "proto/codec.h"
#include "proto/pb.h"

#include <stdlib.h>

/* An array that grows by doubling and is used again by each decode. */
struct scratch {
    void *at;
    size_t capacity; /* in items */
};

struct codec {
    struct scratch messages;   /* struct slice */
    struct scratch ranges;     /* struct seq_range */
    struct scratch deliveries; /* struct wire_delivery */
    struct scratch topics;     /* struct slice, one for each delivery */
    struct scratch settled;    /* struct wire_settled_range */
    struct scratch gaps;       /* struct wire_gap */
    char limit[64];            /* the rule's name in a decoded refusal */
};

/* Make room for one more item behind `count`. STATUS_NOMEM. */
MUST_CHECK enum status scratch_room(struct scratch *s, size_t count,
                                    size_t item_len);

/* A payload being appended whose length was computed before. */
struct put {
    struct bytes *to;
    uint8_t *at;
    const uint8_t *end;
};

static inline enum status put_begin(struct put *p, struct bytes *to, size_t len)
{
    enum status status = bytes_reserve(to, len, SIZE_MAX / 2);

    if (status == STATUS_OK) {
        *p = (struct put) { to, bytes_end(to), bytes_end(to) + len };
    }
    return status;
}

/* The lengths were computed apart from the writing: they must agree. */
static inline enum status put_end(const struct put *p)
{
    CHECK(p->at == p->end);
    p->to->end = (size_t)(p->at - p->to->at);
    return STATUS_OK;
}

/* Reserve a whole Request or Reply and write all of it but the last `extra_len`
 * bytes: field `kind` of the envelope, in it the table's fields of `from`. */
MUST_CHECK enum status put_envelope(struct put *p, struct bytes *to,
                                    unsigned kind, const struct pb_table *table,
                                    const void *from, size_t extra_len);

/* The same when the table's fields are all there is. */
MUST_CHECK enum status write_flat(struct bytes *to, unsigned kind,
                                  const struct pb_table *table,
                                  const void *from);

/* The only field of a Request or Reply that is known, and how it is numbered. A
 * second one is refused, as is none. */
MUST_CHECK enum status envelope_read(struct slice payload, const char *name,
                                     unsigned kind_max, unsigned *kind,
                                     struct slice *inner,
                                     struct refusal *refusal);

#endif
