/* grammar_impl.h - the rules of the stories and the machine that follows them.
 *
 * A rule is a list of alternatives between bars. An alternative is text with actions in braces:
 *     {rule}         an alternative of the rule         {slot}          what the slot holds
 *     {put s rule}   as {rule}, and s holds it          {new s rule}    the same, but nothing that some
 *     {let s word}   s holds the word; no text                          slot holds already
 *     {copy s t}     s holds what t does; no text       {less s t}      a number from 1 to t - 1 into s
 *     {sum s t u}    s = t + u                          {rest s t u}    s = t - u
 * An alternative that begins with [s] can be chosen only when slot s holds something.
 *
 * Any two alternatives of a rule are the same up to a first letter in which they differ, and numbers that
 * are drawn have one digit. So a reader who knows the rules can tell every choice from the text, and the
 * probability of a text is the product of those of its choices.
 */
#ifndef ESPALIER_GRAMMAR_IMPL_H
#define ESPALIER_GRAMMAR_IMPL_H

#include <stdbool.h>

#include "espalier/bytes.h"

#define ESP_GRAMMAR_CHOICES 64 /* alternatives of a rule at most */
#define ESP_GRAMMAR_SLOTS   32
#define ESP_GRAMMAR_WORD    32 /* bytes of a name or of what a slot holds, with the 0 */

typedef struct esp_rule {
    const char *name;
    bool falling; /* of n alternatives the first has weight n, the last 1; else all are alike */
    const char *text;
} esp_rule;
extern const esp_rule esp_rules[];
extern const size_t esp_n_rules;

/* The next alternative of a rule's text: *n bytes from *at. Begin with *at = text and *n = 0; false
 * after the last. Local. */
bool esp_rule_next(const char **at, size_t *n);

/* A text on the way. Zeroed but for pick. */
typedef struct esp_derivation {
    size_t (*pick)(void *state, const unsigned *weight, size_t n); /* index of an alternative */
    void *state;
    esp_byte_string text;
    double nats; /* -log of the probability of all choices made */
    struct {
        char name[ESP_GRAMMAR_WORD], holds[ESP_GRAMMAR_WORD];
    } slot[ESP_GRAMMAR_SLOTS];
    size_t n_slots;
} esp_derivation;

/* A pick by the weights; state is an esp_rng. Local. */
size_t esp_grammar_pick(void *state, const unsigned *weight, size_t n);

/* Appends a text of the rule. A mistake in the rules aborts: they are part of the program. Local. */
void esp_grammar_derive(esp_derivation *d, const char *rule);

#endif
