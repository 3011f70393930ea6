/* Ctrl-C and SIGTERM as an event: the first asks the command to end in order,
 * the second ends the process at once with EXIT_INTERRUPTED. */
#ifndef GODWIT_TOOLS_INTERRUPT_H
#define GODWIT_TOOLS_INTERRUPT_H

#include <stdbool.h>

/* Call before any other thread is made, so that all of them leave the signals to
 * the one that waits for them. Also turns SIGPIPE into an error of write(). */
void interrupt_init(void);

bool interrupted(void);

/* What to say when the process is ended at once, because it stays behind: a
 * line with its end, borrowed for good. NULL: nothing. */
void interrupt_leaves(const char *line);

/* Becomes readable with the first signal and stays so. -1: not available. */
int interrupt_fd(void);

#endif
