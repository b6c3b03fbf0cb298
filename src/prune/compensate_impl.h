/* compensate_impl.h - what the files of the compensation share: which projections, and their results as
 * files. */
#ifndef ESPALIER_COMPENSATE_IMPL_H
#define ESPALIER_COMPENSATE_IMPL_H

#include "espalier/compensate.h"
#include "espalier/pass.h"

#define ESP_MOST_PROJECTIONS 2 /* of a block: of attention, of the MLP */

/* Slots of a block whose columns belong to a unit of it, in order of execution [ESP_MOST_PROJECTIONS];
 * returns how many. Local. */
size_t esp_projection_slots(int *slot, const esp_model *m);

/* A projection of what is left. */
typedef struct esp_projection {
    size_t layer;
    int slot;
    bool found; /* its file is there             */
    bool told;  /* it has been reported, of this rank */
} esp_projection;

/* ---- compensate_size.c -------------------------------------------------------------------------- */

/* Of both passes, for samples of a rank's own; alone: a grid of one pipeline stage, borrowed. Local. */
esp_pass_options esp_compensate_pass(const esp_compensate_options *o, esp_text_size own,
                                     const esp_grid *alone);

/* ---- compensate_solve.c ------------------------------------------------------------------------- */

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

#endif
