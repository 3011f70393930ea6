/* Planted bugs inside the store: the linker sends some of its calls here, and
 * while a bug is set they do what a careless author would have them do. */
#ifndef GODWIT_TEST_STORAGE_POWER_BUGS_H
#define GODWIT_TEST_STORAGE_POWER_BUGS_H

#include "test/storage/power_life.h"

void power_bug_set(enum power_bug bug);

#endif
