/* log.h - what the program says while it works. A piece of global state, for one thread. */
#ifndef ESPALIER_LOG_H
#define ESPALIER_LOG_H

#include <stdbool.h>
#include <stddef.h>

typedef enum esp_log_level { ESP_LOG_QUIET, ESP_LOG_NORMAL, ESP_LOG_DEBUG } esp_log_level;

/* speaks: whether this rank prints (rank 0 does). Nothing is printed until this is called. Local. */
void esp_log_init(esp_log_level level, bool speaks);

/* One line, cut at 1023 bytes, to stderr with the time since esp_log_init, from the rank that speaks:
 * esp_info unless the level is quiet, esp_debug at level debug, a warning at any level. Local. */
void esp_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void esp_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void esp_debug(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Progress of long work: "what: done/total (percent, seconds left)", at most one line in five seconds
 * (none for work that ends sooner). To be called as often as convenient; done = total ends it. Local. */
void esp_progress(const char *what, size_t done, size_t total);

/* Seconds left: total - done at the pace of the done - first that took `spent` seconds, first < done <=
 * total. first: what an earlier job had done. Local. */
double esp_time_left(double spent, size_t first, size_t done, size_t total);

#endif
