/* A table for people: a heading, columns as wide as their widest cell, numbers
 * to the right. Cells are copied. */
#ifndef GODWIT_TOOLS_TABLE_H
#define GODWIT_TOOLS_TABLE_H

#include "proto/check.h"

#include <stdio.h>

struct table;

struct column {
    const char *heading;
    enum { ALIGN_LEFT, ALIGN_RIGHT } align;
};

/* NULL: out of memory. `columns` stays the caller's and must live as long. */
struct table *table_new(const struct column *columns, size_t count);
void table_free(struct table *table); /* accepts NULL */

/* The next cell, left to right, top to bottom; NULL is shown as "-". Short
 * memory leaves cells out and never the rest. */
void table_add(struct table *table, const char *cell);

void table_print(const struct table *table, FILE *out);

#endif
