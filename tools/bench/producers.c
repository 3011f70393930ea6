#include "tools/bench/producers.h"

#include "tools/godwit/human.h"

#include <stdlib.h>

/* In a confirm's argument beside the time: which of the two are there. */
static struct producers *confirmed_for; /* one measurement a process */

int producers_open(struct producers *p, struct crew *crew,
                   const struct bench_options *o,
                   const struct bench_place *place)
{
    int code = EXIT_OK;

    memset(p, 0, sizeof *p);
    p->o = o;
    p->crew = crew;
    p->topic_count = place->topic_count;
    p->topics = calloc(place->topic_count, sizeof *p->topics);
    p->body = bench_body(o->size);
    if (p->topics == NULL || p->body == NULL) {
        return fail(EXIT_FAILED, "out of memory");
    }
    for (size_t i = 0; i < place->topic_count; i++) {
        (void)bench_name(place, i, p->topics[i]);
    }
    for (uint64_t i = 0; code == EXIT_OK && i < o->producers; i++) {
        code = crew_add(crew, o, (uint32_t)o->window);
    }
    confirmed_for = p;
    return code;
}

void producers_close(struct producers *p)
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
        if (crew_publish(p->crew, index, topic, &message, on_confirm,
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
        crew_push(p->crew, i);
    }
}

bool producers_done(const struct producers *p)
{
    return p->confirmed + p->failed >= p->o->count;
}

int producers_outcome(const struct producers *p)
{
    return p->failed == 0 ? EXIT_OK
                          : fail(EXIT_FAILED, "not all was confirmed: %s",
                                 p->first_failure);
}
