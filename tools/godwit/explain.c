/* godwit explain: where one message stands for each group, and why. */
#include "tools/godwit/commands.h"

#include "proto/name.h"
#include "proto/text.h"
#include "tools/godwit/failures.h"
#include "tools/godwit/human.h"
#include "tools/godwit/message.h"
#include "tools/godwit/session.h"
#include "tools/godwit/table.h"
#include "tools/godwit/when.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_LEN = 512, WORD_LEN = 160 };

static const struct help help = {
    .usage = "godwit explain TOPIC SEQ [options]",
    .text =
        "Says for each group that takes the topic (of those the app may see) "
        "where one\nmessage stands: what holds it, since when, until when, "
        "and what would release\nit; and why its earlier deliveries failed.\n",
    .examples = "  godwit explain orders 1201\n"
                "  godwit explain orders 1201 --group billing\n"
                "  godwit explain orders 1201 --json | jq -r .gate\n",
};

struct options {
    const char *topic;
    const char *group; /* NULL: all that take it */
    uint64_t seq;
    bool json;
};

struct explain {
    const struct options *o;
    struct session session;
    struct json *answers[64]; /* shown in tables, so many at a time */
    size_t count;
    uint64_t shown;
};

/* ---- the message itself ---- */

/* What is not shown (no grant) or not there is said by the groups. */
static void print_message(struct explain *e)
{
    char path[PATH_LEN];
    char *text;
    struct json *message = NULL;
    struct error err;
    char time[HUMAN_LEN];
    char age[AGO_LEN];
    uint64_t time_us;
    char *key;

    snprintf(path, sizeof path, "/v1/topics/%s/messages/%" PRIu64, e->o->topic,
             e->o->seq);
    text = session_fetch(&e->session, path);
    if (text == NULL
        || json_parse(slice_text(text), &message, &err) != STATUS_OK) {
        free(text);
        return;
    }
    time_us = json_number(json_get(message, "time_us"), 0);
    key = message_shown(json_text(json_get(message, "key"), NULL));
    printf("message %" PRIu64 " of %s", e->o->seq, e->o->topic);
    if (time_us > 0) {
        printf(", stored %s (%s)", human_time(time, time_us),
               ago(age, time_us, wall_us()));
    }
    printf("%s%s\n\n", key != NULL ? ", key " : "", key != NULL ? key : "");
    free(key);
    json_free(message);
    free(text);
}

/* ---- the groups ---- */

/* What releases it, with the number that belongs to it. */
static const char *releases(const struct json *answer, char word[WORD_LEN])
{
    const char *text = json_text(json_get(answer, "releases"), "-");
    uint64_t key = json_u64(answer, "key_held_by_seq");
    uint64_t next = json_u64(answer, "next_seq");

    if (key > 0) {
        snprintf(word, WORD_LEN, "%s: %" PRIu64, text, key);
    } else if (next > 0) {
        snprintf(word, WORD_LEN, "%s: %" PRIu64 " is next", text, next);
    } else {
        snprintf(word, WORD_LEN, "%s", text);
    }
    return word;
}

/* "settled: acked or filtered": what it may have been, where it is not known. */
static const char *stands(const struct json *answer, char word[WORD_LEN])
{
    const struct json *may_be = json_get(answer, "may_be");
    size_t len = (size_t)snprintf(word, WORD_LEN, "%.40s",
                                  json_text(json_get(answer, "gate"), "-"));

    for (size_t i = 0; i < json_count(may_be) && len < WORD_LEN; i++) {
        len += (size_t)snprintf(word + len, WORD_LEN - len, "%s%.20s",
                                i == 0 ? ": " : " or ",
                                json_text(json_at(may_be, i), "-"));
    }
    return word;
}

static void add_row(struct table *table, const struct json *answer)
{
    uint64_t now_us = wall_us();
    char text[AGO_LEN];
    char word[WORD_LEN];

    table_add(table, json_text(json_get(answer, "group"), "-"));
    table_add(table, stands(answer, word));
    table_add(table, ago(text, json_u64(answer, "since_us"), now_us));
    table_add(table, ago(text, json_u64(answer, "until_us"), now_us));
    table_add(table, human_count(text, json_u64(answer, "attempts")));
    table_add(table, releases(answer, word));
}

/* Why one that is done does not say how. */
static void print_unknown(const struct explain *e)
{
    bool any = false;

    for (size_t i = 0; i < e->count; i++) {
        any =
            any
            || strcmp(json_text(json_get(e->answers[i], "gate"), ""), "settled")
                   == 0;
    }
    if (any) {
        puts("\nsettled: it is done for this group, and not delivered any "
             "more. Which one of\nthese it was is not known: the log keeps how "
             "many messages were acked, filtered\nor discarded, not which.");
    }
}

