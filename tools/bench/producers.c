#include "tools/bench/producers.h"

#include "tools/bench/body.h"

#include "tools/godwit/human.h"

#include <stdlib.h>

/* In a confirm's argument beside the time: which of the two are there. */
static struct producers *confirmed_for; /* one measurement a process */

static int open_producers(struct producers *p, struct clients *clients,
                          const struct bench_options *o,
                          const struct bench_setup *setup)
{
    int code = EXIT_OK;

    memset(p, 0, sizeof *p);
    p->o = o;
    p->clients = clients;
    p->topic_count = setup->topic_count;
    p->topics = calloc(setup->topic_count, sizeof *p->topics);
    p->body = body_new(o->size);
    if (p->topics == NULL || p->body == NULL) {
        return fail(EXIT_FAILED, "out of memory");
    }
    for (size_t i = 0; i < setup->topic_count; i++) {
        (void)bench_name(setup, i, p->topics[i]);
    }
    for (uint64_t i = 0; code == EXIT_OK && i < o->producers; i++) {
        code = clients_add(clients, o, (uint32_t)o->window);
    }
    confirmed_for = p;
    return code;
}

static void close_producers(struct producers *p)
{
    free(p->topics);
    free(p->body);
    p->topics = NULL;
    p->body = NULL;
}

/* The argument is the time of the call; NULL: it is not one that is timed. */
static void on_confirm(void *arg, const struct godwit_confirm *confirm)
{
    struct producers *p = confirmed_for;

    if (confirm->status == GODWIT_OK) {
        p->confirmed++;
        if (arg != NULL) {
            histogram_add(&p->confirm_ns, now_ns() - time_of_arg(arg));
        }
        return;
    }
    if (p->failed == 0) {
        snprintf(p->first_failure, sizeof p->first_failure, "%s",
                 confirm->text != NULL && confirm->text[0] != '\0'
                     ? confirm->text
                     : godwit_status_text(confirm->status));
    }
    p->failed++;
}

/* Publish until this one's window is full. */
static void fill_window(struct producers *p, size_t index)
{
    const struct godwit_message message = { .body = p->body,
                                            .body_len = p->o->size };
    const char *topic = p->topics[index % p->topic_count];

    while (p->sent < p->o->count) {
        uint64_t ns = bench_timed(p->o, p->sent) ? now_ns() : 0;

        body_set_time(p->body, ns);
        if (clients_publish(p->clients, index, topic, &message, on_confirm,
                            time_as_arg(ns))
            != GODWIT_OK) {
            return;
        }
        p->sent++;
    }
}

void producers_push(struct producers *p)
{
    for (size_t i = 0; i < p->o->producers; i++) {
        fill_window(p, i);
        clients_push(p->clients, i);
    }
}

bool producers_done(const struct producers *p)
{
    return p->confirmed + p->failed >= p->o->count;
}

static int outcome(const struct producers *p)
{
    return p->failed == 0 ? EXIT_OK
                          : fail(EXIT_FAILED, "not all was confirmed: %s",
                                 p->first_failure);
}

int producers_run(struct producers *p, const struct bench_options *o,
                  struct bench_setup *setup, size_t more, producers_fn run)
{
    struct clients *clients = clients_new(o->producers + more);
    int code = clients != NULL ? open_producers(p, clients, o, setup)
                               : fail(EXIT_FAILED, "out of memory");

    if (code == EXIT_OK) {
        code = run(clients, o, setup);
    }
    if (code == EXIT_OK) {
        code = outcome(p);
    }
    clients_free(clients);
    close_producers(p);
    return code;
}

int producers_measure(struct producers *p, struct bench_options *o,
                      size_t topic_count, size_t group_count, size_t more,
                      producers_fn run)
{
    struct bench_setup setup;
    int code = bench_setup_open(&setup, o, topic_count, group_count);

    if (code == EXIT_OK) {
        code = producers_run(p, o, &setup, more, run);
        bench_setup_close(&setup);
    }
    return code;
}
