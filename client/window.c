#include "client/window.h"
#include "proto/codec.h"
#include "proto/limits.h"
#include "proto/name.h"

#include <stdlib.h>

struct window_block {
    struct window_block *next; /* spare ones */
    size_t len;
    size_t used;
    uint8_t at[];
};

static uint64_t power_of_two_from(uint64_t least)
{
    uint64_t power = 1;

    while (power < least) {
        power *= 2;
    }
    return power;
}

enum status window_init(struct window *w, uint32_t limit)
{
    uint64_t slots = power_of_two_from(limit);

    CHECK(limit > 0 && limit <= WINDOW_COUNT_MAX);
    *w = (struct window) { .mask = slots - 1, .limit = limit };
    w->sent = w->sent_once = 1;
    atomic_init(&w->head, 1);
    atomic_init(&w->tail, 1);
    w->items = calloc(slots, sizeof *w->items);
    if (w->items == NULL) {
        return STATUS_NOMEM;
    }
    CHECK(pthread_mutex_init(&w->spare_lock, NULL) == 0);
    return STATUS_OK;
}

static struct window_item *item_at(const struct window *w, uint64_t index)
{
    return &w->items[index & w->mask];
}

/* Blocks are used in the order of the items: those of the items left, each
 * once, then the one being filled. */
static void free_blocks_in_use(struct window *w)
{
    struct window_block *last = w->oldest;

    for (uint64_t i = window_tail(w); i < window_head(w); i++) {
        struct window_block *block = item_at(w, i)->block;
        if (block != last) {
            free(last);
            last = block;
        }
    }
    if (w->filling != last) {
        free(w->filling);
    }
    free(last);
}

void window_fini(struct window *w)
{
    if (w->items == NULL) {
        return;
    }
    free_blocks_in_use(w);
    while (w->spare != NULL) {
        struct window_block *next = w->spare->next;
        free(w->spare);
        w->spare = next;
    }
    free(w->items);
    CHECK(pthread_mutex_destroy(&w->spare_lock) == 0);
    *w = (struct window) { .items = NULL };
}

/* ---- blocks ---- */

static struct window_block *spare_take(struct window *w)
{
    struct window_block *block = w->spare;

    if (block != NULL) {
        w->spare = block->next;
        w->spare_count--;
        block->used = 0;
    }
    return block;
}

static enum status block_get(struct window *w, size_t need,
                             struct window_block **out)
{
    size_t len = need > WINDOW_BLOCK_LEN ? need : WINDOW_BLOCK_LEN;
    struct window_block *block = NULL;
    bool room;

    CHECK(pthread_mutex_lock(&w->spare_lock) == 0);
    room = w->used_bytes + len <= WINDOW_BYTES_MAX;
    if (room) {
        block = len == WINDOW_BLOCK_LEN ? spare_take(w) : NULL;
        w->used_bytes += len;
    }
    CHECK(pthread_mutex_unlock(&w->spare_lock) == 0);
    if (!room) {
        return STATUS_AGAIN;
    }
    if (block == NULL) {
        block = malloc(sizeof *block + len);
        if (block == NULL) {
            CHECK(pthread_mutex_lock(&w->spare_lock) == 0);
            w->used_bytes -= len;
            CHECK(pthread_mutex_unlock(&w->spare_lock) == 0);
            return STATUS_NOMEM;
        }
        *block = (struct window_block) { .len = len };
    }
    *out = block;
    return STATUS_OK;
}

static void block_put(struct window *w, struct window_block *block)
{
    CHECK(pthread_mutex_lock(&w->spare_lock) == 0);
    CHECK(w->used_bytes >= block->len);
    w->used_bytes -= block->len;
    if (block->len == WINDOW_BLOCK_LEN && w->spare_count < WINDOW_SPARE_MAX) {
        block->next = w->spare;
        w->spare = block;
        w->spare_count++;
        block = NULL;
    }
    CHECK(pthread_mutex_unlock(&w->spare_lock) == 0);
    free(block);
}

/* ---- publishers ---- */

static enum status refuse_large(struct refusal *refusal, const char *limit,
                                const char *text, uint64_t used,
                                uint64_t allowed)
{
    refuse(refusal, STATUS_TOO_LARGE, limit, "%s: %llu, allowed are %llu", text,
           (unsigned long long)used, (unsigned long long)allowed);
    refusal->used = used;
    refusal->allowed = allowed;
    return STATUS_TOO_LARGE;
}

