#include "tools/godwit/args.h"

#include <inttypes.h>
#include <string.h>

enum { HELP_COLUMN = 26, HELP_WIDTH = 79 };

static const struct arg *find(const struct arg *table, const char *name,
                              size_t len)
{
    for (; table != NULL && table->name != NULL; table++) {
        if (strlen(table->name) == len && memcmp(table->name, name, len) == 0) {
            return table;
        }
    }
    return NULL;
}

/* Digits up to the first other byte. False: none, or too large. */
static bool read_digits(const char **at, uint64_t *out)
{
    const char *c = *at;
    uint64_t value = 0;

    for (; *c >= '0' && *c <= '9'; c++) {
        uint64_t digit = (uint64_t)(*c - '0');

        if (value > (UINT64_MAX - digit) / 10) {
            return false;
        }
        value = value * 10 + digit;
    }
    if (c == *at) {
        return false;
    }
    *at = c;
    *out = value;
    return true;
}

/* 0: no such suffix. */
static uint64_t age_factor(const char *suffix)
{
    static const struct {
        char suffix;
        uint64_t ms;
    } units[] = { { 's', 1000 },
                  { 'm', 60 * 1000 },
                  { 'h', 3600 * 1000 },
                  { 'd', 24 * 3600 * 1000 },
                  { 'w', 7 * 24 * 3600 * 1000 } };

    for (size_t i = 0; i < COUNT_OF(units); i++) {
        if (suffix[0] == units[i].suffix && suffix[1] == '\0') {
            return units[i].ms;
        }
    }
    return 0;
}

static uint64_t suffix_factor(enum arg_kind kind, const char *suffix)
{
    static const char letters[] = "KMGT";
    const char *letter = strchr(letters, suffix[0] == 'k'   ? 'K'
                                         : suffix[0] == 'm' ? 'M'
                                                            : suffix[0]);
    const char *rest = suffix + 1;
    uint64_t factor = 1;

    if (kind == ARG_AGE) {
        return age_factor(suffix);
    }
    if (letter == NULL || *letter == '\0') {
        return 0;
    }
    if (kind == ARG_SIZE && strcmp(rest, "iB") == 0) {
        rest = "";
    }
    for (const char *l = letters; l <= letter; l++) {
        factor *= kind == ARG_SIZE ? 1024 : 1000;
    }
    return *rest == '\0' ? factor : 0;
}

static bool read_seconds(const char *text, uint64_t *out)
{
    uint64_t whole;
    uint64_t thousandths = 0;

    if (!read_digits(&text, &whole) || whole > UINT32_MAX) {
        return false;
    }
    if (*text == '.') {
        text++;
        for (uint64_t scale = 100; *text >= '0' && *text <= '9'; text++) {
            thousandths += (uint64_t)(*text - '0') * scale;
            scale /= 10;
        }
    }
    if (*text == 's') { /* "5s" is what people write as well */
        text++;
    }
    *out = whole * 1000 + thousandths;
    return *text == '\0';
}

bool args_number(enum arg_kind kind, const char *text, uint64_t *out)
{
    uint64_t value;
    uint64_t factor;

    if (kind == ARG_SECONDS) {
        return read_seconds(text, out);
    }
    if (!read_digits(&text, &value)) {
        return false;
    }
    if (*text != '\0' || kind == ARG_AGE) {
        factor = suffix_factor(kind, text);
        if (factor == 0 || value > UINT64_MAX / factor) {
            return false;
        }
        value *= factor;
    }
    *out = value;
    return true;
}

static const char *number_word(enum arg_kind kind)
{
    switch (kind) {
    case ARG_SECONDS:
        return "a number of seconds";
    case ARG_SIZE:
        return "a size in bytes (512, 16KiB, 10GiB; K, M, G and T alone are "
               "KiB, MiB, GiB and TiB)";
    case ARG_AGE:
        return "an age (90s, 15m, 12h, 7d, 2w)";
    case ARG_COUNT:
        return "a count (20000, 20k, 3M)";
    case ARG_FLAG:
    case ARG_TEXT:
    case ARG_LIST:
        break;
    }
    return "a value";
}

static enum status out_of_bounds(const struct arg *arg, const char *text,
                                 struct error *err)
{
    if (arg->kind == ARG_SECONDS) {
        return error_set(err, STATUS_INVALID, 0,
                         "--%s %s: allowed are %g to %g seconds", arg->name,
                         text, (double)arg->min / 1e3, (double)arg->max / 1e3);
    }
    return error_set(err, STATUS_INVALID, 0,
                     "--%s %s: allowed are %" PRIu64 " to %" PRIu64, arg->name,
                     text, arg->min, arg->max);
}

/* "10GB" means 10^10 to some and 10 GiB to others. */
static bool is_decimal_size(const char *text)
{
    size_t digits = strspn(text, "0123456789");

    return digits > 0 && strlen(text) == digits + 2
           && strchr("KMGTkm", text[digits]) != NULL && text[digits + 1] == 'B';
}

static enum status store_number(const struct arg *arg, const char *text,
                                struct error *err)
{
    uint64_t value;

