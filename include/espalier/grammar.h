/* grammar.h - a corpus of which everything is known: little stories from a stochastic grammar with
 * memory, written by a seed.
 *
 * Names, places and things come back as they were introduced, counts and sums agree, and a question at
 * the end has an answer that depends on the story. The text determines every choice that was made, so
 * the probability of a text is the product of those of its choices, and no model of language can, on
 * average, predict the stories in fewer nats than the generator states.
 */
#ifndef ESPALIER_GRAMMAR_H
#define ESPALIER_GRAMMAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "espalier/status.h"

/* Writes to the file path n_stories documents, separated by empty lines, that esp_corpus_read takes. Story i
 * depends on (seed, i) alone. nats_per_byte [out]: -log of the probability of all of them over their bytes,
 * without the separators; to compare with a model's summed loss over the same bytes. Errors of
 * esp_file_write. Local. */
esp_status esp_grammar_write(const char *path, size_t n_stories, uint64_t seed,
                             double *nats_per_byte);

/* Whether the file begins with the first story of that seed, so that esp_grammar_write made it. Local. */
bool esp_grammar_made(const char *path, uint64_t seed);

#endif
