#include "tools/godwit/gather.h"

#include "proto/limits.h"

#include <stdlib.h>

static void message_free(struct godwit_message *m)
{
    free((void *)m->key);
    free((void *)m->tag);
    free((void *)m->id);
    free((void *)m->body);
    for (size_t i = 0; m->headers != NULL && i < m->header_count; i++) {
        free((void *)m->headers[i].value);
    }
    free((void *)m->headers);
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

/* Their values; the names live as long as the program. */
static bool copy_headers(const struct godwit_message *from,
                         struct godwit_message *to)
{
    struct godwit_header *headers =
        calloc(from->header_count + 1, sizeof *headers);

    to->headers = headers;
    for (size_t i = 0; headers != NULL && i < from->header_count; i++) {
        headers[i].name = from->headers[i].name;
        if (!copy_text(from->headers[i].value, &headers[i].value)) {
            return false;
        }
    }
    return headers != NULL;
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
    copy.headers = NULL;
    if (!copy_text(message->key, &copy.key)
        || !copy_text(message->tag, &copy.tag)
        || !copy_text(message->id, &copy.id) || !copy_body(message, &copy)
        || !copy_headers(message, &copy)) {
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
