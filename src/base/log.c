/* log.c - lines with the time since the start, and progress. */
#include "espalier/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "espalier/clock.h"
#include "espalier/mem.h"

static struct {
    esp_log_level level;
    bool speaks;
    double began;
    char what[64];     /* progress under way          */
    size_t what_first; /* done when it was begun here */
    double what_began, what_said;
} state;

void esp_log_init(esp_log_level level, bool speaks)
{
    state.level = level;
    state.speaks = speaks;
    state.began = esp_now();
}

static void say(const char *kind, const char *fmt, va_list args)
{
    char line[1024];

    vsnprintf(line, sizeof line, fmt, args);
    fprintf(stderr, "[%8.1f s] %s%s\n", esp_now() - state.began, kind, line);
}

void esp_warn(const char *fmt, ...)
{
    va_list args;

    if (!state.speaks) {
        return;
    }
    va_start(args, fmt);
    say("warning: ", fmt, args);
    va_end(args);
}

void esp_info(const char *fmt, ...)
{
    va_list args;

    if (!state.speaks || state.level < ESP_LOG_NORMAL) {
        return;
    }
    va_start(args, fmt);
    say("", fmt, args);
    va_end(args);
}

void esp_debug(const char *fmt, ...)
{
    va_list args;

    if (!state.speaks || state.level < ESP_LOG_DEBUG) {
        return;
    }
    va_start(args, fmt);
    say("", fmt, args);
    va_end(args);
}

double esp_time_left(double spent, size_t first, size_t done, size_t total)
{
    return spent * (double)(total - done) / (double)(done - first);
}

void esp_progress(const char *what, size_t done, size_t total)
{
    double now = esp_now(), spent;

    esp_anonymous_look();
    if (!state.speaks || state.level < ESP_LOG_NORMAL) {
        return;
    }
    if (strncmp(state.what, what, sizeof state.what - 1) != 0) {
        snprintf(state.what, sizeof state.what, "%s", what);
        state.what_began = state.what_said = now;
        state.what_first = done;
    }
    spent = now - state.what_began;
    if (done > state.what_first && done < total && now - state.what_said >= 5) {
        state.what_said = now;
        esp_info("%s: %zu/%zu (%.0f %%, %.0f s left)", what, done, total,
                 100.0 * (double)done / (double)total,
                 esp_time_left(spent, state.what_first, done, total));
    }
    if (done >= total) {
        state.what[0] = '\0';
    }
}
