/* compensate_impl.h - what the files of the compensation share: which projections, and their results as
 * files. */
#ifndef ESPALIER_COMPENSATE_IMPL_H
#define ESPALIER_COMPENSATE_IMPL_H

#include "espalier/compensate.h"
#include "espalier/pass.h"
#include "espalier/reconstruction.h"

#define ESP_MOST_PROJECTIONS 2 /* of a block: of attention, of the MLP */

/* Slots of a block whose columns belong to a unit of it, in order of execution [ESP_MOST_PROJECTIONS];
 * returns how many. Local. */
size_t esp_projection_slots(int *slot, const esp_model *m);

/* A projection of what is left. */
typedef struct esp_projection {
    size_t layer;
    int slot;
    bool found;           /* its files are there           */
    bool told;            /* it has been reported, of this rank */
    const esp_unit *unit; /* whose groups are to be chosen, borrowed; NULL: they have been */
    size_t n_gone;        /* of them */
} esp_projection;

/* ---- compensate_size.c -------------------------------------------------------------------------- */

/* Of both passes, for samples of a rank's own; alone: a grid of one pipeline stage, borrowed. Local. */
esp_pass_options esp_compensate_pass(const esp_compensate_options *o, esp_text_size own,
                                     const esp_grid *alone);

/* ---- compensate_solve.c ------------------------------------------------------------------------- */

/* Rows of a weight, its bias as the last column.  to [n, cols + has_bias]. Local. */
void esp_projection_rows(double *to, const esp_weight *w, size_t first, size_t n);

/* data and bias (NULL: none) [out], in the type of w: the projection w fitted to the sums, with the damping
 * chosen on those held out, or the one that is set (above 0); fit has the sums of all samples afterwards.
 * False, on all ranks, where there is no solution. Collective on grid->data, where all ranks have the same
 * sums. */
bool esp_projection_solve(esp_damping *d, char *data, char *bias, const esp_weight *w,
                          esp_gram *fit, const esp_gram *held, double damping,
                          const esp_grid *grid);

/* ---- compensate_file.c --------------------------------------------------------------------------- */

/* A result as it lies in its file: this, the weight, its bias. */
typedef struct esp_projection_head {
    uint64_t digest[ESP_DIGEST_WORDS]; /* of all that follows */
    esp_damping damping;
    uint8_t zero[24];
} esp_projection_head;

/* Bytes of a result; a zeroed one, whose weight and bias (NULL: none) are *data and *bias [out], with a head
 * still to be filled; the caller frees. Local. */
size_t esp_projection_bytes(const esp_weight *w);
void *esp_projection_make(char **data, char **bias, const esp_weight *w);

/* Path of the file in dir; the caller frees. Local. */
char *esp_projection_path(const char *dir, const esp_model *left, const esp_projection *p);

/* Completes a result and writes its file. ESP_EIO. Local. */
esp_status esp_projection_write(void *result, const char *dir, const esp_model *left,
                                const esp_projection *p, const esp_damping *d);

/* Whether the file is there and whole; one that is not is warned of, and made again. Local. */
bool esp_projection_is_whole(const char *dir, const esp_model *left, const esp_projection *p);

/* Maps the file, which replaces the weight of the remnant. Local. */
esp_status esp_projection_use(esp_map *file, esp_remnant *remnant, const char *dir,
                              const esp_projection *p);

/* ---- choice_file.c ------------------------------------------------------------------------------- */

/* A choice as it lies in its file: this, n_gone + 1 errors (f64), n_gone groups (int32). */
typedef struct esp_choice_head {
    uint64_t digest[ESP_DIGEST_WORDS]; /* of all that follows */
    uint64_t n_gone;
    double squares, tokens; /* sum of |y|^2, of so many tokens */
} esp_choice_head;

size_t esp_choice_bytes(size_t n_gone); /* of a file. Local. */

/* Completes a choice and writes its file. ESP_EIO. Local. */
esp_status esp_choice_write(esp_choice_head *choice, const char *dir, const esp_model *left,
                            const esp_projection *p);

/* Whether the file is there and whole; one that is not is warned of, and made again. Local. */
bool esp_choice_is_whole(const char *dir, const esp_model *left, const esp_projection *p);

/* Maps the file. ESP_EIO, ESP_EFAILED. Local. */
esp_status esp_choice_open(esp_map *file, const char *dir, const esp_model *left,
                           const esp_projection *p);

/* What a mapped file says. Borrowed. Local. */
esp_curve esp_choice_curve(const esp_map *file, const esp_unit *u);

/* Groups of a unit as inputs of its projection, in so many lanes; the caller frees input. Local. */
void esp_choice_groups(esp_input_groups *g, const esp_unit *u, size_t lanes);

/* Bytes of memory that the choice of n_gone groups of a unit takes beside its sums. Local. */
size_t esp_selection_bytes(const esp_weight *whole, const esp_unit *u, size_t n_gone,
                           const esp_grid *grid);

#endif
