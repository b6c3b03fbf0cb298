/* compensate_solve.c - a projection from the sums over its tokens; data ranks share its rows out. */
#include <math.h>
#include <stdlib.h>

#include "compensate_impl.h"
#include "espalier/mem.h"
#include "espalier/traffic.h"

void esp_projection_rows(double *to, const esp_weight *w, size_t first, size_t n)
{
    size_t width = w->cols + w->has_bias, size = esp_dtype_size(w->dtype);
    float *row, bias;

    ESP_NEW(row, w->cols);
    for (size_t i = 0; i < n; i++) {
        esp_to_f32(row, (const char *)w->data + (first + i) * w->cols * size, w->dtype, w->cols);
        for (size_t k = 0; k < w->cols; k++) {
            to[i * width + k] = (double)row[k];
        }
        if (w->has_bias) {
            esp_to_f32(&bias, (const char *)w->bias + (first + i) * size, w->dtype, 1);
            to[i * width + w->cols] = (double)bias;
        }
    }
    free(row);
}

/* The same back, into the type of w. */
static void rows_from_f64(char *data, char *bias, const double *from, const esp_weight *w,
                          size_t first, size_t n)
{
    size_t width = w->cols + w->has_bias, size = esp_dtype_size(w->dtype);
    float *row;

    ESP_NEW(row, width);
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < width; k++) {
            row[k] = (float)from[i * width + k];
        }
        esp_from_f32(data + (first + i) * w->cols * size, w->dtype, row, w->cols);
        if (bias) {
            esp_from_f32(bias + (first + i) * size, w->dtype, row + w->cols, 1);
        }
    }
    free(row);
}

/* Every data rank has made its share of n rows of `bytes` each; afterwards all have all. Collective. */
static void gather_rows(char *rows, size_t n, size_t bytes, const esp_grid *grid)
{
    int *count, *place;

    ESP_NEW(count, (size_t)grid->n_data);
    ESP_NEW(place, (size_t)grid->n_data);
    for (int i = 0; i < grid->n_data; i++) {
        size_t begin, end;

        esp_share(&begin, &end, n, i, grid->n_data);
        count[i] = esp_count((end - begin) * bytes);
        place[i] = esp_count(begin * bytes);
    }
    esp_sent(ESP_SENT_VALUES, ESP_COST_REDUCE_SCATTER, n * bytes, grid->data);
    ESP_MPI(MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, rows, count, place, MPI_BYTE,
                           grid->data));
    free(count);
    free(place);
}

/* Rows first .. first + n - 1 into data and bias; false where there is no solution. */
static bool solve_rows(esp_damping *d, char *data, char *bias, const esp_weight *w, esp_gram *fit,
                       const esp_gram *held, double damping, size_t first, size_t n, MPI_Comm comm)
{
    esp_least_squares s;
    double *w0, *rows;
    bool solved = true;

    esp_least_squares_init(&s, fit->n, n);
    ESP_NEW(w0, n * fit->n);
    ESP_NEW(rows, n * fit->n);
    esp_projection_rows(w0, w, first, n);
    *d = esp_least_squares_choose(fit, held, damping, w0, rows, first, n, &s, comm);
    if (isfinite(d->value)) { /* with all samples */
        esp_gram_merge(fit, held);
        solved = esp_least_squares_solve(rows, w0, fit, d->value, first, n, &s);
    } else {
        solved = damping <= 0;
    }
    rows_from_f64(data, bias, isfinite(d->value) ? rows : w0, w, first, n);
    esp_least_squares_free(&s);
    free(w0);
    free(rows);
    return solved;
}

bool esp_projection_solve(esp_damping *d, char *data, char *bias, const esp_weight *w,
                          esp_gram *fit, const esp_gram *held, double damping, const esp_grid *grid)
{
    size_t first, end, size = esp_dtype_size(w->dtype);

    esp_share(&first, &end, w->rows, grid->i_data, grid->n_data);
    if (!solve_rows(d, data, bias, w, fit, held, damping, first, end - first, grid->data)) {
        return false;
    }
    gather_rows(data, w->rows, w->cols * size, grid);
    if (bias) {
        gather_rows(bias, w->rows, size, grid);
    }
    return true;
}
