#include "tools/godwit/resource.h"

#include "proto/limits.h"
#include "proto/name.h"
#include "tools/godwit/human.h"

#include <stdlib.h>

enum { PATH_LEN = 256, COLUMN_MAX = 16 };

/* One request with the options of the command line. */
static int call(struct session_options *so, const char *method,
                const char *path, const char *body, struct json **answer)
{
    struct session session = { 0 };
    int code = session_resolve(so);

    if (code == EXIT_OK) {
        code = session_open_http(&session, so);
    }
    if (code == EXIT_OK) {
        code = session_call(&session, method, path, body, answer);
    }
    session_close(&session);
    return code;
}

int resource_post(const struct resource *r, struct session_options *so,
                  const char *body, struct json **answer)
{
    return body == NULL ? fail(EXIT_FAILED, "out of memory")
                        : call(so, "POST", r->path, body, answer);
}

static void add_cell(struct table *table, const struct resource_column *column,
                     const struct json *item)
{
    const struct json *value = json_get(item, column->field);
    uint64_t number = json_number(value, UINT64_MAX);
    char text[HUMAN_LEN];
    char *shown;

    if (column->as == AS_TEXT || number == UINT64_MAX) {
        shown = json_display(value);
        table_add(table, shown);
        free(shown);
    } else if (column->as == AS_COUNT) {
        table_add(table, human_count(text, number));
    } else {
        table_add(table, human_duration(text, number * 1000000));
    }
}

static int print_list(const struct resource *r, const struct json *list)
{
    struct column columns[COLUMN_MAX];
    struct table *table;

    if (json_count(list) == 0) {
        fprintf(stderr, "no %ss\n", r->word);
        return EXIT_OK;
    }
    for (size_t c = 0; c < r->column_count; c++) {
        columns[c] = r->columns[c].shown;
    }
    table = table_new(columns, r->column_count);
    if (table == NULL) {
        return fail(EXIT_FAILED, "out of memory");
    }
    for (size_t i = 0; i < json_count(list); i++) {
        for (size_t c = 0; c < r->column_count; c++) {
            add_cell(table, &r->columns[c], json_at(list, i));
        }
    }
    table_print(table, stdout);
    table_free(table);
    return EXIT_OK;
}

static int print_document(const struct json *answer)
{
    char *text = json_display(answer);

    if (text != NULL) {
        puts(text);
    }
    free(text);
    return EXIT_OK;
}

int resource_list(const struct resource *r, int argc, char **argv)
{
    struct session_options so;
    bool json = false;
    char usage[64];
    char text[96];
    const struct arg table[] = {
        { "json", ARG_FLAG, &json, NULL, "the broker's answer as JSON", 0, 0 },
        { NULL, ARG_FLAG, NULL, NULL, NULL, 0, 0 },
    };
    const struct help help = { usage, text, NULL };
    struct parsed parsed;
    struct json *answer = NULL;
    int code;

    snprintf(usage, sizeof usage, "godwit %s list [options]", r->word);
    snprintf(text, sizeof text, "Shows all %ss as a table.\n", r->word);
    if (!command_parse(&parsed, &help, table, session_args(&so), 0, 0, argc,
                       argv)) {
        return parsed.code;
    }
    code = call(&so, "GET", r->path, NULL, &answer);
    if (code == EXIT_OK) {
        code = json ? print_document(answer)
                    : print_list(r, json_get(answer, r->field));
    }
    json_free(answer);
    return code;
}

/* Names to the left, values behind them; lists of objects one a line. */
static void print_members(const struct json *object, int indent)
{
    const struct json *value;
    const char *name;

    for (size_t i = 0; (name = json_member(object, i, &value)) != NULL; i++) {
        const struct json *first = json_at(value, 0);
        const struct json *unused;

        if (json_member(first, 0, &unused) != NULL) {
            for (size_t k = 0; k < json_count(value); k++) {
                printf("%*s%s\n", indent, "", name);
                print_members(json_at(value, k), indent + 2);
            }
        } else if (json_member(value, 0, &unused) != NULL) {
            printf("%*s%s\n", indent, "", name);
            print_members(value, indent + 2);
        } else {
            char *text = json_display(value);

            printf("%*s%-*s %s\n", indent, "", 18 - indent, name,
                   text != NULL && text[0] != '\0' ? text : "-");
            free(text);
        }
    }
}

static bool name_path(const struct resource *r, const char *name,
                      char path[PATH_LEN])
{
    snprintf(path, PATH_LEN, "%s/%s", r->path, name);
    return check_name(r->word, name);
}

int resource_show(const struct resource *r, int argc, char **argv)
{
    struct session_options so;
    bool json = false;
    char usage[64];
    char text[96];
    char path[PATH_LEN];
    const struct arg table[] = {
        { "json", ARG_FLAG, &json, NULL, "the broker's answer as JSON", 0, 0 },
        { NULL, ARG_FLAG, NULL, NULL, NULL, 0, 0 },
    };
    const struct help help = { usage, text, NULL };
    struct parsed parsed;
    struct json *answer = NULL;
    int code;

    snprintf(usage, sizeof usage, "godwit %s show NAME [options]", r->word);
    snprintf(text, sizeof text, "Shows what the broker knows about one %s.\n",
             r->word);
    if (!command_parse(&parsed, &help, table, session_args(&so), 1, 1, argc,
                       argv)) {
        return parsed.code;
    }
    if (!name_path(r, parsed.operands.at[0], path)) {
        return EXIT_USAGE;
    }
    code = call(&so, "GET", path, NULL, &answer);
    if (code == EXIT_OK && json) {
        code = print_document(answer);
    } else if (code == EXIT_OK) {
        print_members(answer, 0);
    }
    json_free(answer);
    return code;
}

int resource_delete(const struct resource *r, int argc, char **argv)
{
    struct session_options so;
    char usage[64];
    char text[128];
    char path[PATH_LEN];
    const struct help help = { usage, text, NULL };
    struct parsed parsed;
    int code;

    snprintf(usage, sizeof usage, "godwit %s delete NAME [options]", r->word);
    snprintf(text, sizeof text,
             "Deletes one %s at once, without asking. It does not come back.\n",
             r->word);
    if (!command_parse(&parsed, &help, NULL, session_args(&so), 1, 1, argc,
                       argv)) {
        return parsed.code;
    }
    if (!name_path(r, parsed.operands.at[0], path)) {
        return EXIT_USAGE;
    }
    code = call(&so, "DELETE", path, NULL, NULL);
    if (code == EXIT_OK) {
        fprintf(stderr, "%s %s deleted\n", r->word, parsed.operands.at[0]);
    }
    return code;
}

bool check_patterns(const char *option, const char *list)
{
    if (list[0] == '\0') {
        fail(EXIT_USAGE, "--%s is empty", option);
        return false;
    }
    while (list != NULL) {
        size_t len = strcspn(list, ",");

        if (!pattern_valid(slice_of(list, len))) {
            fail(EXIT_USAGE,
                 "--%s: \"%.*s\" is no pattern: 1 to %d of A-Z a-z 0-9 . _ - *",
                 option, (int)len, list, PATTERN_LEN_MAX);
            return false;
        }
        list = list[len] == ',' ? list + len + 1 : NULL;
    }
    return true;
}
