/* clock.h - the time. All functions are Local. */
#ifndef ESPALIER_CLOCK_H
#define ESPALIER_CLOCK_H

#define ESP_TIME_SIZE 24

/* Seconds since some moment, of a monotonic clock. */
double esp_now(void);

/* text [out]: the date and time in UTC, as in 2026-01-31T12:00:00Z. */
void esp_time_text(char text[ESP_TIME_SIZE]);

#endif
