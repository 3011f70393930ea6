/* Allocations of the store and of LMDB, any of which can be made to fail. The
 * linker sends them here: `wraps: memory`, see calls.h. One thread. */
#ifndef GODWIT_TEST_LIB_MEMORY_H
#define GODWIT_TEST_LIB_MEMORY_H

#include <stdbool.h>

/* The n-th one from now fails, and with `sticky` all after it; 0: none. */
void memory_fail(unsigned nth, bool sticky);
/* Only those made while this is on are counted, and fail. */
void memory_count(bool on);
unsigned memory_fired(void);

#endif
