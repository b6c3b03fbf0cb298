/* sample_gather.c - rows of all ranks' samples, rank after rank. */
#include "sample_gather_impl.h"

#include <stdlib.h>

#include "espalier/mem.h"
#include "espalier/traffic.h"

#define MOST_BYTES ((size_t)256 << 20) /* of what is gathered for a weight */

void esp_sample_gather_make(esp_sample_gather *g, esp_text_size all, const esp_grid *grid,
                            size_t *bytes)
{
    size_t n_data = (size_t)grid->n_data;

    *g = (esp_sample_gather){ .grid = grid, .n_tok = all.tokens, .input = -1 };
    ESP_MAKE(g->begin, all.samples, bytes);
    ESP_MAKE(g->end, all.samples, bytes);
    ESP_MAKE(g->sample, all.samples, bytes);
    ESP_MAKE(g->tokens, n_data, bytes);
    ESP_MAKE(g->samples, n_data, bytes);
    ESP_MAKE(g->counts, n_data, bytes);
    ESP_MAKE(g->at, n_data, bytes);
    g->rows = (esp_rows){ all.samples, g->begin, g->end, g->sample };
}

/* Rank r has samples r, r + n_data, ... one after another, behind those of the ranks before it. */
void esp_sample_gather_place(esp_sample_gather *g, const esp_samples *s)
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

void esp_sample_gather_free(esp_sample_gather *g)
{
    for (int what = 0; what < ESP_N_GATHERED; what++) {
        esp_spill_buffer_free(&g->buffer[what]);
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
bool esp_sample_gather_pays(const esp_sample_gather *g, const esp_weight *w,
                            const esp_gradient_source *from, size_t sum_bytes)
{
    size_t per_token = (from->product ? w->rows + w->cols : 0) + (from->looked_up ? w->cols : 0);
    size_t bytes = g->n_tok * per_token * sizeof(float);

    return g->grid->n_data == 1 || (bytes <= MOST_BYTES && bytes <= w->rows * w->cols * sum_bytes);
}

/* Numbers of a row, 4 bytes each. */
static size_t width_of(esp_gathered what, const esp_weight *w)
{
    const size_t width[ESP_N_GATHERED] = { [ESP_GATHER_DY] =
                                               esp_packed_width(ESP_FACTOR_DY, w->rows),
                                           [ESP_GATHER_X] = esp_packed_width(ESP_FACTOR_X, w->cols),
                                           [ESP_GATHER_NORM_HEAD] = w->rows,
                                           [ESP_GATHER_IDS] = 1,
                                           [ESP_GATHER_DX] = w->cols };

    return width[what];
}

/* Bit set of 1u << esp_gathered: what is to be gathered now, without a value that is there already. */
static unsigned to_gather(esp_sample_gather *g, const esp_gradient_source *from)
{
    bool there = from->input >= 0 && from->input == g->input && from->layer == g->layer;
    unsigned set = 0;

    if (g->grid->n_data == 1) {
        return 0;
    }
    if (from->product) {
        set |= 1u << ESP_GATHER_DY | (there ? 0 : 1u << ESP_GATHER_X);
        g->layer = from->layer;
        g->input = from->input;
    }
    set |= from->normalized ? 1u << ESP_GATHER_NORM_HEAD : 0;
    return set | (from->looked_up ? 1u << ESP_GATHER_IDS | 1u << ESP_GATHER_DX : 0);
}

static void gather(esp_sample_gather *g, esp_gathered what, const void *own, const esp_weight *w)
{
    const size_t *n = what == ESP_GATHER_NORM_HEAD ? g->samples : g->tokens; /* rows of each rank */
    MPI_Datatype type = what == ESP_GATHER_IDS ? MPI_INT32_T : MPI_FLOAT;
    size_t all = 0, width = width_of(what, w);

    for (int r = 0; r < g->grid->n_data; r++) {
        g->at[r] = esp_count(all);
        g->counts[r] = esp_count(n[r] * width);
        all += n[r] * width;
    }
    esp_spill_buffer_fit(&g->buffer[what], all, NULL, NULL);
    esp_sent(ESP_SENT_WEIGHT_GRADIENTS, ESP_COST_REDUCE_SCATTER, all * sizeof(float),
             g->grid->data);
    ESP_MPI(MPI_Allgatherv(own, g->counts[g->grid->i_data], type, g->buffer[what].at, g->counts,
                           g->at, type, g->grid->data));
}

esp_weight_gradient esp_sample_gather_all(esp_sample_gather *g, const esp_weight *w,
                                          const esp_weight_gradient *own)
{
    const void *const rows[ESP_N_GATHERED] = { [ESP_GATHER_DY] = own->dy,
                                               [ESP_GATHER_X] = own->x,
                                               [ESP_GATHER_NORM_HEAD] = own->norm_head_grad,
                                               [ESP_GATHER_IDS] = own->ids,
                                               [ESP_GATHER_DX] = own->dx };
    unsigned set = to_gather(g, &own->from);

    if (g->grid->n_data == 1) {
        return *own;
    }
    for (esp_gathered what = 0; what < ESP_N_GATHERED; what++) {
        if (set >> what & 1) {
            gather(g, what, rows[what], w);
        }
    }
    return (esp_weight_gradient){ .from = own->from,
                                  .dy = g->buffer[ESP_GATHER_DY].at,
                                  .x = g->buffer[ESP_GATHER_X].at,
                                  .norm_head_grad = g->buffer[ESP_GATHER_NORM_HEAD].at,
                                  .ids = (const void *)g->buffer[ESP_GATHER_IDS].at,
                                  .dx = g->buffer[ESP_GATHER_DX].at };
}

size_t esp_sample_gather_all_sizes(esp_sample_gather *g, const esp_weight *w,
                                   const esp_gradient_source *from, size_t *bytes)
{
    unsigned set = to_gather(g, from);
    size_t sent = 0;

    for (esp_gathered what = 0; what < ESP_N_GATHERED; what++) {
        size_t n_rows = what == ESP_GATHER_NORM_HEAD ? g->rows.n : g->n_tok;
        size_t n = n_rows * width_of(what, w);

        if (set >> what & 1) {
            esp_spill_buffer_fit(&g->buffer[what], n, NULL, bytes);
            sent += n * sizeof(float);
        }
    }
    return sent;
}
