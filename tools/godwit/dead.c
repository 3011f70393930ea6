/* godwit dead: the dead messages of a group. Redriving is in redrive.c. */
#include "tools/godwit/commands.h"

#include "proto/limits.h"
#include "proto/text.h"
#include "tools/godwit/failures.h"
#include "tools/godwit/human.h"
#include "tools/godwit/look.h"
#include "tools/godwit/outlet.h"
#include "tools/godwit/redrive.h"
#include "tools/godwit/table.h"
#include "tools/godwit/when.h"

#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

enum { PATH_LEN = 512, COUNT_DEFAULT = 100, REASON_SHOWN = 60 };

static bool check_names(const char *group, const char *topic)
{
    return check_name("group", group)
           && (topic == NULL || check_name("topic", topic));
}

/* ---- list ---- */

struct list {
    const char *group;
    const char *topic;
    uint64_t count; /* at most */
    bool json;
    struct session session;
    struct table *table;
    uint64_t listed;
    char next[NAME_LEN_MAX + 1]; /* topic to go on with; "": from the first */
    uint64_t next_seq;
    bool more;
};

static void put_path(struct query *q, const struct list *l)
{
    uint64_t left = l->count - l->listed;

    query_path(q, "/v1/groups/%s/dead", l->group);
    if (l->topic != NULL) {
        query_text(q, "topic", l->topic);
    } else if (l->next[0] != '\0') {
        query_text(q, "at", l->next);
    }
    if (l->next_seq > 0) {
        query_number(q, "from", l->next_seq);
    }
    query_number(q, "max", left < PULL_COUNT_MAX ? left : PULL_COUNT_MAX);
}

/* The beginning of a long one; the whole is in JSON, and in `dead show`. */
static void add_reason(struct table *table, const struct json *dead)
{
    char *reason = message_shown(json_text(json_get(dead, "reason"), NULL));
    char cell[REASON_SHOWN + 8];
    size_t len = REASON_SHOWN;

    if (reason == NULL || reason[0] == '\0') {
        table_add(table, NULL);
    } else if (strlen(reason) <= REASON_SHOWN) {
        table_add(table, reason);
    } else {
        while ((reason[len] & 0xc0) == 0x80) { /* whole characters */
            len--;
        }
        snprintf(cell, sizeof cell, "%.*s…", (int)len, reason);
        table_add(table, cell);
    }
    free(reason);
}

static void add_dead(struct table *table, const struct json *dead)
{
    char text[AGO_LEN];

    table_add(table, json_text(json_get(dead, "topic"), "-"));
    table_add(table, json_text(json_get(dead, "seq"), "-"));
    table_add(table,
              human_count(text, json_number(json_get(dead, "attempts"), 0)));
    table_add(table,
              ago(text, json_number(json_get(dead, "died_us"), 0), wall_us()));
    table_add(table, json_text(json_get(dead, "cause"), NULL));
    add_reason(table, dead);
}

static void take(struct list *l, const struct json *answer)
{
    const struct json *dead = json_get(answer, "dead");
    const struct json *next = json_get(answer, "next");

    for (size_t i = 0; i < json_count(dead); i++) {
        if (l->json) {
            char *text = json_display(json_at(dead, i));

            puts(text != NULL ? text : "");
            free(text);
        } else {
            add_dead(l->table, json_at(dead, i));
        }
    }
    l->listed += json_count(dead);
    l->more = next != NULL;
    snprintf(l->next, sizeof l->next, "%s",
             json_text(json_get(next, "topic"), ""));
    l->next_seq = json_number(json_get(next, "seq"), 0);
}

static int list_once(struct list *l)
{
    struct query path = { 0 };
    struct json *answer = NULL;
    int code;

    put_path(&path, l);
    code = session_call(&l->session, "GET", query_done(&path), NULL, &answer);
    if (code == EXIT_OK) {
        take(l, answer);
    }
    json_free(answer);
    query_fini(&path);
    return code;
}

static int list_all(struct list *l)
{
    char text[HUMAN_LEN];
    int code;

    do {
        code = list_once(l);
    } while (code == EXIT_OK && l->more && l->listed < l->count);
    if (code != EXIT_OK) {
        return code;
    }
    if (l->listed == 0) {
        fprintf(stderr, "group %s has no dead messages%s%s\n", l->group,
                l->topic != NULL ? " of topic " : "",
                l->topic != NULL ? l->topic : "");
    } else if (!l->json) {
        table_print(l->table, stdout);
    }
    if (l->more) {
        fprintf(stderr, "there are more than these %s: --count shows more\n",
                human_count(text, l->listed));
    }
    return EXIT_OK;
}