/* The rest is checked on the encoded bytes, by the same code as in the broker. */
enum status window_measure(struct slice topic,
                           const struct wire_message *message, size_t *len,
                           struct refusal *refusal)
{
    if (!name_valid(topic)) {
        return refuse(refusal, STATUS_INVALID, "name",
                      "a topic's name is 1 to %d of A-Z a-z 0-9 . _ - and does "
                      "not begin with . or -",
                      NAME_LEN_MAX);
    }
    if (message->body.len > BODY_LEN_MAX) {
        return refuse_large(refusal, "body_len", "the body is too long",
                            message->body.len, BODY_LEN_MAX);
    }
    *len = codec_message_len(message);
    if (*len > MESSAGE_LEN_MAX) {
        return refuse_large(refusal, "message_len", "the message is too long",
                            *len, MESSAGE_LEN_MAX);
    }
    return STATUS_OK;
}

/* Make `filling` a block with room for the message, and for the topic if it
 * does not stand there already. */
static enum status make_room(struct window *w, struct slice topic, size_t len)
{
    struct window_block *block = w->filling;
    bool same = slice_equal(topic, w->last_topic);
    enum status status;

    if (block != NULL
        && len + (same ? 0 : topic.len) <= block->len - block->used) {
        return STATUS_OK;
    }
    status = block_get(w, len + topic.len, &block);
    if (status != STATUS_OK) {
        return status;
    }
    if (w->filling != NULL && !w->filling_used) {
        block_put(w, w->filling); /* the engine will never come by it */
    }
    w->filling = block;
    w->filling_used = false;
    w->last_topic = slice_of(NULL, 0);
    return STATUS_OK;
}

static struct slice put_topic(struct window *w, struct slice topic)
{
    struct window_block *block = w->filling;

    if (!slice_equal(topic, w->last_topic)) {
        uint8_t *at = block->at + block->used;
        memcpy(at, topic.at, topic.len);
        block->used += topic.len;
        w->last_topic = slice_of(at, topic.len);
    }
    return w->last_topic;
}

/* Encodes behind what is there, without taking the room yet. */
static enum status put_message(struct window_block *block,
                               const struct wire_message *message, size_t len,
                               struct slice *out, struct refusal *refusal)
{
    struct bytes to = { .at = block->at,
                        .begin = block->used,
                        .end = block->used,
                        .capacity = block->len };
    enum status status = codec_message_write(&to, message);

    CHECK(status == STATUS_OK && to.at == block->at
          && to.end == block->used + len);
    *out = slice_of(block->at + block->used, len);
    return codec_message_check(*out, NULL, refusal);
}

static enum status check_batch(const struct window *w, size_t count, size_t len,
                               struct refusal *refusal)
{
    if (count > w->limit || count > PUBLISH_COUNT_MAX) {
        return refuse_large(
            refusal, "publish_count", "more messages than go together", count,
            w->limit < PUBLISH_COUNT_MAX ? w->limit : PUBLISH_COUNT_MAX);
    }
    if (count > 1 && len > ATOMIC_LEN_MAX) {
        return refuse_large(refusal, "atomic_len",
                            "the messages together are too long", len,
                            ATOMIC_LEN_MAX);
    }
    return STATUS_OK;
}

enum status window_open(struct window *w, struct slice topic, size_t count,
                        size_t len, struct refusal *refusal)
{
    uint64_t head = atomic_load_explicit(&w->head, memory_order_relaxed);
    enum status status = check_batch(w, count, len, refusal);

    if (status != STATUS_OK) {
        return status;
    }
    if (head - window_tail(w) + count > w->limit) {
        return STATUS_AGAIN;
    }
    status = make_room(w, topic, len);
    if (status != STATUS_OK) {
        return status;
    }
    w->draft = (struct window_draft) { .topic = put_topic(w, topic),
                                       .first = head,
                                       .count = (uint32_t)count,
                                       .used = w->filling->used };
    return STATUS_OK;
}

enum status window_put(struct window *w, const struct wire_message *message,
                       size_t len, godwit_confirm_fn done, void *arg,
                       struct refusal *refusal)
{
    struct window_draft *draft = &w->draft;
    struct window_item *item = item_at(w, draft->first + draft->put);
    struct slice encoded;
    enum status status =
        put_message(w->filling, message, len, &encoded, refusal);

