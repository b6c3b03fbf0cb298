/* groups.h - what must be cut together, found from the architecture's wiring (paper, section 3.1).
 *
 * Flow: description -> neurons (indices of values, docs/method.md) and their dependencies (union of
 * index-by-index partners, and of the channels of a head) -> units, each with groups -> structures: which
 * rows or columns of which weight belong to which channel of which group. Where several query heads share a
 * key/value head, they are groups of a unit of their own as well: what goes with one of them while keys and
 * values stay.
 */
#ifndef ESPALIER_GROUPS_H
#define ESPALIER_GROUPS_H

#include "espalier/gates.h"
#include "espalier/model.h"

typedef enum esp_unit_kind {
    ESP_UNIT_ATTENTION, /* key/value heads, each with its query heads           */
    ESP_UNIT_MLP,       /* intermediate channels                                */
    ESP_UNIT_HIDDEN,    /* channels of the residual stream                      */
    ESP_UNIT_QUERY,     /* query heads; of layers where several share a key/value head */
    ESP_N_UNITS
} esp_unit_kind;

/* "attention" "mlp" "hidden" "query"; NULL from ESP_N_UNITS on. Local. */
const char *esp_unit_name(esp_unit_kind k);

typedef enum esp_side { ESP_ROWS, ESP_COLS } esp_side; /* vectors have rows only */

/* One side of one weight, or a slice of it, as a part of a unit. A group owns the indices whose
 * channel lies in [g * channels_per_group, (g + 1) * channels_per_group). Several indices may share
 * a channel (the query heads of one key/value head). */
typedef struct esp_structure {
    size_t layer; /* ESP_NO_LAYER for slots outside the blocks         */
    int slot;
    const char *label; /* short name in importance.h5; borrowed from the description */
    esp_side side;
    size_t length;    /* rows or columns of the weight                     */
    int32_t *channel; /* [length] owned; -1: not part of this unit         */
} esp_structure;

typedef struct esp_unit {
    esp_unit_kind kind;
    size_t layer; /* ESP_NO_LAYER for hidden */
    size_t n_groups, channels_per_group;
    esp_structure *structures; /* [n_structures] owned, in order of execution */
    size_t n_structures;
} esp_unit;

typedef struct esp_groups {
    esp_unit *units; /* [n_units] owned: by layer attention, query, mlp; hidden last */
    size_t n_units;
} esp_groups;

/* g [out, owned]: the groups of m, the closed sets of the neuron graph of the whole model. Needs shapes only.
 * Borrows labels of m->arch. Local. */
void esp_groups_find(esp_groups *g, const esp_model *m);
size_t esp_groups_bytes(const esp_groups *g); /* that g owns, but for g->units. Local. */
void esp_groups_free(esp_groups *g);          /* safe twice and on {0} */

/* The columns of the matrix that multiplies what the groups of a unit of a layer give. Borrowed.
 * Local. */
const esp_structure *esp_unit_columns(const esp_unit *u);

/* Multiplies the factors in g of what the groups of a unit of a layer give by gate [n_groups]. Local. */
void esp_unit_scale_gates(const esp_gates *g, const esp_unit *u, const float *gate);

/* The unit of a kind in a layer (hidden: any layer). Of a query unit with n groups in a layer of K key/value
 * heads, those from g n / K on share number g of these. NULL when there is none. Borrowed. Local. */
const esp_unit *esp_groups_unit(const esp_groups *g, esp_unit_kind k, size_t layer);

#endif
