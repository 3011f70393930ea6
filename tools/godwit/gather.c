#include "tools/godwit/gather.h"

#include "proto/limits.h"

#include <stdlib.h>

static void message_free(struct godwit_message *m)
{
    free((void *)m->key);
    free((void *)m->tag);
    free((void *)m->id);
    free((void *)m->body);
}

void gather_fini(struct gather *g)
{
    for (size_t i = 0; i < g->count; i++) {
        message_free(&g->messages[i]);
    }
    free(g->messages);
    *g = (struct gather) { 0 };
}

static enum status make_room(struct gather *g)
{
    size_t capacity = g->capacity == 0 ? 64 : 2 * g->capacity;
    struct godwit_message *messages;

    if (g->count < g->capacity) {
        return STATUS_OK;
    }
    messages = realloc(g->messages, capacity * sizeof *messages);
    if (messages == NULL) {
        return STATUS_NOMEM;
    }
    g->messages = messages;
    g->capacity = capacity;
    return STATUS_OK;
}

/* False: no memory. NULL is copied as NULL. */
static bool copy_text(const char *from, const char **to)
{
    *to = from == NULL ? NULL : strdup(from);
    return (*to == NULL) == (from == NULL);
}

static bool copy_body(const struct godwit_message *from,
                      struct godwit_message *to)
{
    void *body = malloc(from->body_len + 1);

    if (body != NULL && from->body_len > 0) {
        memcpy(body, from->body, from->body_len);
    }
    to->body = body;
    return body != NULL;
}

enum status gather_add(struct gather *g, const struct godwit_message *message)
{
    struct godwit_message copy = *message;
    enum status status = STATUS_OK;

    if (g->count == PUBLISH_COUNT_MAX
        || g->bytes + message->body_len > ATOMIC_LEN_MAX) {
        return STATUS_TOO_LARGE;
    }
    copy.key = copy.tag = copy.id = NULL;
    copy.body = NULL;
    if (!copy_text(message->key, &copy.key)
        || !copy_text(message->tag, &copy.tag)
        || !copy_text(message->id, &copy.id) || !copy_body(message, &copy)) {
        status = STATUS_NOMEM;
    }
    if (status == STATUS_OK) {
        status = make_room(g);
    }
    if (status != STATUS_OK) {
        message_free(&copy);
        return status;
    }
    g->messages[g->count++] = copy;
    g->bytes += message->body_len;
    return STATUS_OK;
}
