/* graph_impl.h - the neurons of a whole model, and which of them go together.
 *
 * A neuron is one index of one value of one layer; the output of a block is the input of the next one.
 * The vocabulary is not in the graph: tokens and logits are what a model is asked, never a group.
 */
#ifndef ESPALIER_GRAPH_IMPL_H
#define ESPALIER_GRAPH_IMPL_H

#include "espalier/groups.h"

/* One side of one weight, or a slice of it: index k of its n is index i = esp_slice_index(slice, k) of
 * the side and neuron first + i. */
typedef struct esp_graph_side {
    size_t layer; /* ESP_NO_LAYER for slots outside the blocks */
    int slot;
    const char *label; /* borrowed */
    esp_side side;
    size_t first, length; /* of the whole side */
    esp_slice slice;
    size_t n;
} esp_graph_side;

typedef struct esp_graph {
    size_t n;              /* neurons                                                            */
    uint32_t *aligned;     /* [n] owned; smallest neuron of the same channel: partners by index  */
    uint32_t *tied;        /* [n] owned; smallest neuron of the same group: channels of a head   */
    uint8_t *kind;         /* [n] owned; esp_unit_kind, equal within a group                     */
    esp_graph_side *sides; /* [n_sides] owned, in order of execution                             */
    size_t n_sides;
} esp_graph;

/* Needs shapes only. queries: keys and values stay, so that a query head is tied to none of them, and of kind
 * ESP_UNIT_QUERY; the kind of keys and values means nothing then. Local. */
void esp_graph_build(esp_graph *g, const esp_model *m, bool queries);
void esp_graph_free(esp_graph *g); /* safe twice and on {0} */

#endif
