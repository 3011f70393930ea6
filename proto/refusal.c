#include "proto/refusal.h"

#include <stdarg.h>
#include <stdio.h>

enum status refuse(struct refusal *r, enum status status, const char *limit,
                   const char *format, ...)
{
    va_list args;

    *r = (struct refusal) { .status = status, .limit = limit };
    va_start(args, format);
    vsnprintf(r->text, sizeof r->text, format, args);
    va_end(args);
    return status;
}