    if (arg->kind == ARG_SIZE && is_decimal_size(text)) {
        return error_set(err, STATUS_INVALID, 0,
                         "--%s %s: sizes are counted in 1024s here: use %ciB",
                         arg->name, text, text[strlen(text) - 2]);
    }
    if (!args_number(arg->kind, text, &value)) {
        return error_set(err, STATUS_INVALID, 0, "--%s %s: expected %s",
                         arg->name, text, number_word(arg->kind));
    }
    if (arg->max != 0 && (value < arg->min || value > arg->max)) {
        return out_of_bounds(arg, text, err);
    }
    *(uint64_t *)arg->to = value;
    return STATUS_OK;
}

static enum status store_in_list(const struct arg *arg, const char *text,
                                 struct error *err)
{
    struct arg_list *list = arg->to;

    if (list->count == ARG_LIST_MAX) {
        return error_set(err, STATUS_INVALID, 0,
                         "--%s: given more than %d times", arg->name,
                         ARG_LIST_MAX);
    }
    list->at[list->count++] = text;
    return STATUS_OK;
}

static enum status store_value(const struct arg *arg, const char *text,
                               struct error *err)
{
    switch (arg->kind) {
    case ARG_FLAG:
        *(bool *)arg->to = true;
        return STATUS_OK;
    case ARG_TEXT:
        *(const char **)arg->to = text;
        return STATUS_OK;
    case ARG_LIST:
        return store_in_list(arg, text, err);
    case ARG_COUNT:
    case ARG_SIZE:
    case ARG_SECONDS:
    case ARG_AGE:
        break;
    }
    return store_number(arg, text, err);
}

/* "-n" is short for --count, as head and tail have it. */
static bool is_short(const struct arg *own, const char *word)
{
    return strcmp(word, "-n") == 0 && find(own, "count", 5) != NULL;
}

/* One "--name", "--name=value" or "--name value" at argv[*i]; moves *i on to
 * the last word used. */
static enum status parse_option(const struct arg *own, const struct arg *common,
                                int argc, char **argv, int *i,
                                struct error *err)
{
    const char *name = is_short(own, argv[*i]) ? "count" : argv[*i] + 2;
    const char *equals = strchr(name, '=');
    size_t len = equals != NULL ? (size_t)(equals - name) : strlen(name);
    const struct arg *arg = find(own, name, len);

    if (arg == NULL) {
        arg = find(common, name, len);
    }
    if (arg == NULL) {
        return error_set(err, STATUS_INVALID, 0, "there is no option --%.*s",
                         (int)len, name);
    }
    if (arg->kind == ARG_FLAG) {
        if (equals != NULL) {
            return error_set(err, STATUS_INVALID, 0, "--%s takes no value",
                             arg->name);
        }
        return store_value(arg, NULL, err);
    }
    if (equals != NULL) {
        return store_value(arg, equals + 1, err);
    }
    if (*i + 1 >= argc) {
        return error_set(err, STATUS_INVALID, 0, "--%s needs a value (%s)",
                         arg->name, arg->value);
    }
    *i += 1;
    return store_value(arg, argv[*i], err);
}

static enum status add_operand(struct operands *operands, const char *text,
                               struct error *err)
{
    if (operands->count == OPERAND_MAX) {
        return error_set(err, STATUS_INVALID, 0, "too many words: \"%s\"",
                         text);
    }
    operands->at[operands->count++] = text;
    return STATUS_OK;
}

enum status args_parse(const struct arg *own, const struct arg *common,
                       int argc, char **argv, struct operands *operands,
                       struct error *err)
{
    bool options = true;
    enum status status = STATUS_OK;

    operands->count = 0;
    for (int i = 1; i < argc && status == STATUS_OK; i++) {
        const char *word = argv[i];

        if (!options || word[0] != '-' || word[1] == '\0') {
            status = add_operand(operands, word, err);
        } else if (strcmp(word, "--") == 0) {
            options = false;
        } else if (word[1] == '-' || is_short(own, word)) {
            status = parse_option(own, common, argc, argv, &i, err);
        } else {
            status = error_set(err, STATUS_INVALID, 0, "there is no option %s",
                               word);
        }
    }
    return status;
}

/* Words of `text` in the right-hand column, from `column` on. */
static void put_wrapped(FILE *out, const char *text, int column)
{
    int at = column;

    while (*text != '\0') {
        int len = (int)strcspn(text, " ");

        if (at > column && at + 1 + len > HELP_WIDTH) {
            fprintf(out, "\n%*s", column, "");
            at = column;
        } else if (at > column) {
            fputc(' ', out);
            at++;
        }
        fprintf(out, "%.*s", len, text);
        at += len;
        text += len;
        text += strspn(text, " ");
    }
    fputc('\n', out);
}

void args_help(FILE *out, const struct arg *table)
{
    for (; table->name != NULL; table++) {
        bool is_count = strcmp(table->name, "count") == 0;
        int len = fprintf(out, "  %s--%s%s%s", is_count ? "-n, " : "",
                          table->name, table->value != NULL ? " " : "",
                          table->value != NULL ? table->value : "");

        if (len >= HELP_COLUMN) {
            fprintf(out, "\n");
            len = 0;
        }
        fprintf(out, "%*s", HELP_COLUMN - len, "");
        put_wrapped(out, table->help, HELP_COLUMN);
    }
}
