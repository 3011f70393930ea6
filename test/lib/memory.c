#include "test/lib/memory.h"

#include <errno.h>
#include <stddef.h>

void *__real_malloc(size_t len);
void *__real_calloc(size_t count, size_t len);
void *__real_realloc(void *at, size_t len);
int __real_posix_memalign(void **out, size_t align, size_t len);
char *__real_strdup(const char *text);

void *__wrap_malloc(size_t len);
void *__wrap_calloc(size_t count, size_t len);
void *__wrap_realloc(void *at, size_t len);
int __wrap_posix_memalign(void **out, size_t align, size_t len);
char *__wrap_strdup(const char *text);

static struct {
    unsigned nth;
    bool sticky;
    bool on;
    unsigned count;
    unsigned fired;
} memory;

void memory_fail(unsigned nth, bool sticky)
{
    memory.nth = nth;
    memory.sticky = sticky;
    memory.count = 0;
    memory.fired = 0;
}

void memory_count(bool on)
{
    memory.on = on;
}

unsigned memory_fired(void)
{
    return memory.fired;
}

static bool fails(void)
{
    if (!memory.on || memory.nth == 0) {
        return false;
    }
    memory.count++;
    if (memory.count != memory.nth
        && !(memory.sticky && memory.count > memory.nth)) {
        return false;
    }
    memory.fired++;
    errno = ENOMEM;
    return true;
}

void *__wrap_malloc(size_t len)
{
    return fails() ? NULL : __real_malloc(len);
}

void *__wrap_calloc(size_t count, size_t len)
{
    return fails() ? NULL : __real_calloc(count, len);
}

void *__wrap_realloc(void *at, size_t len)
{
    return fails() ? NULL : __real_realloc(at, len);
}

int __wrap_posix_memalign(void **out, size_t align, size_t len)
{
    return fails() ? ENOMEM : __real_posix_memalign(out, align, len);
}

char *__wrap_strdup(const char *text)
{
    return fails() ? NULL : __real_strdup(text);
}
