#include "tools/godwit/verify.h"

#include "tools/godwit/command.h"
#include "tools/godwit/human.h"
#include "tools/godwit/json.h"
#include "tools/godwit/offline.h"
#include "tools/godwit/receipt.h"

#include <inttypes.h>

enum { WHO_LEN = NAME_LEN_MAX + 64 };

static const char *verdict_word(enum receipt_verdict verdict)
{
    switch (verdict) {
    case RECEIPT_GOOD:
        return "good";
    case RECEIPT_DELETED:
        return "deleted";
    case RECEIPT_MISSING:
        return "missing";
    case RECEIPT_WRONG:
        break;
    }
    return "wrong";
}

/* "orders 51" or "orders 51 to 60". */
static void print_who(const struct receipt *r, char who[WHO_LEN])
{
    if (r->count == 1) {
        snprintf(who, WHO_LEN, "%s %" PRIu64, r->topic, r->seq);
    } else {
        snprintf(who, WHO_LEN, "%s %" PRIu64 " to %" PRIu64, r->topic, r->seq,
                 r->seq + r->count - 1);
    }
}

/* What is deleted stays on the disk until its segment goes. */
struct life {
    const struct receipt *receipt;
    uint32_t topic;
    bool deleted;
};

static void on_topic(void *arg, const struct inspect_topic *t)
{
    struct life *life = arg;

    if (t->topic == life->topic) {
        life->deleted = t->gone || t->first_seq > life->receipt->seq;
    }
}

static bool deleted_since(const struct verify *v, const struct receipt *r)
{
    struct life life = { .receipt = r,
                         .topic = inspect_id(v->inspect, CATALOG_TOPIC,
                                             slice_text(r->topic)) };

    inspect_each_topic(v->inspect, on_topic, &life);
    return life.deleted;
}

static void print_place(const struct receipt *r, const struct inspect_proof *p)
{
    printf("  %slog/%010u.seg, offset %u\n", r->count > 1 ? "the first: " : "",
           p->segment, p->offset);
    if (p->moved) {
        printf("  moved there by a merge; it was written to segment %u, offset "
               "%u\n",
               r->segment, r->offset);
    }
}

static void print_proof(const struct verify *v, const struct receipt *r,
                        const struct inspect_proof *p)
{
    char who[WHO_LEN];

    print_who(r, who);
    switch (p->verdict) {
    case RECEIPT_GOOD:
        printf("%s: there, byte for byte as confirmed%s\n", who,
               deleted_since(v, r) ? " (deleted since, and still on the disk)"
                                   : "");
        print_place(r, p);
        break;
    case RECEIPT_DELETED:
        printf("%s: deleted by the topic's retention, or with the topic", who);
        if (p->present > 0) {
            printf(" (%" PRIu64 " of %" PRIu64 "; the others are there)",
                   p->deleted, r->count);
        }
        puts("");
        break;
    case RECEIPT_MISSING:
        printf("%s: NOT THERE", who);
        if (p->missing < r->count) {
            printf(" (%" PRIu64 " of %" PRIu64 ", the first is %" PRIu64 ")",
                   p->missing, r->count, p->first_missing);
        }
        puts("");
        break;
    case RECEIPT_WRONG:
        printf(
            "%s: there, but NOT WHAT WAS CONFIRMED: the checksum is %016" PRIx64
            ", the receipt says %016" PRIx64 "\n",
            who, p->checksum, r->checksum);
        print_place(r, p);
        break;
    }
}

static int print_json(const struct verify *v, const char *text,
                      const struct receipt *r, const struct inspect_proof *p)
{
    struct json_writer w = { 0 };
    const char *line;

    json_begin(&w, NULL, '{');
    json_put_text(&w, "receipt", slice_text(text));
    json_put_text(&w, "topic", slice_text(r->topic));
    json_put_number(&w, "seq", r->seq);
    json_put_number(&w, "count", r->count);
    json_put_text(&w, "verdict", slice_text(verdict_word(p->verdict)));
    json_put_number(&w, "present", p->present);
    json_put_number(&w, "deleted", p->deleted);
    json_put_number(&w, "missing", p->missing);
    json_put_bool(&w, "deleted_since", p->present > 0 && deleted_since(v, r));
    if (p->segment != 0) {
        json_put_number(&w, "segment", p->segment);
        json_put_number(&w, "offset", p->offset);
        json_put_bool(&w, "moved", p->moved);
    }
    json_end(&w, '}');
    line = json_done(&w);
    if (line != NULL) {
        puts(line);
    }
    json_writer_fini(&w);
    return line != NULL ? OFFLINE_FINE : fail(OFFLINE_FAILED, "out of memory");
}

/* A topic that nobody has heard of has none of its messages. */
static enum status prove(struct verify *v, const struct receipt *r,
                         struct inspect_proof *proof, struct error *err)
{
    struct inspect_receipt wanted = {
        .topic = inspect_id(v->inspect, CATALOG_TOPIC, slice_text(r->topic)),
        .seq = r->seq,
        .count = r->count,
        .segment = r->segment,
        .offset = r->offset,
        .checksum = r->checksum
    };

    if (wanted.topic == 0) {
        *proof = (struct inspect_proof) { .verdict = RECEIPT_MISSING,
                                          .missing = r->count,
                                          .first_missing = r->seq };
        fprintf(stderr, "godwit: there is no topic \"%s\" in %s\n", r->topic,
                v->dir);
        return STATUS_OK;
    }
    return inspect_receipt(v->inspect, &wanted, proof, err);
}

static int show_one(struct verify *v, const char *text, bool json)
{
    struct inspect_proof proof = { 0 };
    struct error err = { 0 };
    struct receipt receipt;
    enum status status;
    int code = OFFLINE_FINE;

    CHECK(receipt_parse(text, &receipt));
    status = prove(v, &receipt, &proof, &err);
    if (status != STATUS_OK) {
        return offline_fail(status, &err);
    }
    if (json) {
        code = print_json(v, text, &receipt, &proof);
    } else {
        print_proof(v, &receipt, &proof);
    }
    if (code != OFFLINE_FINE) {
        return code;
    }
    return proof.verdict == RECEIPT_GOOD || proof.verdict == RECEIPT_DELETED
               ? OFFLINE_FINE
               : OFFLINE_DAMAGE;
}

int verify_receipts(struct verify *v, const struct arg_list *receipts,
                    bool json)
{
    int worst = OFFLINE_FINE;

    for (size_t i = 0; i < receipts->count; i++) {
        int code = show_one(v, receipts->at[i], json);
        worst = code > worst ? code : worst;
    }
    return worst;
}
