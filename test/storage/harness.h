/* What the store's tests share: a store in a folder of its own, a buffer of
 * records in place of a submission ring, and helpers that append, sync, apply
 * and look. Failures of the store go back to the test as statuses. */
#ifndef GODWIT_TEST_STORAGE_HARNESS_H
#define GODWIT_TEST_STORAGE_HARNESS_H

#include "storage/store.h"

enum { HARNESS_BUFFER_LEN = 1024 * 1024, HARNESS_COMMITS_MAX = 65536 };

struct harness {
    char dir[512];
    struct store_config config;
    struct store *store;
    struct store_view *view;
    struct store_recovery recovery;
    struct error err;
    uint8_t *buffer; /* finished records */
    size_t len;
    uint64_t now_us;
};

/* A fresh folder and small segments; not opened yet. */
void harness_init(struct harness *h);
void harness_fini(struct harness *h); /* closes, removes the folder */

enum status harness_open(struct harness *h);
void harness_close(struct harness *h);
/* Close and open again; aborts on failure. */
void harness_reopen(struct harness *h);
/* Go away without the clean end a store_close() makes: what kill -9 leaves. */
void harness_kill(struct harness *h);
void harness_delete_keydir(struct harness *h);

/* Put finished records into the buffer. */
void add_message(struct harness *h, uint32_t topic, const char *body);
void add_sent(struct harness *h, uint32_t topic, const char *body,
              uint64_t producer, uint64_t producer_seq);
void add_flagged(struct harness *h, uint32_t topic, const char *body,
                 uint8_t flags, uint64_t producer, uint64_t producer_seq);
void add_sized(struct harness *h, uint32_t topic, size_t len, uint8_t fill);
void add_ack(struct harness *h, uint32_t group, uint32_t topic, uint64_t first,
             uint64_t last);
void add_gap(struct harness *h, uint32_t group, uint32_t topic, uint64_t first,
             uint64_t last);
/* Of any kind that has ranges. */
void add_lane(struct harness *h, enum record_kind kind, uint32_t group,
              uint32_t topic, uint64_t first, uint64_t last);
void add_failed(struct harness *h, uint32_t group, uint32_t topic,
                struct failure failure);
void add_seek(struct harness *h, uint32_t group, uint32_t topic,
              uint64_t after);
void add_retry(struct harness *h, uint32_t group, uint32_t topic,
               struct retry retry);
void add_fact(struct harness *h, enum catalog_class class, uint32_t id,
              const char *name, const char *value, bool deleted);

/* Append, sync and apply the whole buffer, in as many batches as it takes, then
 * empty it. The view learns of each batch. */
enum status harness_commit(struct harness *h);
/* Append one batch only; sync, apply and the view are the test's affair. The
 * buffer is emptied. */
enum status harness_append(struct harness *h, struct store_commit *commit);
/* harness_commit() and a checkpoint. */
enum status harness_checkpoint(struct harness *h);

/* Message `seq` of `topic` as text, "" when there is none, "?" when damaged. */
const char *message_text(struct harness *h, uint32_t topic, uint64_t seq);
/* The same as its length and first byte. */
enum status message_at(struct harness *h, uint32_t topic, uint64_t seq,
                       struct record *out, uint64_t *next);
/* "1-3,7 gaps 2-2 expired 3-3 filtered 1 discarded 1 dead 4-4 after 1
 * retries 5x2@900", as much as there is; "" when the lane is not known. */
const char *lane_text(struct harness *h, uint32_t group, uint32_t topic);
/* "1:2:name=value ..." of all facts. */
const char *facts_text(struct harness *h);
uint64_t last_seq(struct harness *h, uint32_t topic);

/* Files of the log. */
void segment_file(const struct harness *h, uint32_t id, char *path, size_t len);
uint64_t file_len(const char *path);
void flip_bit(const char *path, uint64_t offset, int bit);
/* Offset of the first place where `text` stands in the file. */
uint64_t find_in_file(const char *path, const char *text);

/* Numbers from a seed; printed by whoever uses them. */
uint64_t random_next(uint64_t *state);
uint64_t random_seed(void); /* $GODWIT_SEED, or the clock */

/* Nothing asks for the messages of this sealed segment any more. */
void harness_remove_segment(struct harness *h, uint32_t id);

#endif
