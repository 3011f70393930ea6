/* JSON, read and written. The only user of jansson among the tools. */
#ifndef GODWIT_TOOLS_JSON_H
#define GODWIT_TOOLS_JSON_H

#include "proto/bytes.h"
#include "proto/error.h"

#include <stdbool.h>

/* A document or a part of one. Parts belong to their document. All questions
 * accept NULL and answer as for something absent. */
struct json;

/* STATUS_INVALID: err->text says what and where. The caller ends the document
 * with json_free(). */
MUST_CHECK enum status json_parse(struct slice text, struct json **out,
                                  struct error *err);
void json_free(struct json *document); /* accepts NULL */

const struct json *json_get(const struct json *object, const char *name);
size_t json_count(const struct json *array);
const struct json *json_at(const struct json *array, size_t index);

/* A name of an object and its value, in the order written; *index counts the
 * calls from 0. NULL: no more. */
const char *json_member(const struct json *object, size_t index,
                        const struct json **value);

/* Text, or `absent`. */
const char *json_text(const struct json *value, const char *absent);
/* A whole number, also one written as text (64-bit numbers are on our wire). */
uint64_t json_number(const struct json *value, uint64_t absent);
/* That of a member; 0 when absent. */
uint64_t json_u64(const struct json *object, const char *name);
/* Is it there, and true? */
bool json_flag(const struct json *value);

/* Any value in the way a person wants to read it: text without quotes, lists
 * with commas. The caller frees it; NULL: absent or out of memory. */
char *json_display(const struct json *value);

/* Absent, or null? */
bool json_is_none(const struct json *value);

/* The text of a message's key or header: a string, a number as it is written,
 * true or false. The caller frees it; NULL: it is none of these. */
char *json_key_text(const struct json *value);

/* ---- writing ---- */

/* Builds one object as text. Zero-initialised is empty; the first failure is
 * kept and given by json_done(). */
struct json_writer {
    struct bytes text;
    enum status status;
    bool need_comma;
};

void json_begin(struct json_writer *w, const char *name, char bracket);
void json_end(struct json_writer *w, char bracket);
void json_put_text(struct json_writer *w, const char *name, struct slice text);
void json_put_base64(struct json_writer *w, const char *name,
                     struct slice bytes);
void json_put_number(struct json_writer *w, const char *name, uint64_t value);
/* What is no number or endless is written as null. */
void json_put_real(struct json_writer *w, const char *name, double value);
void json_put_bool(struct json_writer *w, const char *name, bool value);
/* "[...]" from a list with commas, such as "orders,trade.*". */
void json_put_split(struct json_writer *w, const char *name, const char *list);

/* The object as text, ended by NUL; the writer's, until json_writer_fini().
 * NULL: out of memory. */
const char *json_done(struct json_writer *w);
void json_writer_fini(struct json_writer *w);

#endif
