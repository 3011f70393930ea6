#include "tools/godwit/place.h"

#include <stdbool.h>

enum { PLACE_BEFORE = 50, PLACE_WIDTH = 74 }; /* characters */

/* Bytes of UTF-8 that go on a character. */
static bool goes_on(char c)
{
    return ((unsigned char)c & 0xc0) == 0x80;
}

/* `count` characters further, or its end. */
static const char *skip(const char *text, uint64_t count)
{
    while (*text != '\0' && count > 0) {
        text++;
        while (goes_on(*text)) {
            text++;
        }
        count--;
    }
    return text;
}

void place_show(FILE *out, const char *text, uint64_t column)
{
    uint64_t before = column > 0 ? column - 1 : 0;
    bool cut = before > PLACE_BEFORE;
    const char *from = skip(text, cut ? before - PLACE_BEFORE : 0);
    const char *end = skip(from, PLACE_WIDTH);

    before = cut ? PLACE_BEFORE : before;
    fputs(cut ? "  ..." : "  ", out);
    for (const char *c = from; c < end; c++) {
        fputc((unsigned char)*c < ' ' || *c == 0x7f ? ' ' : *c, out);
    }
    fputs(*end != '\0' ? "...\n" : "\n", out);
    fprintf(out, "%*s^\n", (int)before + (cut ? 5 : 2), "");
}
