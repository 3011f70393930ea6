/* The members of a JSON object, for bodies that have a reader of their own:
 * json_change.c, json_operation.c. What is here is json_read.c's, which keeps
 * the parser to itself. One thread each. */
#ifndef GODWIT_BROKER_DOOR_JSON_FIELDS_H
#define GODWIT_BROKER_DOOR_JSON_FIELDS_H

#include "broker/router/catalog.h"
#include "proto/bytes.h"
#include "proto/refusal.h"
#include "proto/seqset.h"

/* The members of one object, taken one after the other. The first failure is
 * kept, and nothing is read any more; what is not there is left as it is. */
struct fields {
    void *object;
    enum status status;
    struct refusal *refusal;
};

/* Parse an object whose keys are all among `known`, which ends with NULL. What
 * is read out of it lives until it is closed, after a failure too. */
void fields_open(struct fields *f, struct slice text, const char *const *known,
                 struct refusal *refusal);
void fields_close(struct fields *f);

enum field_kind {
    FIELD_ABSENT, /* or something failed before */
    FIELD_TEXT,
    FIELD_ARRAY,
    FIELD_OBJECT,
    FIELD_NULL,
    FIELD_OTHER
};
enum field_kind field_kind(struct fields *f, const char *key);

/* "KEY is not WANT" */
void field_wrong(struct fields *f, const char *key, const char *want);

/* A number, or one as a string. */
void field_u64(struct fields *f, const char *key, uint64_t *out);
void field_bool(struct fields *f, const char *key, bool *out); /* false */
void field_any_text(struct fields *f, const char *key, struct slice *out);
/* A name that must be there. Whether it is a good one is not looked at. */
void field_name(struct fields *f, const char *key, struct slice *out);

/* The object that is a member, its keys checked; not to be closed. A failure in
 * it is to be carried over to f. */
void field_inside(struct fields *f, const char *key, const char *const *known,
                  struct fields *inside);

/* Of an array; 0 when it is none. */
size_t field_count(struct fields *f, const char *key);
/* False: it is something else. */
bool field_item_text(struct fields *f, const char *key, size_t index,
                     struct slice *out);
bool field_item_u64(struct fields *f, const char *key, size_t index,
                    uint64_t *out);

/* A place in a topic: "earliest", "latest", {"seq":"N"} or {"time_us":"N"},
 * which go to *at. */
void field_place(struct fields *f, const char *key, enum group_from *place,
                 uint64_t *at);

/* "seqs":["5",..] or "ranges":[["1","5"],{"first":"8","last":"9"},..], into
 * room for RANGE_COUNT_MAX; *count 0: neither is there. Ranges that follow on
 * each other become one. */
void field_seqs(struct fields *f, struct seq_range *ranges, size_t *count);

#endif
