#include "proto/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum status error_set(struct error *err, enum status status, int sys,
                      const char *format, ...)
{
    va_list args;
    size_t used;

    if (err == NULL) {
        return status;
    }
    err->sys = sys;
    va_start(args, format);
    vsnprintf(err->text, sizeof err->text, format, args);
    va_end(args);
    used = strlen(err->text);
    if (sys != 0) {
        snprintf(err->text + used, sizeof err->text - used, ": %s",
                 strerror(sys));
    }
    return status;
}

enum status error_prefix(struct error *err, enum status status,
                         const char *format, ...)
{
    struct error inner;
    va_list args;
    size_t used;

    if (err == NULL) {
        return status;
    }
    inner = *err;
    va_start(args, format);
    vsnprintf(err->text, sizeof err->text, format, args);
    va_end(args);
    used = strlen(err->text);
    snprintf(err->text + used, sizeof err->text - used, ": %.400s", inner.text);
    return status;
}
