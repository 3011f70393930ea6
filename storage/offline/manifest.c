#include "storage/offline/manifest.h"

#include "storage/checksum.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { LINE_LEN_MAX = 256, HEX_LEN = 16, DIGITS_MAX = 20 };

static const char first_line[] = "godwit backup ";

/* The numbers of a manifest in the order of its lines. */
static const struct {
    const char *word;
    size_t offset;
} numbers[] = {
    { "made_us", offsetof(struct manifest, made_us) },
    { "store", offsetof(struct manifest, store_id) },
    { "format", offsetof(struct manifest, format) },
    { "segment", offsetof(struct manifest, segment) },
    { "offset", offsetof(struct manifest, offset) },
    { "batches", offsetof(struct manifest, batches) },
    { "records", offsetof(struct manifest, records) },
    { "messages", offsetof(struct manifest, messages) },
    { "damages", offsetof(struct manifest, damages) },
    { "damaged_bytes", offsetof(struct manifest, damaged_bytes) },
};
enum { NUMBER_COUNT = sizeof numbers / sizeof numbers[0] };

void manifest_fini(struct manifest *m)
{
    free(m->files);
    *m = (struct manifest) { 0 };
}

enum status manifest_add(struct manifest *m, const struct manifest_file *file)
{
    if (m->file_count == m->file_capacity) {
        size_t capacity = m->file_capacity == 0 ? 16 : m->file_capacity * 2;
        void *files = realloc(m->files, capacity * sizeof *m->files);
        if (files == NULL) {
            return STATUS_NOMEM;
        }
        m->files = files;
        m->file_capacity = capacity;
    }
    m->files[m->file_count++] = *file;
    return STATUS_OK;
}

/* ---- writing ---- */

__attribute__((format(printf, 2, 3))) static enum status
put_line(struct bytes *to, const char *format, ...)
{
    char line[LINE_LEN_MAX];
    va_list args;
    int len;

    va_start(args, format);
    len = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    CHECK(len > 0 && len < LINE_LEN_MAX);
    return bytes_append(to, line, (size_t)len);
}

enum status manifest_write(struct bytes *to, const struct manifest *m)
{
    size_t begin = bytes_len(to);
    enum status status = put_line(to, "%s%d\n", first_line, MANIFEST_VERSION);

    for (size_t i = 0; i < NUMBER_COUNT && status == STATUS_OK; i++) {
        uint64_t value;
        memcpy(&value, (const char *)m + numbers[i].offset, sizeof value);
        status = put_line(to, "%s %" PRIu64 "\n", numbers[i].word, value);
    }
    for (size_t i = 0; i < m->file_count && status == STATUS_OK; i++) {
        const struct manifest_file *file = &m->files[i];
        status = put_line(to, "file %s %" PRIu64 " %016" PRIx64 "\n",
                          file->name.text, file->len, file->hash);
    }
    if (status == STATUS_OK) {
        uint64_t sum = checksum(bytes_begin(to) + begin, bytes_len(to) - begin);
        status = put_line(to, "sum %016" PRIx64 "\n", sum);
    }
    return status;
}

/* ---- reading ---- */

/* The text up to `end`, which is taken away too. False: it is not there. */
static bool take_until(struct slice *text, char end, struct slice *out)
{
    const uint8_t *found =
        text->len == 0 ? NULL : memchr(text->at, end, text->len);
    size_t len;

    if (found == NULL) {
        return false;
    }
    len = (size_t)(found - text->at);
    *out = slice_of(text->at, len);
    *text = slice_of(found + 1, text->len - len - 1);
    return true;
}

static bool take_word(struct slice *line, const char *word)
{
    struct slice found;

    return take_until(line, ' ', &found) && slice_is(found, word);
}

static bool decimal(struct slice text, uint64_t *out)
{
    uint64_t value = 0;

    if (text.len == 0 || text.len > DIGITS_MAX) {
        return false;
    }
    for (size_t i = 0; i < text.len; i++) {
        unsigned digit = (unsigned)text.at[i] - '0';
        if (digit > 9 || value > (UINT64_MAX - digit) / 10) {
            return false;
        }
        value = value * 10 + digit;
    }
    *out = value;
    return true;
}

