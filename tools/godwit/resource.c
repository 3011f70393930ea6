#include "tools/godwit/resource.h"

#include "proto/limits.h"
#include "proto/name.h"
#include "tools/godwit/human.h"

#include <stdlib.h>

enum { PATH_LEN = 256, COLUMN_MAX = 16, LABEL_WIDTH = 14 };

static int open_session(struct session *session, struct session_options *so)
{
    int code = session_resolve(so);

    return code != EXIT_OK ? code : session_open_http(session, so);
}

/* One request with the options of the command line. */
static int call(struct session_options *so, const char *method,
                const char *path, const char *body, struct json **answer)
{
    struct session session = { 0 };
    int code = open_session(&session, so);

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

static int change(const struct resource *r, const char *method,
                  struct session_options *so, const char *name,
                  const char *body)
{
    char path[PATH_LEN];

    snprintf(path, sizeof path, "%s/%s", r->path, name);
    return body == NULL ? fail(EXIT_FAILED, "out of memory")
                        : call(so, method, path, body, NULL);
}

int resource_put(const struct resource *r, struct session_options *so,
                 const char *name, const char *body)
{
    return change(r, "PUT", so, name, body);
}

int resource_patch(const struct resource *r, struct session_options *so,
                   const char *name, const char *body)
{
    return change(r, "PATCH", so, name, body);
}

/* "settled", "settled, 1 h at least", "limit 7 d, 10.0 GiB". */
static void add_retention(struct table *table, const struct json *item)
{
    uint64_t min = json_number(json_get(item, "keep_ms_min"), 0);
    uint64_t max = json_number(json_get(item, "keep_ms_max"), 0);
    uint64_t bytes = json_number(json_get(item, "keep_bytes_max"), 0);
    uint64_t count = json_number(json_get(item, "keep_count_max"), 0);
    char one[HUMAN_LEN];
    char text[5 * HUMAN_LEN];
    size_t len = (size_t)snprintf(text, sizeof text, "%.16s",
                                  json_text(json_get(item, "keep"), "-"));

    if (min > 0) {
        snprintf(text + len, sizeof text - len, ", %s at least",
                 human_age(one, min));
    }
    if (max > 0) {
        len += (size_t)snprintf(text + len, sizeof text - len, ", %s",
                                human_age(one, max));
    }
    if (bytes > 0) {
        len += (size_t)snprintf(text + len, sizeof text - len, ", %s",
                                human_bytes(one, (double)bytes));
    }
    if (count > 0) {
        snprintf(text + len, sizeof text - len, ", %s messages",
                 human_count(one, count));
    }
    table_add(table, text);
}

static void add_sum(struct table *table, const char *field,
                    const struct json *detail)
{
    const struct json *lanes = json_get(detail, "lanes");
    char text[HUMAN_LEN];
    uint64_t sum = 0;

    for (size_t i = 0; i < json_count(lanes); i++) {
        sum += json_number(json_get(json_at(lanes, i), field), 0);
    }
    table_add(table, detail != NULL ? human_count(text, sum) : NULL);
}

static void add_cell(struct table *table, const struct resource_column *column,
                     const struct json *item, const struct json *detail)
{
    const struct json *value = json_get(item, column->field);
    uint64_t number = json_number(value, UINT64_MAX);
    char text[HUMAN_LEN];
    char *shown;

    if (column->as == AS_LANES) {
        add_sum(table, column->field, detail);
    } else if (column->as == AS_HELD) {
        value = json_get(json_get(detail, column->field), "gate");
        table_add(table, json_text(value, NULL));
    } else if (column->as == AS_RETENTION) {
        add_retention(table, item);
    } else if (column->as == AS_TEXT || number == UINT64_MAX) {
        shown = json_display(value);
        table_add(table, shown);
        free(shown);
    } else if (column->as == AS_COUNT) {
        table_add(table, human_count(text, number));
    } else {
        table_add(table, human_ms(text, number));
    }
}

static bool wants_detail(const struct resource *r)
{
    for (size_t c = 0; c < r->column_count; c++) {
        if (r->columns[c].as == AS_LANES || r->columns[c].as == AS_HELD) {
            return true;
        }
    }
    return false;
}

/* One line of the list. What has been deleted meanwhile has no details. */
static int add_item(struct table *table, const struct resource *r,
                    struct session *s, const struct json *item)
{
    struct json *detail = NULL;
    char path[PATH_LEN];
    int code = EXIT_OK;

    if (wants_detail(r)) {
        snprintf(path, sizeof path, "%s/%s", r->path,
                 json_text(json_get(item, "name"), "-"));
        code = session_call(s, "GET", path, NULL, &detail);
    }
    for (size_t c = 0; c < r->column_count; c++) {
        add_cell(table, &r->columns[c], item, detail);
    }
    json_free(detail);
    return code == EXIT_NOT_FOUND ? EXIT_OK : code;
}

static int print_list(const struct resource *r, struct session *s,
                      const struct json *list)
{
    struct column columns[COLUMN_MAX];
    struct table *table;
    int code = EXIT_OK;

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
    for (size_t i = 0; code == EXIT_OK && i < json_count(list); i++) {
        code = add_item(table, r, s, json_at(list, i));
    }
    if (code == EXIT_OK) {
        table_print(table, stdout);
    }
    table_free(table);
    return code;
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
    struct session session = { 0 };
    struct parsed parsed;
    struct json *answer = NULL;
    int code;

    snprintf(usage, sizeof usage, "godwit %s list [options]", r->word);
    snprintf(text, sizeof text, "Shows all %ss as a table.\n", r->word);
    if (!command_parse(&parsed, &help, table, session_args(&so), 0, 0, argc,
                       argv)) {
        return parsed.code;
    }
    code = open_session(&session, &so);
    if (code == EXIT_OK) {
        code = session_call(&session, "GET", r->path, NULL, &answer);
    }
    if (code == EXIT_OK) {
        code = json ? print_document(answer)
                    : print_list(r, &session, json_get(answer, r->field));
    }
    json_free(answer);
    session_close(&session);
    return code;
}

static bool ends_with(const char *name, const char *end)
{
    size_t len = strlen(name);
    size_t end_len = strlen(end);

    return len > end_len && strcmp(name + len - end_len, end) == 0;
}

/* "0.5 s, 5 s, 2 min"; NULL: it is no list of numbers. */
static char *readable_times(const struct json *list)
{
    char text[512] = "";
    size_t len = 0;

    for (size_t i = 0; i < json_count(list); i++) {
        uint64_t ms = json_number(json_at(list, i), UINT64_MAX);
        char one[HUMAN_LEN];

        if (ms == UINT64_MAX || len >= sizeof text) {
            return NULL;
        }
        len += (size_t)snprintf(text + len, sizeof text - len, "%s%s",
                                i == 0 ? "" : ", ", human_age(one, ms));
    }
    return len > 0 ? strdup(text) : NULL;
}

/* "paused since 2026-..., until resuming the group"; NULL: it is no such. */
static char *readable_standing(const struct json *held)
{
    const char *gate = json_text(json_get(held, "gate"), NULL);
    uint64_t since = json_number(json_get(held, "since_us"), 0);
    uint64_t until = json_number(json_get(held, "until_us"), 0);
    char since_text[HUMAN_LEN] = "";
    char until_text[HUMAN_LEN] = "";
    char text[512];

    if (gate == NULL) {
        return NULL;
    }
    snprintf(text, sizeof text, "%s%s%s; released by %s%s%s", gate,
             since > 0 ? " since " : "",
             since > 0 ? human_time(since_text, since) : "",
             json_text(json_get(held, "releases"), "-"),
             until > 0 ? " at " : "",
             until > 0 ? human_time(until_text, until) : "");
    return strdup(text);
}

/* A value as people read it, by the unit in its name. The caller frees it. */
static char *readable(const char *name, const struct json *value)
{
    uint64_t number = json_number(value, UINT64_MAX);
    char text[HUMAN_LEN];
    char *made = ends_with(name, "_ms") ? readable_times(value)
                                        : readable_standing(value);

    if (made != NULL) {
        return made;
    }
    if (strcmp(name, "backoff_ms") == 0 && json_count(value) == 0) {
        return strdup("1 s, doubled up to 5 min");
    }
    if (number == UINT64_MAX) {
        return json_display(value);
    }
    if (ends_with(name, "_us")) {
        return strdup(human_time(text, number));
    }
    if (ends_with(name, "_ms")) {
        return strdup(human_ms(text, number));
    }
    if (ends_with(name, "_ms_min") || ends_with(name, "_ms_max")) {
        return strdup(human_age(text, number));
    }
    if (ends_with(name, "_bytes") || ends_with(name, "_bytes_max")
        || ends_with(name, "_bytes_min")) {
        return strdup(human_bytes(text, (double)number));
    }
    return strdup(human_count(text, number));
}

/* "created_us" is shown as "created", "last_seq" as "last seq". */
static const char *label_of(const char *name, char label[64])
{
    static const char *const special[][2] = {
        { "floor_seq", "new groups from" },
        { "keep_ms_min", "keep at least" },
        { "keep_ms_max", "keep at most" },
        { "keep_bytes_max", "keep bytes" },
        { "keep_count_max", "keep messages" },
    };
    size_t len = (size_t)snprintf(label, 64, "%s", name);

    for (size_t i = 0; i < COUNT_OF(special); i++) {
        if (strcmp(name, special[i][0]) == 0) {
            snprintf(label, 64, "%s", special[i][1]);
            return label;
        }
    }
    if (ends_with(name, "_us") || ends_with(name, "_ms")) {
        label[len < 64 ? len - 3 : 63] = '\0';
    }
    for (char *c = label; *c != '\0'; c++) {
        *c = *c == '_' ? ' ' : *c;
    }
    return label;
}

/* A list of objects as a table: the first one names the columns. */
static void print_objects(const struct json *list)
{
    struct column columns[COLUMN_MAX];
    char labels[COLUMN_MAX][64];
    const struct json *value;
    const char *name;
    struct table *table;
    size_t count = 0;

    while (count < COLUMN_MAX
           && (name = json_member(json_at(list, 0), count, &value)) != NULL) {
        bool number = json_number(value, UINT64_MAX) != UINT64_MAX;

        columns[count].heading = label_of(name, labels[count]);
        columns[count].align = number ? ALIGN_RIGHT : ALIGN_LEFT;
        count++;
    }
    table = table_new(columns, count);
    for (size_t i = 0; table != NULL && i < json_count(list); i++) {
        for (size_t c = 0; c < count; c++) {
            char *text = NULL;

            name = json_member(json_at(list, i), c, &value);
            text = name != NULL ? readable(name, value) : NULL;
            table_add(table, text);
            free(text);
        }
    }
    putchar('\n');
    if (table != NULL) {
        table_print(table, stdout);
    }
    table_free(table);
}

/* Of the labels, and LABEL_WIDTH at least. */
static int label_width(const struct json *object)
{
    const struct json *value;
    const struct json *unused;
    const char *name;
    char label[64];
    size_t width = LABEL_WIDTH;

    for (size_t i = 0; (name = json_member(object, i, &value)) != NULL; i++) {
        size_t len = strlen(label_of(name, label));
        if (len > width && json_member(json_at(value, 0), 0, &unused) == NULL) {
            width = len;
        }
    }
    return (int)width;
}

/* Names to the left, values behind them; then the lists of objects. */
static void print_members(const struct json *object)
{
    const struct json *value;
    const struct json *unused;
    const char *name;
    char label[64];
    int width = label_width(object);

    for (size_t i = 0; (name = json_member(object, i, &value)) != NULL; i++) {
        if (json_member(json_at(value, 0), 0, &unused) == NULL) {
            char *text = readable(name, value);

            printf("%-*s %s\n", width, label_of(name, label),
                   text != NULL && text[0] != '\0' ? text : "-");
            free(text);
        }
    }
    for (size_t i = 0; json_member(object, i, &value) != NULL; i++) {
        if (json_member(json_at(value, 0), 0, &unused) != NULL) {
            print_objects(value);
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

    snprintf(usage, sizeof usage, "godwit %s show %s [options]", r->word,
             r->operand);
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
        print_members(answer);
    }
    json_free(answer);
    return code;
}

int resource_document(const char *path, const struct help *help, int argc,
                      char **argv)
{
    struct session_options so;
    bool json = false;
    const struct arg table[] = {
        { "json", ARG_FLAG, &json, NULL, "the broker's answer as JSON", 0, 0 },
        { NULL, ARG_FLAG, NULL, NULL, NULL, 0, 0 },
    };
    struct parsed parsed;
    struct json *answer = NULL;
    int code;

    if (!command_parse(&parsed, help, table, session_args(&so), 0, 0, argc,
                       argv)) {
        return parsed.code;
    }
    code = call(&so, "GET", path, NULL, &answer);
    if (code == EXIT_OK && json) {
        code = print_document(answer);
    } else if (code == EXIT_OK) {
        print_members(answer);
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

    snprintf(usage, sizeof usage, "godwit %s delete %s [options]", r->word,
             r->operand);
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
