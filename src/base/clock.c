/* clock.c - the time. */
#include "espalier/clock.h"

#include <time.h>

double esp_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void esp_time_text(char text[ESP_TIME_SIZE])
{
    time_t t = time(NULL);
    struct tm utc;

    gmtime_r(&t, &utc);
    strftime(text, ESP_TIME_SIZE, "%Y-%m-%dT%H:%M:%SZ", &utc);
}
