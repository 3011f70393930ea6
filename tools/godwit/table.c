#include "tools/godwit/table.h"

#include <stdlib.h>
#include <string.h>

enum { TABLE_COLUMN_MAX = 16 };

struct table {
    const struct column *columns;
    size_t column_count;
    char **cells;
    size_t cell_count;
    size_t capacity;
};

struct table *table_new(const struct column *columns, size_t count)
{
    struct table *table = calloc(1, sizeof *table);

    CHECK(count > 0 && count <= TABLE_COLUMN_MAX);
    if (table != NULL) {
        table->columns = columns;
        table->column_count = count;
    }
    return table;
}

void table_free(struct table *table)
{
    if (table == NULL) {
        return;
    }
    for (size_t i = 0; i < table->cell_count; i++) {
        free(table->cells[i]);
    }
    free(table->cells);
    free(table);
}

void table_add(struct table *table, const char *cell)
{
    if (table->cell_count == table->capacity) {
        size_t capacity = table->capacity > 0 ? 2 * table->capacity : 64;
        char **cells = realloc(table->cells, capacity * sizeof *cells);

        if (cells == NULL) {
            return;
        }
        table->cells = cells;
        table->capacity = capacity;
    }
    table->cells[table->cell_count++] = strdup(cell != NULL ? cell : "-");
}

/* Characters, not bytes. */
static int width_of(const char *text)
{
    int width = 0;

    for (; *text != '\0'; text++) {
        width += ((unsigned char)*text & 0xC0) != 0x80;
    }
    return width;
}

static const char *cell_at(const struct table *table, size_t index)
{
    return table->cells[index] != NULL ? table->cells[index] : "-";
}

static int column_width(const struct table *table, size_t column)
{
    int widest = width_of(table->columns[column].heading);

    for (size_t i = column; i < table->cell_count; i += table->column_count) {
        int width = width_of(cell_at(table, i));

        widest = width > widest ? width : widest;
    }
    return widest;
}

static void print_cell(const struct table *table, size_t column, int width,
                       const char *text, FILE *out)
{
    int gap = width - width_of(text);

    if (column > 0) {
        fputs("  ", out);
    }
    if (table->columns[column].align == ALIGN_RIGHT) {
        fprintf(out, "%*s%s", gap, "", text);
    } else if (column + 1 < table->column_count) {
        fprintf(out, "%s%*s", text, gap, "");
    } else { /* nothing behind the last column */
        fputs(text, out);
    }
}

void table_print(const struct table *table, FILE *out)
{
    int widths[TABLE_COLUMN_MAX];

    CHECK(table->column_count > 0);
    for (size_t c = 0; c < table->column_count; c++) {
        widths[c] = column_width(table, c);
        print_cell(table, c, widths[c], table->columns[c].heading, out);
    }
    fputc('\n', out);
    for (size_t i = 0; i < table->cell_count; i++) {
        size_t c = i % table->column_count;

        print_cell(table, c, widths[c], cell_at(table, i), out);
        if (c + 1 == table->column_count || i + 1 == table->cell_count) {
            fputc('\n', out);
        }
    }
}
