/* Log lines on stderr: an event, then key=value pairs. error: act now; warn:
 * look today; info: the life of the process and its connections; debug: single
 * requests. Never bodies or secrets. What can repeat per message is counted in
 * the metrics, not logged. Any thread; a line is one write. */
#ifndef GODWIT_BROKER_LOG_H
#define GODWIT_BROKER_LOG_H

#include "proto/check.h"

#include <stdbool.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

void log_set_level(enum log_level level);
bool log_level_parse(const char *word, enum log_level *out);

/* Control characters that got into a value are shown as '?', so that nobody can
 * forge a line. */
void log_line(enum log_level level, const char *format, ...) PRINTF_LIKE(2, 3);

#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)

#endif
