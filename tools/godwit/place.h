/* A place in a line of text, shown to a person. */
#ifndef GODWIT_TOOLS_PLACE_H
#define GODWIT_TOOLS_PLACE_H

#include <stdint.h>
#include <stdio.h>

/* The text, and below it a ^ under its column (in characters, from 1), both
 * indented. Of a long text only what is around it; tabs and line ends are shown
 * as spaces. */
void place_show(FILE *out, const char *text, uint64_t column);

#endif
