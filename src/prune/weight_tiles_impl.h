/* weight_tiles_impl.h - G and F of a weight, a tile at a time: sums over samples of their gradients, and of
 * the squares of these.
 *
 * A weight is cut into tiles of fixed size, counted down one column of tiles after another. The sums of a
 * tile stay in the second-level cache while all samples are added. Nothing of this depends on the number of
 * threads.
 */
#ifndef ESPALIER_WEIGHT_TILES_IMPL_H
#define ESPALIER_WEIGHT_TILES_IMPL_H

#include "espalier/bf16.h"
#include "sample_gather_impl.h"

#define ESP_GRADIENT_ROWS ((size_t)72)
#define ESP_GRADIENT_COLS ((size_t)256)
#define ESP_GRADIENT_TILE (ESP_GRADIENT_ROWS * ESP_GRADIENT_COLS)

typedef struct esp_weight_tiles {
    bool gradient, fisher;   /* whether G, F are asked for                                       */
    esp_precision precision; /* of the products                                                  */
    float *scratch;          /* owned: a tile for each thread                                    */
    esp_bf16 *bf16;          /* owned; NULL unless they are in bf16                              */
    esp_bf16_buffer dy, x;   /* owned: operands of such a product                                */
} esp_weight_tiles;

/* For n_threads; where bytes is not NULL it is of sizes alone, and only adds what it would take. Local. */
void esp_weight_tiles_make(esp_weight_tiles *t, const esp_model *m, bool gradient, bool fisher,
                           size_t n_threads, size_t *bytes);
void esp_weight_tiles_free(esp_weight_tiles *t); /* safe twice and on {0} */

size_t esp_weight_tiles_count(const esp_weight *w);
esp_weight_tile esp_weight_tiles_at(const esp_weight *w, size_t i);

typedef struct esp_weight_tile_sums { /* [n_rows, n_cols] each; NULL where it is not asked for */
    double *g, *f;
} esp_weight_tile_sums;

/* Numbers of the sums of tiles first .. end - 1: a tile's G, then its F, tile after tile. */
size_t esp_weight_tiles_numbers(const esp_weight_tiles *t, const esp_weight *w, size_t first,
                                size_t end);

/* Those of tile i in sums, which begin with tile `first`. */
esp_weight_tile_sums esp_weight_tiles_sums(const esp_weight_tiles *t, const esp_weight *w,
                                           double *sums, size_t first, size_t i);

/* Scratch of the calling thread, a tile. */
float *esp_weight_tiles_scratch(const esp_weight_tiles *t);

/* A tile of the weight itself in f32.  to [n_rows, n_cols] */
void esp_weight_tiles_load(float *to, const esp_weight_tile *at, const esp_weight *w);

/* The gradient with the operands of its product in the precision of the model, n_tok tokens of the samples
 * whose rows are given. By all threads. */
esp_weight_gradient esp_weight_tiles_round(esp_weight_tiles *t, const esp_weight *w,
                                           const esp_weight_gradient *d, const esp_rows *rows,
                                           size_t n_tok);

/* Adds the bytes that the operands grow by for that. t: of sizes alone. Local. */
void esp_weight_tiles_round_sizes(esp_weight_tiles *t, const esp_weight *w,
                                  const esp_gradient_source *from, size_t n_tok, size_t *bytes);

/* sums = G and F of tile i over the samples whose rows are given. By the calling thread alone. */
void esp_weight_tiles_fill(const esp_weight_tiles *t, double *sums, const esp_weight *w,
                           const esp_weight_gradient *d, const esp_rows *rows, size_t i);

#endif
