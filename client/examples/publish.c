/* Publish a few messages and see each one confirmed: on the broker's disk.
 *
 *   GODWIT_APP=admin GODWIT_SECRET=... ./publish orders
 *
 * The URL is GODWIT_URL, or ws://127.0.0.1:7654. */
#include <godwit.h>

#include <stdio.h>
#include <stdlib.h>

enum { MESSAGES = 10, PATIENCE_MS = 10000 };

/* Runs on the client's thread: be quick, do not wait in it. */
static void on_confirm(void *arg, const struct godwit_confirm *confirm)
{
    const char *what = arg;

    if (confirm->status == GODWIT_OK) {
        printf("%s is stored as number %llu%s\n", what,
               (unsigned long long)confirm->seq,
               confirm->duplicate ? " (an earlier sending had arrived)" : "");
    } else {
        printf("%s was not stored: %s: %s\n", what,
               godwit_status_text(confirm->status), confirm->text);
    }
}

int main(int argc, char **argv)
{
    static char bodies[MESSAGES][32];
    const char *url = getenv("GODWIT_URL");
    const char *why = "";
    char text[512];
    struct godwit_options options;
    struct godwit *client;
    enum godwit_status status;

    if (argc != 2) {
        fprintf(stderr, "usage: %s TOPIC\n", argv[0]);
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

    /* No need to wait for the connection: what is published before it stands
     * is sent as soon as it does, and again if it breaks. */
    for (int i = 0; i < MESSAGES; i++) {
        struct godwit_header header = { "example", "publish" };
        struct godwit_message message = { .key = i % 2 == 0 ? "even" : "odd",
                                          .headers = &header,
                                          .header_count = 1,
                                          .body = bodies[i] };
        message.body_len =
            (size_t)snprintf(bodies[i], sizeof bodies[i], "message %d", i);
        status =
            godwit_publish(client, argv[1], &message, on_confirm, bodies[i]);
        if (status != GODWIT_OK) { /* then on_confirm will not be called */
            fprintf(stderr, "refused: %s\n", godwit_status_text(status));
        }
    }

    status = godwit_flush(client, PATIENCE_MS);
    if (status != GODWIT_OK) {
        godwit_last_error(client, text, sizeof text);
        fprintf(stderr, "not all confirmed: %s: %s\n",
                godwit_status_text(status), text);
    }
    godwit_close(client);
    return status == GODWIT_OK ? 0 : 1;
}
