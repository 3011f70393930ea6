/* Publish an order: its lines together or not at all, and a reminder that comes
 * later. Each message has an id, so running it again for the same order changes
 * nothing.
 *
 *   GODWIT_APP=admin GODWIT_SECRET=... ./order orders A-17
 *
 * The URL is GODWIT_URL, or ws://127.0.0.1:7654. */
#include <godwit.h>

#include <stdio.h>
#include <stdlib.h>

enum { LINES = 2, PATIENCE_MS = 10000, REMINDER_MS = 60 * 60 * 1000 };

static int refused; /* the client's thread's, until godwit_flush() is back */

static void on_confirm(void *arg, const struct godwit_confirm *confirm)
{
    const char *what = arg;

    if (confirm->status != GODWIT_OK) {
        printf("%s %zu was not stored: %s\n", what, confirm->index,
               confirm->text);
        refused++;
    } else if (confirm->duplicate) {
        printf("%s %zu was stored before\n", what, confirm->index);
    } else {
        printf("%s %zu is stored as number %llu\n", what, confirm->index,
               (unsigned long long)confirm->seq);
    }
}

/* The order's number is its key: a group that keeps the order of keys works on
 * one order at one place at a time. */
static enum godwit_status publish_order(struct godwit *client,
                                        const char *topic, const char *number)
{
    static char ids[LINES][64];
    struct godwit_message lines[LINES] = {
        { .key = number, .tag = "line", .body = "2 pens", .body_len = 6 },
        { .key = number, .tag = "line", .body = "1 inkpot", .body_len = 8 },
    };

    for (int i = 0; i < LINES; i++) {
        snprintf(ids[i], sizeof ids[i], "%.40s/%d", number, i);
        lines[i].id = ids[i];
    }
    return godwit_publish_atomic(client, topic, lines, LINES, on_confirm,
                                 "line");
}

/* In an hour, and of no use a day later. */
static enum godwit_status
publish_reminder(struct godwit *client, const char *topic, const char *number)
{
    char id[64];
    struct godwit_message reminder = { .key = number,
                                       .tag = "reminder",
                                       .id = id,
                                       .delay_ms = REMINDER_MS,
                                       .ttl_ms = 24 * REMINDER_MS,
                                       .body = "is it packed?",
                                       .body_len = 13 };

    snprintf(id, sizeof id, "%.40s/reminder", number);
    return godwit_publish(client, topic, &reminder, on_confirm, "reminder");
}

int main(int argc, char **argv)
{
    const char *url = getenv("GODWIT_URL");
    const char *why = "";
    char text[512];
    struct godwit_options options;
    struct godwit *client;
    enum godwit_status status;

    if (argc != 3) {
        fprintf(stderr, "usage: %s TOPIC ORDER\n", argv[0]);
        return 2;
    }
    godwit_options_init(&options);
    options.url = url != NULL ? url : "ws://127.0.0.1:7654";
    options.app = getenv("GODWIT_APP");
    options.secret = getenv("GODWIT_SECRET");
    if (godwit_open(&client, &options, &why) != GODWIT_OK) {
        fprintf(stderr, "cannot begin: %s\n", why);
        return 2;
    }
    status = publish_order(client, argv[1], argv[2]);
    if (status == GODWIT_OK) {
        status = publish_reminder(client, argv[1], argv[2]);
    }
    if (status == GODWIT_OK) {
        status = godwit_flush(client, PATIENCE_MS);
    }
    if (status != GODWIT_OK) {
        godwit_last_error(client, text, sizeof text);
        fprintf(stderr, "%s: %s\n", godwit_status_text(status), text);
    }
    godwit_close(client);
    return status == GODWIT_OK && refused == 0 ? 0 : 1;
}