static int dead_list(int argc, char **argv)
{
    static const struct help help = {
        .usage = "godwit dead list GROUP [TOPIC] [options]",
        .text = "Lists the messages that are dead for a group, of all topics "
                "or of one: they\n"
                "failed as often as the group allows, or a subscriber rejected "
                "them. They stay\n"
                "where they are until they are redriven or discarded.\n",
        .examples = "  godwit dead list billing\n"
                    "  godwit dead list billing orders --count 1k "
                    "--json\n",
    };
    static const struct column columns[] = {
        { "TOPIC", ALIGN_LEFT },     { "SEQ", ALIGN_RIGHT },
        { "ATTEMPTS", ALIGN_RIGHT }, { "DIED", ALIGN_LEFT },
        { "CAUSE", ALIGN_LEFT },     { "REASON", ALIGN_LEFT }
    };
    struct session_options so;
    struct list l = { .count = COUNT_DEFAULT };
    const struct arg table[] = {
        { "count", ARG_COUNT, &l.count, "N", "so many at most; default 100", 1,
          UINT64_MAX },
        { "json", ARG_FLAG, &l.json, NULL, "one JSON object a line", 0, 0 },
        { NULL, ARG_FLAG, NULL, NULL, NULL, 0, 0 },
    };
    struct parsed parsed;
    int code;

    if (!command_parse(&parsed, &help, table, session_args(&so), 1, 2, argc,
                       argv)) {
        return parsed.code;
    }
    l.group = parsed.operands.at[0];
    l.topic = parsed.operands.count > 1 ? parsed.operands.at[1] : NULL;
    if (!check_names(l.group, l.topic)) {
        return EXIT_USAGE;
    }
    l.table = table_new(columns, COUNT_OF(columns));
    if (l.table == NULL) {
        return fail(EXIT_FAILED, "out of memory");
    }
    code = session_resolve(&so);
    if (code == EXIT_OK) {
        code = session_open_http(&l.session, &so);
    }
    if (code == EXIT_OK) {
        code = list_all(&l);
    }
    table_free(l.table);
    session_close(&l.session);
    return code;
}

/* ---- show ---- */

struct show {
    const char *group;
    const char *topic;
    uint64_t seq;
    struct session session;
};

static int show_message(struct show *s)
{
    struct json *message = NULL;
    struct outlet outlet = { 0 };
    enum status status = STATUS_OK;
    char path[PATH_LEN];
    int code;

    snprintf(path, sizeof path, "/v1/topics/%s/messages/%" PRIu64, s->topic,
             s->seq);
    code = session_call(&s->session, "GET", path, NULL, &message);
    if (code == EXIT_OK) {
        status = message_card(&outlet.text, message, wall_us());
    }
    if (code == EXIT_OK && status == STATUS_OK) {
        status = outlet_write(&outlet, STDOUT_FILENO);
    }
    outlet_fini(&outlet);
    json_free(message);
    return status == STATUS_OK ? code : look_print_failed(status);
}

static int show_standing(struct show *s)
{
    struct json *answer = NULL;
    char path[PATH_LEN];
    int code;

    snprintf(path, sizeof path, "/v1/groups/%s/messages/%s/%" PRIu64, s->group,
             s->topic, s->seq);
    code = session_call(&s->session, "GET", path, NULL, &answer);
    if (code == EXIT_OK) {
        const char *gate = json_text(json_get(answer, "gate"), "-");

        printf("%s%s for group %s\n",
               strcmp(gate, "dead") == 0 ? "" : "not dead: ", gate, s->group);
        if (json_count(json_get(answer, "history")) > 0) {
            putchar('\n');
            failures_print(json_get(answer, "history"));
        }
        putchar('\n');
        fflush(stdout);
    }
    json_free(answer);
    return code;
}

