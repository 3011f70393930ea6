#include "tools/godwit/print.h"

#include "proto/utf8.h"
#include "tools/godwit/human.h"
#include "tools/godwit/json.h"

/* Repeated header names are shown as they are: the object may hold one twice. */
static void put_headers(struct json_writer *w,
                        const struct godwit_delivery *delivery)
{
    json_begin(w, "headers", '{');
    for (size_t i = 0; i < delivery->header_count; i++) {
        const struct godwit_text_header *h = &delivery->headers[i];
        char name[256];
        size_t len = h->name_len < sizeof name ? h->name_len : sizeof name - 1;

        memcpy(name, h->name, len);
        name[len] = '\0';
        json_put_text(w, name, slice_of(h->value, h->value_len));
    }
    json_end(w, '}');
}

/* What few messages have. */
static void put_options(struct json_writer *w,
                        const struct godwit_delivery *delivery)
{
    const struct {
        const char *name;
        uint64_t value;
    } times[] = { { "delay_ms", delivery->delay_ms },
                  { "deliver_at_ms", delivery->deliver_at_ms },
                  { "ttl_ms", delivery->ttl_ms } };

    if (delivery->tag_len > 0) {
        json_put_text(w, "tag", slice_of(delivery->tag, delivery->tag_len));
    }
    if (delivery->id_len > 0) {
        json_put_text(w, "id", slice_of(delivery->id, delivery->id_len));
    }
    for (size_t i = 0; i < COUNT_OF(times); i++) {
        if (times[i].value > 0) {
            json_put_number(w, times[i].name, times[i].value);
        }
    }
}

static void put_body(struct json_writer *w, struct slice body)
{
    if (body.len == 0) {
        json_put_text(w, "body", slice_text(""));
    } else if (utf8_valid(body)) {
        json_put_text(w, "body", body);
    } else {
        json_put_base64(w, "body_base64", body);
    }
}

static enum status print_json(struct bytes *to,
                              const struct godwit_delivery *delivery)
{
    struct json_writer w = { .text = *to };
    char time[HUMAN_LEN];

    json_begin(&w, NULL, '{');
    json_put_text(&w, "topic", slice_text(delivery->topic));
    json_put_number(&w, "seq", delivery->seq);
    json_put_number(&w, "attempt", delivery->attempt);
    json_put_text(&w, "time", slice_text(human_time(time, delivery->time_us)));
    if (delivery->key_len > 0) {
        json_put_text(&w, "key", slice_of(delivery->key, delivery->key_len));
    }
    put_options(&w, delivery);
    if (delivery->header_count > 0) {
        put_headers(&w, delivery);
    }
    put_body(&w, slice_of(delivery->body, delivery->body_len));
    json_end(&w, '}');
    *to = w.text; /* the writer borrowed the buffer */
    return w.status != STATUS_OK ? w.status : bytes_append(to, "\n", 1);
}

enum status print_delivery(struct bytes *to,
                           const struct godwit_delivery *delivery, bool json)
{
    enum status status;

    if (json) {
        return print_json(to, delivery);
    }
    status = delivery->body_len == 0
                 ? STATUS_OK
                 : bytes_append(to, delivery->body, delivery->body_len);
    return status != STATUS_OK ? status : bytes_append(to, "\n", 1);
}
