/* expand_path.c - ~ and $VAR in settings that are paths, as a shell writes them out. */
#include <ctype.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "espalier/mem.h"
#include "config_impl.h"

/* Puts more behind *text; takes more. */
static void append(char **text, char *more)
{
    char *whole = esp_format("%s%s", *text, more);

    free(*text);
    free(more);
    *text = whole;
}

static size_t name_length(const char *s)
{
    size_t n = 0;

    while (isalnum((unsigned char)s[n]) || s[n] == '_') {
        n++;
    }
    return isdigit((unsigned char)*s) ? 0 : n;
}

/* "~" or "~user" at the beginning, up to the first slash. */
static esp_status expand_home(char **to, const char **at)
{
    size_t n = strcspn(*at, "/");
    char *user = esp_format("%.*s", (int)(n - 1), *at + 1);
    const struct passwd *entry = *user ? getpwnam(user) : getpwuid(getuid());
    const char *home = *user ? NULL : getenv("HOME");
    esp_status st = ESP_OK;

    home = home ? home : entry ? entry->pw_dir : NULL;
    if (home) {
        append(to, esp_strdup(home));
    } else {
        st = esp_fail(ESP_EUSAGE, "~%s has no home folder; a file of that name is ./~%s", user,
                      user);
    }
    free(user);
    *at += n;
    return st;
}

/* $NAME or ${NAME}; $$ is a dollar sign, and one before anything else is one, too. */
static esp_status expand_variable(char **to, const char **at)
{
    bool braced = (*at)[1] == '{';
    const char *name = *at + 1 + braced;
    size_t n = name_length(name);
    char *copy;
    const char *value;
    esp_status st = ESP_OK;

    if (n == 0 || (braced && name[n] != '}')) {
        if (braced) {
            return esp_fail(ESP_EUSAGE, "${ is not followed by a name and }; a dollar sign is $$");
        }
        append(to, esp_strdup("$"));
        *at += 1 + ((*at)[1] == '$');
        return ESP_OK;
    }
    copy = esp_format("%.*s", (int)n, name);
    value = getenv(copy);
    if (value) {
        append(to, esp_strdup(value));
    } else {
        st = esp_fail(ESP_EUSAGE, "$%s is not set in the environment; a dollar sign is $$", copy);
    }
    free(copy);
    *at = name + n + braced;
    return st;
}

esp_status esp_path_expand(char **path, const char *text)
{
    esp_status st = ESP_OK;
    char *to = esp_strdup("");

    if (*text == '~') {
        st = expand_home(&to, &text);
    }
    while (st == ESP_OK && *text) {
        size_t n = strcspn(text, "$");

        append(&to, esp_format("%.*s", esp_count(n), text));
        text += n;
        st = *text ? expand_variable(&to, &text) : ESP_OK;
    }
    if (st != ESP_OK) {
        free(to);
        to = NULL;
    }
    *path = to;
    return st;
}

char *esp_path_unexpand(const char *path)
{
    char *to = esp_strdup(*path == '~' ? "./" : "");

    while (*path) {
        size_t n = strcspn(path, "$");

        append(&to, esp_format("%.*s%s", esp_count(n), path, path[n] ? "$$" : ""));
        path += n + (path[n] == '$');
    }
    return to;
}
