/* sample_gather.c - rows of all ranks' samples, rank after rank. */
#include "sample_gather_impl.h"

#include <stdlib.h>

#include "espalier/mem.h"
#include "espalier/traffic.h"

#define MOST_BYTES ((size_t)256 << 20) /* of what is gathered for a weight */

/* Rank r has samples r, r + n_data, ... one after another, behind those of the ranks before it. */
static void place_samples(esp_sample_gather *g, const esp_samples *s)
{
    size_t step = (size_t)g->grid->n_data, at = 0, row = 0;

    for (size_t r = 0; r < step; r++) {
        size_t first = at, first_row = row;

        for (size_t j = r; j < s->n; j += step) {
            g->begin[j] = at;
            at += s->start[j + 1] - s->start[j];
            g->end[j] = at;
            g->sample[j] = row++;
        }
        g->tokens[r] = at - first;
        g->samples[r] = row - first_row;
    }
}

static void make_gather(esp_sample_gather *g, size_t n, const esp_grid *grid, size_t *bytes)
{
    size_t n_data = (size_t)grid->n_data;

    *g = (esp_sample_gather){ .grid = grid, .input = -1 };
    ESP_MAKE(g->begin, n, bytes);
    ESP_MAKE(g->end, n, bytes);
    ESP_MAKE(g->sample, n, bytes);
    ESP_MAKE(g->tokens, n_data, bytes);
    ESP_MAKE(g->samples, n_data, bytes);
    ESP_MAKE(g->counts, n_data, bytes);
    ESP_MAKE(g->at, n_data, bytes);
}

size_t esp_sample_gather_bytes(size_t n_samples, const esp_grid *grid)
{
    size_t bytes = 0;
    esp_sample_gather g;

    make_gather(&g, n_samples, grid, &bytes);
    return bytes;
}

void esp_sample_gather_init(esp_sample_gather *g, const esp_samples *samples, const esp_grid *grid)
{
    static const esp_samples none = { 0 };
    const esp_samples *s = samples ? samples : &none;

    make_gather(g, s->n, grid, NULL);
    g->n_tok = s->n ? s->start[s->n] : 0;
    g->rows = (esp_rows){ s->n, g->begin, g->end, g->sample };
    place_samples(g, s);
}

void esp_sample_gather_free(esp_sample_gather *g)
{
    for (int i = ESP_GATHER_DY; i <= ESP_GATHER_DX; i++) {
        free(g->buffer[i]);
    }
    free(g->begin);
    free(g->end);
    free(g->sample);
    free(g->tokens);
    free(g->samples);
    free(g->counts);
    free(g->at);
    *g = (esp_sample_gather){ 0 };
}

/* Fewer bytes, and not too many for the memory of a rank. */
bool esp_sample_gather_pays(const esp_sample_gather *g, const esp_weight *w, bool product,
                            bool looked_up, size_t sum_bytes)
{
    size_t per_token = (product ? w->rows + w->cols : 0) + (looked_up ? w->cols : 0);
    size_t bytes = g->n_tok * per_token * sizeof(float);

    return g->grid->n_data == 1 || (bytes <= MOST_BYTES && bytes <= w->rows * w->cols * sum_bytes);
}

/* Rows of `width` numbers of 4 bytes each: n[r] of them come from rank r. */
static const void *gather(esp_sample_gather *g, int what, const void *own, size_t width,
                          const size_t *n, MPI_Datatype type)
{
    size_t all = 0;

    for (int r = 0; r < g->grid->n_data; r++) {
        g->at[r] = esp_count(all);
        g->counts[r] = esp_count(n[r] * width);
        all += n[r] * width;
    }
    if (g->capacity[what] < all) {
        free(g->buffer[what]);
        g->buffer[what] = esp_calloc(all, sizeof(float));
        g->capacity[what] = all;
    }
    esp_sent(ESP_SENT_WEIGHT_GRADIENTS, ESP_COST_REDUCE_SCATTER, all * sizeof(float),
             g->grid->data);
    ESP_MPI(MPI_Allgatherv(own, g->counts[g->grid->i_data], type, g->buffer[what], g->counts, g->at,
                           type, g->grid->data));
    return g->buffer[what];
}

esp_weight_gradient esp_sample_gather_all(esp_sample_gather *g, const esp_weight *w,
                                          const esp_weight_gradient *own)
{
    esp_weight_gradient all = *own;

    if (g->grid->n_data == 1) {
        return all;
    }
    if (own->dy) {
        all.dy = gather(g, ESP_GATHER_DY, own->dy, esp_packed_width(ESP_FACTOR_DY, w->rows),
                        g->tokens, MPI_FLOAT);
        all.x = own->input >= 0 && own->input == g->input && own->layer == g->layer
                    ? g->buffer[ESP_GATHER_X]
                    : gather(g, ESP_GATHER_X, own->x, esp_packed_width(ESP_FACTOR_X, w->cols),
                             g->tokens, MPI_FLOAT);
        g->layer = own->layer;
        g->input = own->input;
    }
    if (own->norm_head_grad) {
        all.norm_head_grad =
            gather(g, ESP_GATHER_NORM_HEAD, own->norm_head_grad, w->rows, g->samples, MPI_FLOAT);
    }
    if (own->ids) {
        all.ids = gather(g, ESP_GATHER_IDS, own->ids, 1, g->tokens, MPI_INT32_T);
        all.dx = gather(g, ESP_GATHER_DX, own->dx, w->cols, g->tokens, MPI_FLOAT);
    }
    return all;
}
