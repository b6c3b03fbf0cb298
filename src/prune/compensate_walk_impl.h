/* compensate_walk_impl.h - two streams through the layers, and what is done on the way. */
#ifndef ESPALIER_COMPENSATE_WALK_IMPL_H
#define ESPALIER_COMPENSATE_WALK_IMPL_H

#include "compensate_impl.h"

/* What is computed with: of this rank. */
typedef struct esp_walk {
    esp_remnant *remnant;
    const esp_compensate_options *options;
    const esp_compensate_calls *calls;
    const esp_grid *grid;
    const char *dir;
    const esp_groups *groups; /* of a walk that chooses; NULL: the plan is made          */
    esp_plan *plan;           /* then the groups that stay as far as they have been chosen */
    esp_projection *list;     /* [n] owned; of all layers, in order                */
    size_t n;
    size_t begin, end; /* layers of what is left that are this pipeline stage's */
    esp_grid alone;    /* of the passes: one pipeline stage */
    esp_pass dense, pruned;
    esp_batch batch;
    bool counts;          /* the batch is this rank's own; else it only keeps step */
    size_t at_dense;      /* the layer that the dense stream goes into next        */
    esp_tensor_ref *refs; /* [n_refs] owned; of what is left                     */
    size_t n_refs;
    void **held_tensors; /* [n_refs] owned, each owned: numbers of tensors made for now */
    struct {
        void *numbers; /* owned */
        int slot;
    } result[ESP_MOST_PROJECTIONS]; /* [n_results] of the layer under way */
    size_t n_results;
    /* of the projection that is measured: */
    int slot;
    esp_gram fit, held; /* over samples, and over those held out */
    const float *y;     /* of the chunk, of the dense block      */
    float *target;      /* [chunk_tok, rows] owned               */
    float *scratch;     /* owned                                 */
} esp_walk;

/* Whether nothing is left to be done from a layer on. Local. */
bool esp_walk_is_done(const esp_walk *w, size_t layer);

/* Name of a projection in its block. Borrowed. Local. */
const char *esp_walk_role(const esp_walk *w, const esp_projection *p);

/* ---- compensate_streams.c ----------------------------------------------------------------------- */

void esp_walk_init(esp_walk *w, const esp_samples *samples); /* Local. */
void esp_walk_free(esp_walk *w);                             /* but for the list. Local. */

/* A weight of what is left. Borrowed. Local. */
esp_weight *esp_walk_weight(esp_walk *w, size_t layer, int slot);

/* The tensors of a layer have numbers from hold to drop, which drops results, too. Local. */
void esp_walk_hold(esp_walk *w, size_t layer);
void esp_walk_drop(esp_walk *w, size_t layer);

/* A layer that is held is cut as the plan now says. Local. */
void esp_walk_recut(esp_walk *w, size_t layer);

/* From now on a projection of a layer that is held has these numbers, which lie in `result`; result becomes
 * the walk's. Local. */
void esp_walk_take_result(esp_walk *w, const esp_projection *p, void *result, const char *data,
                          const char *bias);

/* Embeddings, or what the pipeline stage before passes on: its status first. What goes to the next one. Both
 * Collective on the stages of a pipeline. */
esp_status esp_walk_begin(esp_walk *w);
void esp_walk_end(esp_walk *w, esp_status st);

/* The dense stream up to a layer of the model (target own has none); the other one through a layer. Local. */
void esp_walk_dense(esp_walk *w, size_t to);
void esp_walk_pruned(esp_walk *w, size_t layer);

/* w->fit and w->held of a projection, of all samples; to be freed. Collective on the grid's data. */
void esp_walk_measure(esp_walk *w, const esp_projection *p);

/* ---- selection.c -------------------------------------------------------------------------------- */

/* Chooses the groups of p->unit that go, by the sums of the walk: they go from its plan and from the sums,
 * and the file of the choice is written. ESP_EFAILED, ESP_EIO. Collective on the grid's data. */
esp_status esp_selection_choose(esp_walk *w, const esp_projection *p);

/* Of the groups of a unit all stay but order[n]. Local. */
void esp_selection_apply(esp_plan *plan, const esp_unit *u, const int32_t *order, size_t n);

/* ---- compensate_walk.c -------------------------------------------------------------------------- */

/* What is said of a projection. Local. */
void esp_walk_report(esp_walk *w, esp_projection *p, const esp_damping *d);

/* Through all layers, and what is not found is made. Collective on grid->world. */
esp_status esp_walk_all(esp_walk *w, const esp_samples *samples);

#endif
