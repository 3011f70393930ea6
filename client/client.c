#include "client/godwit.h"

const char *godwit_status_text(enum godwit_status status)
{
    return NULL;
}

const char *godwit_version(void)
{
    return NULL;
}

void godwit_options_init(struct godwit_options *options)
{
    return;
}

enum godwit_status godwit_open(struct godwit **out,
                               const struct godwit_options *options,
                               const char **error_text)
{
    return GODWIT_UNSUPPORTED;
}

enum godwit_status godwit_wait_connected(struct godwit *client,
                                         uint32_t timeout_ms)
{
    return GODWIT_UNSUPPORTED;
}

void godwit_last_error(struct godwit *client, char *text, size_t len)
{
    return;
}

enum godwit_status godwit_flush(struct godwit *client, uint32_t timeout_ms)
{
    return GODWIT_UNSUPPORTED;
}

void godwit_close(struct godwit *client)
{
    return;
}

enum godwit_status godwit_publish(struct godwit *client, const char *topic,
                                  const struct godwit_message *message,
                                  godwit_confirm_fn done, void *arg)
{
    return GODWIT_UNSUPPORTED;
}

enum godwit_status godwit_publish_wait(struct godwit *client, const char *topic,
                                       const struct godwit_message *message,
                                       struct godwit_confirm *confirm,
                                       uint32_t timeout_ms)
{
    return GODWIT_UNSUPPORTED;
}

enum godwit_status godwit_subscribe(struct godwit *client,
                                    const struct godwit_subscription *sub)
{
    return GODWIT_UNSUPPORTED;
}

enum godwit_status godwit_unsubscribe(struct godwit *client)
{
    return GODWIT_UNSUPPORTED;
}

enum godwit_status godwit_settle(struct godwit *client,
                                 enum godwit_action action, const char *topic,
                                 uint64_t first, uint64_t last,
                                 uint64_t delay_ms, const char *reason)
{
    return GODWIT_UNSUPPORTED;
}

enum godwit_status godwit_pull(struct godwit *client, const char *group,
                               uint32_t max, uint32_t wait_ms,
                               struct godwit_batch **out)
{
    return GODWIT_UNSUPPORTED;
}

size_t godwit_batch_count(const struct godwit_batch *batch)
{
    return 0;
}

const struct godwit_delivery *godwit_batch_at(const struct godwit_batch *batch,
                                              size_t index)
{
    return NULL;
}

enum godwit_status godwit_batch_settle(struct godwit *client,
                                       struct godwit_batch *batch,
                                       enum godwit_action action,
                                       const char *topic, uint64_t first,
                                       uint64_t last, uint64_t delay_ms,
                                       uint64_t *accepted)
{
    return GODWIT_UNSUPPORTED;
}

enum godwit_status godwit_batch_ack(struct godwit *client,
                                    struct godwit_batch *batch,
                                    uint64_t *accepted)
{
    return GODWIT_UNSUPPORTED;
}

void godwit_batch_free(struct godwit_batch *batch)
{
    return;
}

enum godwit_status godwit_call(struct godwit *client, const char *method,
                               const char *path, const char *body,
                               struct godwit_response *out, uint32_t timeout_ms)
{
    return GODWIT_UNSUPPORTED;
}

void godwit_response_fini(struct godwit_response *response)
{
    return;
}

void godwit_interest(struct godwit *client, struct godwit_interest *out)
{
    return;
}

enum godwit_status godwit_step(struct godwit *client)
{
    return GODWIT_UNSUPPORTED;
}

void godwit_figures(struct godwit *client, struct godwit_figures *out)
{
    return;
}