static int dead_show(int argc, char **argv)
{
    static const struct help help = {
        .usage = "godwit dead show GROUP TOPIC SEQ [options]",
        .text = "Shows a dead message: why each of its deliveries failed, and "
                "what is in it.\n",
        .examples = "  godwit dead show billing orders 1201\n",
    };
    struct session_options so;
    struct show s = { 0 };
    struct parsed parsed;
    int code;

    if (!command_parse(&parsed, &help, NULL, session_args(&so), 3, 3, argc,
                       argv)) {
        return parsed.code;
    }
    s.group = parsed.operands.at[0];
    s.topic = parsed.operands.at[1];
    if (!check_names(s.group, s.topic)) {
        return EXIT_USAGE;
    }
    if (!text_decimal(slice_text(parsed.operands.at[2]), &s.seq)
        || s.seq == 0) {
        return fail(EXIT_USAGE, "\"%s\" is no seq: a number from 1",
                    parsed.operands.at[2]);
    }
    code = session_resolve(&so);
    if (code == EXIT_OK) {
        code = session_open_http(&s.session, &so);
    }
    if (code == EXIT_OK) {
        code = show_standing(&s);
    }
    if (code == EXIT_OK) {
        code = show_message(&s);
    }
    session_close(&s.session);
    return code;
}

/* ---- discard ---- */

static int discard(const char *group, const char *topic, const char *seqs,
                   struct session_options *so)
{
    struct session session = { 0 };
    struct json_writer w = { 0 };
    struct json *answer = NULL;
    char text[HUMAN_LEN];
    char path[PATH_LEN];
    int code;

    json_begin(&w, NULL, '{');
    json_put_text(&w, "topic", slice_text(topic));
    if (seqs != NULL && !failures_put_seqs(&w, "seqs", seqs)) {
        json_writer_fini(&w);
        return EXIT_USAGE;
    }
    json_end(&w, '}');
    snprintf(path, sizeof path, "/v1/groups/%s/discard", group);
    code = session_resolve(so);
    if (code == EXIT_OK) {
        code = session_open_http(&session, so);
    }
    if (code == EXIT_OK) {
        code = session_call(&session, "POST", path, json_done(&w), &answer);
    }
    if (code == EXIT_OK) {
        uint64_t count = json_number(json_get(answer, "discarded"), 0);

        fprintf(stderr, "%s dead %s discarded\n", human_count(text, count),
                plural(count, "message", "messages"));
    }
    json_free(answer);
    json_writer_fini(&w);
    session_close(&session);
    return code;
}

static int dead_discard(int argc, char **argv)
{
    static const struct help help = {
        .usage = "godwit dead discard GROUP TOPIC (--seqs SEQS | --all) "
                 "[options]",
        .text = "Gives dead messages up: for this group they are done, for "
                "good and without\nasking.\n",
        .examples = "  godwit dead discard billing orders --seqs 17,20-25\n"
                    "  godwit dead discard billing orders --all\n",
    };
    struct session_options so;
    const char *seqs = NULL;
    bool all = false;
    const struct arg table[] = {
        { "seqs", ARG_TEXT, &seqs, "SEQS",
          "these, such as 17,20-25; those that are not dead are left alone", 0,
          0 },
        { "all", ARG_FLAG, &all, NULL, "all dead ones of the topic", 0, 0 },
        { NULL, ARG_FLAG, NULL, NULL, NULL, 0, 0 },
    };
    struct parsed parsed;

    if (!command_parse(&parsed, &help, table, session_args(&so), 2, 2, argc,
                       argv)) {
        return parsed.code;
    }
    if (!check_names(parsed.operands.at[0], parsed.operands.at[1])) {
        return EXIT_USAGE;
    }
    if ((seqs != NULL) == all) {
        return fail(EXIT_USAGE, "which ones? --seqs 17,20-25 or --all");
    }
    return discard(parsed.operands.at[0], parsed.operands.at[1], seqs, &so);
}

int cmd_dead(int argc, char **argv)
{
    static const struct command commands[] = {
        { "list", "the dead messages of a group, and why", dead_list },
        { "show", "one of them, with all its failures", dead_show },
        { "redrive", "deliver them again, all or those that match",
          redrive_start },
        { "status", "how far the last redrive is", redrive_status },
        { "stop", "end a redrive that runs", redrive_stop },
        { "undo", "take back what the last redrive did", redrive_undo },
        { "discard", "give them up for good", dead_discard },
        { NULL, NULL, NULL },
    };

    return command_dispatch(commands, "godwit dead",
                            "A message that fails as often as its group "
                            "allows is dead for that group: it is\nnot "
                            "delivered any more and stays where it is, with "
                            "the reasons of its failures.\n",
                            NULL, argc, argv);
}
