#include "storage/rest.h"

#include "storage/io.h"

#include <stdlib.h>

enum { PIECE_LEN = 1024 * 1024 };

struct rest rest_of(const struct segment *segment, const struct log *log)
{
    uint32_t end = atomic_load_explicit(&segment->end, memory_order_acquire);
    uint64_t len = segment->map_len > 0 ? segment->map_len : end;

    return (struct rest) {
        .vfs = log->vfs,
        .fd = segment->fd,
        .store_id = log->store_id,
        .segment = segment->header.id,
        .epoch = segment->header.epoch,
        .end = end,
        .at = end,
        .len = len > SEGMENT_LEN_MAX ? SEGMENT_LEN_MAX : (uint32_t)len,
    };
}

/* A torn one may stand there too. It was never confirmed, and knows of nothing
 * durable behind the end. */
static bool is_proof(const struct rest *rest, const uint8_t *at,
                     uint32_t offset, struct batch_header *header)
{
    return batch_may_begin(at) && batch_header_read(at, rest->store_id, header)
           && header->segment == rest->segment && header->offset == offset
           && header->epoch == rest->epoch
           && header->durable > place_of(rest->segment, rest->end);
}

static void look(struct rest *rest, const uint8_t *piece, uint32_t len)
{
    struct batch_header header;

    for (uint32_t i = 0; i + BATCH_HEADER_LEN <= len; i += BATCH_ALIGN) {
        if (is_proof(rest, piece + i, rest->at + i, &header)) {
            rest->found = true;
            rest->offset = header.offset;
            rest->batch_len = header.len;
            return;
        }
    }
}

/* Pieces overlap by a header. */
static enum status look_at_piece(struct rest *rest, uint8_t *piece)
{
    uint32_t left = rest->len - rest->at;
    uint32_t len = left < PIECE_LEN ? left : PIECE_LEN;
    uint32_t begin = rest->at & ~(uint32_t)(BLOCK_LEN - 1);
    ssize_t have;

    (void)rest->vfs->drop_cache(rest->vfs, rest->fd, (off_t)begin,
                                (off_t)(rest->at - begin) + len);
    have = io_read(rest->vfs, rest->fd, piece, len, (off_t)rest->at);
    if (have < 0) {
        return STATUS_IO;
    }
    look(rest, piece, (uint32_t)have);
    rest->at = left <= PIECE_LEN || have < (ssize_t)len
                   ? rest->len
                   : rest->at + len - BATCH_HEADER_LEN;
    return STATUS_OK;
}

enum status rest_search(struct rest *rest, uint32_t budget)
{
    enum status status = STATUS_OK;
    uint8_t *piece = malloc(PIECE_LEN);

    if (piece == NULL) {
        return STATUS_NOMEM;
    }
    for (uint32_t read = 0; read < budget && rest->at < rest->len
                            && !rest->found && status == STATUS_OK;
         read += PIECE_LEN) {
        status = look_at_piece(rest, piece);
    }
    free(piece);
    return status;
}