static bool hexadecimal(struct slice text, uint64_t *out)
{
    uint64_t value = 0;

    if (text.len != HEX_LEN) {
        return false;
    }
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.at[i];
        if (c >= '0' && c <= '9') {
            value = value << 4 | (uint64_t)(c - '0');
        } else if (c >= 'a' && c <= 'f') {
            value = value << 4 | (uint64_t)(c - 'a' + 10);
        } else {
            return false;
        }
    }
    *out = value;
    return true;
}

/* One word of letters, digits, '.' and '-', maybe after "log/"; never "..". */
static bool name_is_safe(struct slice name)
{
    size_t begin =
        name.len > 4 && memcmp(name.at, "log/", 4) == 0 ? 4 : (size_t)0;

    if (name.len == begin || name.len > LANDING_NAME_LEN_MAX
        || name.at[begin] == '.') {
        return false;
    }
    for (size_t i = begin; i < name.len; i++) {
        uint8_t c = name.at[i];
        if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '.'
            && c != '-') {
            return false;
        }
    }
    return true;
}

static enum status read_file(struct slice line, struct manifest *out)
{
    struct manifest_file file = { 0 };
    struct slice name;
    struct slice len;

    if (!take_word(&line, "file") || !take_until(&line, ' ', &name)
        || !name_is_safe(name) || !take_until(&line, ' ', &len)
        || !decimal(len, &file.len) || !hexadecimal(line, &file.hash)) {
        return STATUS_CORRUPT;
    }
    memcpy(file.name.text, name.at, name.len);
    return manifest_add(out, &file);
}

static enum status read_lines(struct slice text, struct manifest *out)
{
    enum status status = STATUS_OK;
    struct slice line;

    for (size_t i = 0; i < NUMBER_COUNT; i++) {
        uint64_t value;
        if (!take_until(&text, '\n', &line)
            || !take_word(&line, numbers[i].word) || !decimal(line, &value)) {
            return STATUS_CORRUPT;
        }
        memcpy((char *)out + numbers[i].offset, &value, sizeof value);
    }
    while (text.len > 0 && status == STATUS_OK) {
        status = take_until(&text, '\n', &line) ? read_file(line, out)
                                                : STATUS_CORRUPT;
    }
    return status;
}

/* "sum HASH\n" at the end, of all that stands before. */
static bool take_sum(struct slice *text)
{
    size_t len = sizeof "sum \n" - 1 + HEX_LEN;
    struct slice line;
    uint64_t sum;

    if (text->len < len) {
        return false;
    }
    line = slice_of(text->at + text->len - len, len - 1);
    *text = slice_of(text->at, text->len - len);
    return text->at[text->len + len - 1] == '\n' && take_word(&line, "sum")
           && hexadecimal(line, &sum) && sum == checksum(text->at, text->len);
}

enum status manifest_read(struct slice text, struct manifest *out)
{
    struct slice rest = text;
    enum status status;
    struct slice line;
    uint64_t version;

    if (!take_until(&rest, '\n', &line) || line.len < sizeof first_line - 1
        || memcmp(line.at, first_line, sizeof first_line - 1) != 0) {
        return STATUS_CORRUPT;
    }
    line = slice_of(line.at + sizeof first_line - 1,
                    line.len - (sizeof first_line - 1));
    if (!decimal(line, &version)) {
        return STATUS_CORRUPT;
    }
    if (version > MANIFEST_VERSION) {
        return STATUS_NEWER;
    }
    if (!take_sum(&text)) {
        return STATUS_CORRUPT;
    }
    rest = slice_of(rest.at, text.len - (size_t)(rest.at - text.at));
    status = read_lines(rest, out);
    if (status != STATUS_OK) {
        manifest_fini(out);
    }
    return status;
}
