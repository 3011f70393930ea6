/* How soon the kernel lets a thread of ours run. Each is of the calling thread
 * alone; where the kernel does not know or allow it, things are as without. */
#ifndef GODWIT_BROKER_PRIORITY_H
#define GODWIT_BROKER_PRIORITY_H

/* Little to do at a time, and somebody waits for it: when it wakes it goes
 * before who has run for longer than such a slice. (Linux 6.12 and later, where
 * a slice can be asked for; see sched(7), EEVDF.) */
void priority_prompt(void);
/* It gives way to whoever else wants to run, without being starved. */
void priority_background(void);

#endif