    if (status != STATUS_OK) {
        w->filling->used = draft->used; /* with what was put before it */
        return status;
    }
    *item = (struct window_item) { .message = encoded,
                                   .topic = draft->topic,
                                   .block = w->filling,
                                   .number = message->id.len == 0,
                                   .before = draft->put,
                                   .behind = draft->count - draft->put - 1,
                                   .done = done,
                                   .arg = arg };
    w->filling->used += len;
    draft->put++;
    return STATUS_OK;
}

void window_commit(struct window *w)
{
    const struct window_draft *draft = &w->draft;

    CHECK(draft->put == draft->count);
    for (uint32_t i = 0; i < draft->count; i++) {
        struct window_item *item = item_at(w, draft->first + i);

        w->end += item->message.len;
        item->end = w->end;
        if (item->number != 0) {
            item->number = ++w->number;
        }
    }
    w->filling_used = true;
    /* Sequentially consistent: the engine stores that it sleeps, then looks at
     * the head; the publisher stores the head, then looks whether it sleeps. */
    atomic_store(&w->head, draft->first + draft->count);
}

/* ---- the engine ---- */

static bool is_atomic(const struct window_item *item)
{
    return item->before + item->behind > 0;
}

/* Numbered ones have the numbers of the run, because each number is given to
 * one item, in their order. */
static bool joins(const struct window_item *item, const struct window_run *run,
                  size_t len_max)
{
    if (item->completed) {
        return false;
    }
    if (run->atomic) {
        return item->before > 0; /* the next batch begins with none before */
    }
    return !is_atomic(item) && run->len + item->message.len <= len_max
           && (item->number == 0) == (run->number == 0)
           && slice_equal(item->topic, run->topic);
}

static struct window_run begin_run(const struct window *w)
{
    const struct window_item *item = item_at(w, w->sent);

    return (struct window_run) { .first = w->sent,
                                 .number = item->number,
                                 .atomic = is_atomic(item),
                                 .topic = item->topic };
}

void window_take(struct window *w, size_t len_max, size_t count_max,
                 struct slice *messages, struct window_run *out)
{
    uint64_t head = window_head(w);
    struct window_run run = { .count = 0 };

    while (w->sent < head && item_at(w, w->sent)->completed) {
        w->sent++;
    }
    if (w->sent < head) {
        run = begin_run(w);
    }
    for (; w->sent < head && (run.atomic || run.count < count_max); w->sent++) {
        const struct window_item *item = item_at(w, w->sent);
        if (run.count > 0 && !joins(item, &run, len_max)) {
            break;
        }
        messages[run.count++] = item->message;
        run.len += item->message.len;
        run.again += w->sent < w->sent_once;
    }
    if (w->sent > w->sent_once) {
        w->sent_once = w->sent;
    }
    *out = run;
}

void window_untake(struct window *w, const struct window_run *run)
{
    CHECK(w->sent == run->first + run->count);
    w->sent = run->first;
}

void window_rewind(struct window *w)
{
    w->sent = window_tail(w);
}

static uint64_t end_before(const struct window *w, uint64_t index)
{
    const struct window_item *item = item_at(w, index);

    return item->end - item->message.len;
}

uint64_t window_waiting(const struct window *w)
{
    uint64_t head = window_head(w);

    return w->sent == head ? 0
                           : item_at(w, head - 1)->end - end_before(w, w->sent);
}

uint64_t window_sent_end(const struct window *w)
{
    CHECK(w->sent < window_head(w));
    return end_before(w, w->sent);
}

uint64_t window_in_flight(const struct window *w)
{
    uint64_t tail = window_tail(w);

    return tail >= w->sent ? 0
                           : item_at(w, w->sent - 1)->end - end_before(w, tail);
}

/* The block of the items before it is done with when an item of the next one
 * is. The last one stays until then: it may still be filling. */
static void pass_block(struct window *w, struct window_block *block)
{
    if (w->oldest != block) {
        if (w->oldest != NULL) {
            block_put(w, w->oldest);
        }
        w->oldest = block;
    }
}

bool window_complete(struct window *w, uint64_t index, struct window_done *out)
{
    uint64_t tail = window_tail(w);
    struct window_item *item = item_at(w, index);

    CHECK(index >= tail && index < window_head(w));
    if (item->completed) {
        return false;
    }
    *out = (struct window_done) { item->done, item->arg, item->before };
    item->completed = true;
    if (index == tail) {
        uint64_t sent = w->sent > index + 1 ? w->sent : index + 1;
        for (; tail < sent && item_at(w, tail)->completed; tail++) {
            pass_block(w, item_at(w, tail)->block);
        }
        w->sent = sent;
        atomic_store(&w->tail, tail);
    }
    return true;
}
