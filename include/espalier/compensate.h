/* compensate.h - after the cut, projections whose inputs were cut are fitted to what the whole ones gave
 * (docs/method.md, eq. 39 to 43).
 *
 * Two streams of the same tokens go through the layers: the dense model, and what is left of it,
 * compensated up to there. Block by block, first the output projection of attention, then, with its inputs
 * computed anew, that of the MLP: sums over tokens of its inputs in the one stream and of the branch in the
 * other, and a damped least-squares solve. Each result is a file of a folder, complete or not there: who is
 * interrupted goes on with the projection that was under way.
 */
#ifndef ESPALIER_COMPENSATE_H
#define ESPALIER_COMPENSATE_H

#include "espalier/batch.h"
#include "espalier/file.h"
#include "espalier/groups.h"
#include "espalier/least_squares.h"
#include "espalier/surgery.h"
#include "espalier/work.h"

typedef enum esp_compensation {
    ESP_COMPENSATE_NONE,
    ESP_COMPENSATE_LEAST_SQUARES,
    ESP_N_COMPENSATIONS
} esp_compensation;

/* What a projection of what is left is to give. */
typedef enum esp_branch {
    ESP_BRANCH_DENSE, /* the branch of the dense stream                                     */
    ESP_BRANCH_OWN,   /* the branch of the dense block, of the input that the pruned one has */
    ESP_N_BRANCHES
} esp_branch;

/* "none" "least_squares"; "dense" "own". NULL after the last. Local. */
const char *esp_compensation_name(unsigned compensation);
const char *esp_branch_name(unsigned branch);

typedef struct esp_compensate_options {
    double damping; /* 0: the best on held-out samples                        */
    esp_branch target;
    bool cut_only;       /* projections that lose no number stay as they are       */
    size_t holdout;      /* samples holdout - 1, 2 holdout - 1, ... are held out; 0: none */
    size_t chunk_tok;    /* tokens of a chunk at most, but one sample; 0: as usual   */
    bool choose_only;    /* esp_reconstruct: what is left is not fitted                  */
    const char *scratch; /* of the streams, see esp_spill_buffer_init               */
} esp_compensate_options;

typedef struct esp_compensate_news {
    size_t layer; /* of what is left */
    const char *projection;
    size_t done, total;
    size_t n_gone; /* groups that have been chosen to go; 0: none were to be */
    esp_damping damping;
} esp_compensate_news;

/* Of the caller; each may be NULL. */
typedef struct esp_compensate_calls {
    void *ctx;
    void (*report)(void *ctx,
                   const esp_compensate_news *n); /* after each projection, on its ranks */
    bool (*stop)(void *ctx);                      /* read before each projection         */
} esp_compensate_calls;

/* The results, which the remnant borrows. */
typedef struct esp_compensated {
    esp_map *files; /* [n] owned */
    size_t n;
} esp_compensated;

/* Afterwards the remnant has the compensated numbers (esp_remnant_replace). dir: a folder that is there, of
 * which ESP_COMPENSATE_NAMES are the files; those that are whole are taken as they are. done [out, owned]
 * must outlive the use of the remnant. ESP_EUSAGE for too few samples to hold out any, or target own where
 * hidden channels are cut; ESP_EFORMAT for inputs that are not finite, ESP_EFAILED where a damping that was
 * set does not suffice; ESP_ESTOPPED, ESP_EIO. The same status on all ranks. Collective on grid->world. */
esp_status esp_compensate(esp_compensated *done, esp_remnant *remnant, const esp_samples *samples,
                          const esp_compensate_options *o, const char *dir,
                          const esp_compensate_calls *calls, const esp_grid *grid);
void esp_compensated_free(esp_compensated *done); /* safe twice and on {0} */

/* Patterns of the names of the files, for esp_folder_make. */
#define ESP_COMPENSATE_NAMES "*.projection", "*.choice"

/* How the error of a projection rises, in the sense of reconstruction.h, as groups of its inputs go. */
typedef struct esp_curve {
    const esp_unit *unit; /* borrowed, as the arrays                                 */
    size_t n_gone;
    const int32_t *order; /* [n_gone]; groups in the order in which they go          */
    const double *error;  /* [n_gone + 1]; with all of them, without the first ..     */
    double squares;       /* sum of |y|^2 over the tokens, in the unit of the errors */
    double tokens;
} esp_curve;

typedef struct esp_choices {
    esp_curve *curve; /* [n] owned; by layer, attention before MLP; n = 0 where it failed */
    size_t n;
    esp_map *files; /* [n_files] owned; which curves are of */
    size_t n_files;
} esp_choices;

/* Chooses the groups that go by what the projections behind them lose (docs/method.md, eq. 55 to 57), on the
 * walk of esp_compensate: of each projection in turn the groups that go, then the fit of what is left, whose
 * result is that of an esp_compensate by the same options in the same folder, which takes it as it is. plan
 * [in]: a plan that esp_plan_make has made of m, on each rank, of key/value heads or query heads and of MLP
 * groups: how many stay of each unit; [out]: which. done
 * [out, owned] has its curves. Files, interruption, errors: as there. Collective on grid->world. */
esp_status esp_reconstruct(esp_choices *done, esp_plan *plan, const esp_model *m,
                           const esp_groups *groups, const esp_samples *samples,
                           const esp_compensate_options *o, const char *dir,
                           const esp_compensate_calls *calls, const esp_grid *grid);
void esp_choices_free(esp_choices *done); /* safe twice and on {0} */

/* What shapes and the number of samples tell before. Errors of esp_compensate that do. Local. */
esp_status esp_compensate_check(const esp_model *m, const esp_compensate_options *o,
                                bool hidden_cut, esp_text_size all);

/* Tokens of a chunk where there is no limit. Local. */
size_t esp_compensate_chunk(esp_text_size own);

/* Bytes of memory that it takes, where `left` has the shapes of what is left of m: of the rank of a grid with
 * texts `own`. Local. */
size_t esp_compensate_bytes(const esp_model *m, const esp_model *left,
                            const esp_compensate_options *o, esp_text_size own,
                            const esp_grid *grid);

/* What such a rank does, and the bytes that all ranks together send. */
typedef struct esp_compensate_work {
    esp_work work;
    double sums, activations, values;
} esp_compensate_work;

void esp_compensate_work_of(esp_compensate_work *w, const esp_model *m, const esp_model *left,
                            const esp_compensate_options *o, esp_text_size own,
                            const esp_grid *grid);

/* The same of esp_reconstruct. Local. */
size_t esp_reconstruct_bytes(const esp_model *m, const esp_groups *groups, const esp_model *left,
                             const esp_compensate_options *o, esp_text_size own,
                             const esp_grid *grid);
void esp_reconstruct_work_of(esp_compensate_work *w, const esp_model *m, const esp_model *left,
                             const esp_compensate_options *o, esp_text_size own,
                             const esp_grid *grid);

#endif
