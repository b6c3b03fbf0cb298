/* config_impl.h - what the files of the configuration share. */
#ifndef ESPALIER_CONFIG_IMPL_H
#define ESPALIER_CONFIG_IMPL_H

#include <float.h>

#include "espalier/config.h"

/* Replaces the value of an option by what text says. ESP_EUSAGE "path = text: must be ...". Local. */
esp_status esp_option_set(esp_config *c, const esp_option *o, const char *text);

/* Frees what the value of an option owns and zeroes it. Local. */
void esp_option_clear(esp_config *c, const esp_option *o);

#define BELOW_1 (1 - DBL_EPSILON / 2) /* largest number below 1: of a range without its end */

/* What an option takes: "a number from 0 to 1"; the caller frees. Local. */
char *esp_option_wants(const esp_option *o);

/* Where the value of an option is in c. Local. */
void *esp_option_at(const esp_config *c, const esp_option *o);

/* The value that text says, into c; what was there is cleared already. false: text says none that the option
 * takes. Not for paths. Local. */
bool esp_option_parse(esp_config *c, const esp_option *o, const char *text);

/* Number of the choice of that name, -1 when it is none. Local. */
int esp_option_choice(const esp_option *o, const char *name);

/* Whether text is a number within the option's range. Local. */
bool esp_option_number(double *v, const esp_option *o, const char *text);

/* What to write instead of text, where that can be told: "; ..." to go behind what it takes, else ""; the
 * caller frees. Local. */
char *esp_option_advice(const esp_option *o, const char *text);

/* Writes out ~, ~user, $NAME and ${NAME}; $$ is a dollar sign. *path is the caller's to free, NULL where it
 * fails: ESP_EUSAGE naming the variable or user. Local. */
esp_status esp_path_expand(char **path, const char *text);

/* The text that gives that path again; the caller frees. Local. */
char *esp_path_unexpand(const char *path);

/* Names of recipes, NULL beyond the last. Local. */
const char *esp_recipe_name(unsigned i);

/* Sets what is not given to what the recipe says. Local. */
void esp_recipe_apply(esp_config *c);

/* Whether recipes say something of an option; value [out]: its value by each recipe. Borrowed. Local. */
bool esp_recipe_values(const char **value, const esp_option *o);

/* Checks settings against each other, and sets those that follow from others; warns of those without effect.
 * ESP_EUSAGE. Local. */
esp_status esp_config_validate(esp_config *c);

/* The option that had this path in an earlier version, NULL when none had. Local. */
const esp_option *esp_option_of_old(const char *path);

/* wide [out, owned, also after a failure]: a copy of the text of a libconfig file with L behind whole numbers
 * that need 64 bits: without it libconfig 1.5 takes the lower 32 in silence. ESP_EUSAGE for those that need
 * more, of which it takes the largest, and where an included file lacks an L. Local. */
esp_status esp_config_widen(char **wide, const char *text, const char *file);

/* The option whose path is nearest to what somebody wrote. Local. */
const esp_option *esp_option_nearest(const char *path);

#endif
