/* gates.h - factors on what heads and neurons give, before the matrix that multiplies it.
 *
 * Flow: esp_gates_init -> esp_unit_scale_gates (groups.h) -> esp_pass.gates. In a block with gates m the
 * input x of o_proj and of down_proj (in general: of a matrix whose columns are query heads or neurons) is
 * m x (docs/method.md, eq. 48). 1 changes no bit; 0 is the model without the head or neuron.
 */
#ifndef ESPALIER_GATES_H
#define ESPALIER_GATES_H

#include "espalier/model.h"

typedef struct esp_gates {
    const esp_model *model; /* borrowed */
    float *
        *at; /* [n_layers * n_values of a block] of [width] owned; NULL of values without gates */
} esp_gates;

/* Whether a value of a block may have gates. Local. */
bool esp_arch_has_gate(const esp_arch *a, int value);

/* g [out, owned]: ones for all layers of m, which must outlive it. Local. */
void esp_gates_init(esp_gates *g, const esp_model *m);
size_t esp_gates_bytes(const esp_model *m); /* that init allocates. Local. */
void esp_gates_reset(const esp_gates *g);   /* to ones. Local. */
void esp_gates_free(esp_gates *g);          /* safe twice and on {0} */

/* Factors [width] of a value of a layer, NULL where it has none. Borrowed, may be written. Local. */
float *esp_gates_at(const esp_gates *g, size_t layer, int value);

#endif
