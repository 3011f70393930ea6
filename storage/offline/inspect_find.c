/* Whether a receipt holds. It takes a pass of its own, with books of its own. */
#include "storage/offline/inspect_impl.h"

#include <stdlib.h>

struct proving {
    const struct inspect_receipt *receipt;
    uint64_t *hashes; /* of each of its messages; */
    bool *have;
    struct inspect_proof *out;
    bool written; /* the first one stands where the receipt says */
};

static bool take_hash(void *arg, const struct inspect_record *r)
{
    struct proving *p = arg;
    const struct inspect_receipt *receipt = p->receipt;
    uint64_t i = r->record.seq - receipt->seq;

    if (r->record.kind != RECORD_MESSAGE || r->record.topic != receipt->topic
        || r->record.seq < receipt->seq || i >= receipt->count) {
        return true;
    }
    p->hashes[i] = r->hash;
    p->have[i] = true;
    if (i == 0 && !p->written) {
        p->written =
            r->segment == receipt->segment && r->offset == receipt->offset;
        p->out->segment = r->segment;
        p->out->offset = r->offset;
    }
    return true;
}

static void sum_up(struct proving *p, const struct books *books)
{
    const struct inspect_receipt *receipt = p->receipt;
    struct inspect_proof *out = p->out;

    for (uint64_t i = 0; i < receipt->count; i++) {
        uint64_t seq = receipt->seq + i;
        if (p->have[i]) {
            out->present++;
            out->checksum = record_receipt(out->checksum, p->hashes[i]);
        } else if (books_deleted(books, receipt->topic, seq)) {
            out->deleted++;
        } else {
            out->first_missing = out->missing == 0 ? seq : out->first_missing;
            out->missing++;
        }
    }
    out->moved = out->segment != 0 && !p->written;
    if (out->missing > 0) {
        out->verdict = RECEIPT_MISSING;
    } else if (out->deleted > 0) {
        out->verdict = RECEIPT_DELETED;
    } else {
        out->verdict =
            out->checksum == receipt->checksum ? RECEIPT_GOOD : RECEIPT_WRONG;
    }
}

static enum status prove(struct inspect *inspect, struct proving *p,
                         struct error *err)
{
    struct inspect_visitor visitor = { .record = take_hash, .arg = p };
    struct inspect_totals totals;
    struct books books = { 0 };
    enum status status = inspect_pass(inspect, &books, &visitor, &totals, err);

    if (status == STATUS_OK) {
        sum_up(p, &books);
    }
    books_fini(&books);
    return status;
}

enum status inspect_receipt(struct inspect *inspect,
                            const struct inspect_receipt *receipt,
                            struct inspect_proof *out, struct error *err)
{
    struct inspect_proof proof = { 0 };
    struct proving p = { .receipt = receipt, .out = &proof };
    enum status status = STATUS_NOMEM;

    if (receipt->count == 0 || receipt->count > INSPECT_RECEIPT_COUNT_MAX
        || receipt->topic == 0 || receipt->seq == 0
        || receipt->seq > UINT64_MAX - receipt->count) {
        return error_set(err, STATUS_INVALID, 0,
                         "a receipt is for 1 to %d messages of a topic",
                         INSPECT_RECEIPT_COUNT_MAX);
    }
    p.hashes = calloc(receipt->count, sizeof *p.hashes);
    p.have = calloc(receipt->count, sizeof *p.have);
    if (p.hashes != NULL && p.have != NULL) {
        status = prove(inspect, &p, err);
    }
    if (status == STATUS_OK) {
        *out = proof;
    }
    free(p.hashes);
    free(p.have);
    return status;
}
