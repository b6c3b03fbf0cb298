/* log.h - what the program says while it works. A piece of global state. */
#ifndef ESPALIER_LOG_H
#define ESPALIER_LOG_H

#include <stdbool.h>
#include <stddef.h>

typedef enum esp_log_level { ESP_LOG_QUIET, ESP_LOG_NORMAL, ESP_LOG_DEBUG } esp_log_level;

/* speaks: whether this rank prints (rank 0 does). Until this is called nothing is printed. Local. */
void esp_log_init(esp_log_level level, bool speaks);

/* One line to stderr with the time since esp_log_init, from the speaking rank; a warning also where the
 * level is quiet. Local. */
void esp_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void esp_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void esp_debug(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Progress of long work: "what: done/total (percent, time left)", at most one line in five seconds
 * (none for work that ends sooner). Call it as often as convenient; done = total ends it. Local. */
void esp_progress(const char *what, size_t done, size_t total);

/* Seconds that the rest takes at the pace of what was done here, first < done <= total; what had been done
 * before the call was continued took no time of it. Local. */
double esp_time_left(double spent, size_t first, size_t done, size_t total);

#endif