static void print_answers(struct explain *e)
{
    static const struct column columns[] = {
        { "GROUP", ALIGN_LEFT },   { "STANDS", ALIGN_LEFT },
        { "SINCE", ALIGN_LEFT },   { "UNTIL", ALIGN_LEFT },
        { "FAILED", ALIGN_RIGHT }, { "RELEASED BY", ALIGN_LEFT }
    };
    struct table *table =
        e->count > 0 ? table_new(columns, COUNT_OF(columns)) : NULL;

    for (size_t i = 0; table != NULL && i < e->count; i++) {
        add_row(table, e->answers[i]);
    }
    if (table != NULL) {
        table_print(table, stdout);
    }
    table_free(table);
    print_unknown(e);
    for (size_t i = 0; i < e->count; i++) {
        const struct json *history = json_get(e->answers[i], "history");

        if (json_count(history) > 0) {
            printf("\n%s\n", json_text(json_get(e->answers[i], "group"), "-"));
            failures_print(history);
        }
        json_free(e->answers[i]);
    }
    e->count = 0;
}

static int ask_group(struct explain *e, const char *group)
{
    struct json *answer = NULL;
    char path[PATH_LEN];
    int code;

    snprintf(path, sizeof path, "/v1/groups/%s/messages/%s/%" PRIu64, group,
             e->o->topic, e->o->seq);
    code = session_call(&e->session, "GET", path, NULL, &answer);
    if (code != EXIT_OK) {
        return code;
    }
    e->shown++;
    if (e->o->json) {
        char *text = json_display(answer);

        puts(text != NULL ? text : "");
        free(text);
        json_free(answer);
        return EXIT_OK;
    }
    e->answers[e->count++] = answer;
    if (e->count == COUNT_OF(e->answers)) {
        print_answers(e);
    }
    return EXIT_OK;
}

static bool takes(const struct json *group, const char *topic)
{
    const struct json *patterns = json_get(group, "topics");

    for (size_t i = 0; i < json_count(patterns); i++) {
        const char *pattern = json_text(json_at(patterns, i), "");

        if (pattern_matches(slice_text(pattern), slice_text(topic))) {
            return true;
        }
    }
    return false;
}

/* Nobody takes it: is there such a topic at all? */
static int say_nobody(struct explain *e)
{
    char path[PATH_LEN];
    int code;

    snprintf(path, sizeof path, "/v1/topics/%s", e->o->topic);
    code = session_call(&e->session, "GET", path, NULL, NULL);
    if (code == EXIT_OK) {
        fprintf(stderr, "no group that this app may see takes topic %s\n",
                e->o->topic);
    }
    return code;
}

static int ask_all(struct explain *e)
{
    struct json *answer = NULL;
    const struct json *groups;
    int code = session_call(&e->session, "GET", "/v1/groups", NULL, &answer);

    groups = json_get(answer, "groups");
    for (size_t i = 0; code == EXIT_OK && i < json_count(groups); i++) {
        const struct json *group = json_at(groups, i);

        if (takes(group, e->o->topic)) {
            code = ask_group(e, json_text(json_get(group, "name"), "-"));
        }
    }
    json_free(answer);
    return code == EXIT_OK && e->shown == 0 ? say_nobody(e) : code;
}

static int run(struct explain *e, struct session_options *so)
{
    int code = session_open_http(&e->session, so);

    if (code != EXIT_OK) {
        return code;
    }
    if (!e->o->json) {
        print_message(e);
    }
    code = e->o->group != NULL ? ask_group(e, e->o->group) : ask_all(e);
    print_answers(e);
    session_close(&e->session);
    return code;
}

int cmd_explain(int argc, char **argv)
{
    struct session_options so;
    struct options o = { 0 };
    const struct arg table[] = {
        { "group", ARG_TEXT, &o.group, "GROUP", "for this group alone", 0, 0 },
        { "json", ARG_FLAG, &o.json, NULL, "one JSON object a group", 0, 0 },
        { NULL, ARG_FLAG, NULL, NULL, NULL, 0, 0 },
    };
    struct explain e = { .o = &o };
    struct parsed parsed;
    int code;

    if (!command_parse(&parsed, &help, table, session_args(&so), 2, 2, argc,
                       argv)) {
        return parsed.code;
    }
    o.topic = parsed.operands.at[0];
    if (!check_name("topic", o.topic)
        || (o.group != NULL && !check_name("group", o.group))) {
        return EXIT_USAGE;
    }
    if (!text_decimal(slice_text(parsed.operands.at[1]), &o.seq)
        || o.seq == 0) {
        return fail(EXIT_USAGE, "\"%s\" is no seq: a number from 1",
                    parsed.operands.at[1]);
    }
    code = session_resolve(&so);
    return code != EXIT_OK ? code : run(&e, &so);
}
