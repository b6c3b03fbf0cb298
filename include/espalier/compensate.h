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
    const char *scratch; /* of the streams, see esp_spill_buffer_init               */
} esp_compensate_options;

typedef struct esp_compensate_news {
    size_t layer; /* of what is left */
    const char *projection;
    size_t done, total;
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

/* Pattern of the names of its files, for esp_folder_make. */
#define ESP_COMPENSATE_NAMES "*.projection"

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

#endif
