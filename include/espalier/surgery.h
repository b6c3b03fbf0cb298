/* surgery.h - the cut: kept rows and columns of the mapped tensors into a new model folder.
 *
 * A row or column goes when the group it belongs to goes; what belongs to no group stays. Numbers stay as
 * they are but for two factors that inference engines derive from config.json: a residual that counts sqrt(2
 * L) times where layers go, and embedded tokens that count sqrt(D) times where channels go. The weights
 * beside them are multiplied by what makes up for the change, once rounded to their type.
 */
#ifndef ESPALIER_SURGERY_H
#define ESPALIER_SURGERY_H

#include "espalier/plan.h"
#include "espalier/tensor_writer.h"

/* Numbers that take the place of a weight's. */
typedef struct esp_replaced {
    const void *data,
        *bias; /* [rows, cols] and [rows] of the weight left, in its type; NULL: none; borrowed */
} esp_replaced;

/* What a plan leaves of a model, weight by weight. */
typedef struct esp_remnant {
    const esp_model *model; /* borrowed                                                         */
    esp_model left;         /* owned; shapes of what is left. Its layers are numbered from 0    */
    size_t *layer;          /* [left layers] owned: the number each has in the model            */
    esp_kept_groups
        *side[2];  /* [n_layers * n_slots] owned: kept rows and columns; total 0: all are kept */
    float *factor; /* [n_slots] owned: of the weights, see the head of this file               */
    esp_replaced *replaced; /* [left layers * n_slots] owned */
} esp_remnant;

/* c [out, owned]: what plan p leaves of m, whose groups are g. Local. */
void esp_remnant_init(esp_remnant *c, const esp_model *m, const esp_groups *g, const esp_plan *p);
void esp_remnant_free(esp_remnant *c); /* safe twice and on {0} */

size_t esp_remnant_bytes(const esp_model *m, const esp_groups *g,
                         const esp_model *left); /* Local. */

/* c becomes what another plan leaves that keeps as many layers; what replaces weights goes on doing so. The
 * tables of c->left are others afterwards, without numbers. Local. */
void esp_remnant_recut(esp_remnant *c, const esp_groups *g, const esp_plan *p);

/* Rows first .. first + n - 1 of tensor t of c->left, in its type: those of the model that are kept, or what
 * replaces them. Local. */
void esp_remnant_rows(void *out, const esp_remnant *c, const esp_tensor_ref *t, size_t first,
                      size_t n);

/* The numbers of a tensor where they lie together: what replaces it, or the model's, all and unchanged;
 * borrowed. NULL where esp_remnant_rows has to make them. Local. */
const void *esp_remnant_in_place(const esp_remnant *c, const esp_tensor_ref *t);

/* The rows of the model's weight that make those of the weight of c->left, and the factor by which these are
 * multiplied. Borrowed; total 0: all rows. Local. */
const esp_kept_groups *esp_remnant_source_rows(float *factor, const esp_remnant *c, size_t layer,
                                               int slot);

/* The columns of the model's weight that make those of the weight of c->left; likewise. Local. */
const esp_kept_groups *esp_remnant_source_cols(const esp_remnant *c, size_t layer, int slot);

/* From now on these numbers are those of a weight of a block of c->left. Local. */
void esp_remnant_replace(esp_remnant *c, size_t layer, int slot, esp_replaced by);

/* Writes c->left: the same dtypes, biases with their rows. digest [out]: of the model written; NULL: not
 * wanted. Errors are those of esp_model_save. Collective on comm. */
esp_status esp_remnant_save(char digest[ESP_DIGEST_SIZE], esp_output to, esp_remnant *c,
                            MPI_Comm comm);

/* The same of what plan p leaves of m, without more. g are the groups of m. Collective on comm. */
esp_status esp_surgery(char digest[ESP_DIGEST_SIZE], esp_output to, const esp_model *m,
                       const esp_groups *g, const esp_plan *p, MPI_Comm comm);

/* Bytes of memory that it takes where the model left has the shapes of `to`. Local. */
size_t esp_surgery_bytes(const esp_model *m, const esp_groups *g, const esp_model *to,
                         const esp_writer *writer);

#endif
