/* compensate_walk.c - block by block: sums over tokens, the groups that go, a solve, and on with what it
 * gave.
 */
#include <math.h>
#include <stdlib.h>

#include "compensate_walk_impl.h"
#include "espalier/log.h"
#include "espalier/mem.h"

/* ---- the solve ------------------------------------------------------------------------------------ */

static bool is_finite(const esp_gram *g)
{
    double sum = g->y2;

    for (size_t i = 0; i < g->n; i++) {
        sum += g->h[i * g->n + i];
    }
    return isfinite(sum);
}

static esp_status check_sums(const esp_walk *w, const esp_projection *p)
{
    return is_finite(&w->fit) && is_finite(&w->held)
               ? ESP_OK
               : esp_fail(ESP_EFORMAT,
                          "compensate: layer %zu, %s: its inputs, or what it is to give, are not "
                          "finite: weights are too large for f32 or broken; get the model anew",
                          p->layer, esp_walk_role(w, p));
}

/* The projection becomes what fits best, here and in its file. Collective on the grid's data. */
static esp_status solve(esp_damping *d, esp_walk *w, const esp_projection *p)
{
    const esp_weight *at = esp_walk_weight(w, p->layer, p->slot);
    double set = w->options->damping;
    char *data, *bias;
    void *result = esp_projection_make(&data, &bias, at);
    esp_status st = ESP_OK;

    if (!esp_projection_solve(d, data, bias, at, &w->fit, &w->held, set, w->grid)) {
        st = esp_fail(ESP_EFAILED,
                      "compensate: layer %zu, %s: its inputs are so alike that a damping of %g "
                      "leaves no solution: set a larger compensate.damping, or 0",
                      p->layer, esp_walk_role(w, p), isfinite(d->value) ? d->value : set);
    }
    st = esp_agree(w->grid->data, st);
    if (st == ESP_OK && w->grid->i_data == 0) {
        st = esp_projection_write(result, w->dir, &w->remnant->left, p, d);
    }
    esp_walk_take_result(w, p, result, data, bias);
    return esp_agree(w->grid->data, st);
}

/* ---- the walk ------------------------------------------------------------------------------------- */

void esp_walk_report(esp_walk *w, esp_projection *p, const esp_damping *d)
{
    esp_compensate_news n = { .layer = p->layer,
                              .projection = esp_walk_role(w, p),
                              .done = (size_t)(p - w->list) + 1,
                              .total = w->n,
                              .n_gone = p->n_gone,
                              .damping = *d };

    p->told = true;
    if (w->calls->report) {
        w->calls->report(w->calls->ctx, &n);
    }
}

static esp_status check_stop(const esp_walk *w, const esp_projection *p)
{
    int stop = w->calls->stop && w->calls->stop(w->calls->ctx);

    ESP_MPI(MPI_Allreduce(MPI_IN_PLACE, &stop, 1, MPI_INT, MPI_MAX, w->grid->data));
    return stop ? esp_fail(ESP_ESTOPPED,
                           "stopped on request before compensating %s of layer %zu; the same "
                           "command goes on",
                           esp_walk_role(w, p), p->layer)
                : ESP_OK;
}

/* What goes is chosen, where that is open, and what is left is fitted, where it is to be. */
static esp_status settle(esp_damping *d, esp_walk *w, const esp_projection *p)
{
    *d = (esp_damping){ .value = INFINITY };
    ESP_TRY(esp_agree(w->grid->data, check_sums(w, p)));
    if (p->unit) {
        ESP_TRY(esp_selection_choose(w, p));
    }
    return w->options->choose_only ? ESP_OK : solve(d, w, p);
}

static esp_status walk_projection(esp_walk *w, esp_projection *p)
{
    esp_damping d;
    esp_status st;

    ESP_TRY(check_stop(w, p));
    esp_walk_measure(w, p);
    st = settle(&d, w, p);
    esp_gram_free(&w->fit);
    esp_gram_free(&w->held);
    if (st == ESP_OK) {
        esp_walk_report(w, p, &d);
    }
    return st;
}

/* A layer of what is left, from the projection list[i] on; the streams end behind it. */
static esp_status walk_layer(esp_walk *w, size_t layer, size_t *i)
{
    esp_status st = ESP_OK;

    esp_walk_hold(w, layer);
    esp_walk_dense(w, w->remnant->layer[layer]);
    for (; st == ESP_OK && *i < w->n && w->list[*i].layer == layer; (*i)++) {
        if (!w->list[*i].found) {
            st = walk_projection(w, &w->list[*i]);
        }
    }
    if (st == ESP_OK) {
        esp_walk_pruned(w, layer);
    }
    esp_walk_drop(w, layer);
    return st;
}

/* The layers of this rank; those behind the last projection need not be run. */
static esp_status walk_layers(esp_walk *w)
{
    size_t i = 0;

    for (size_t l = w->begin; l < w->end && !esp_walk_is_done(w, l); l++) {
        while (i < w->n && w->list[i].layer < l) {
            i++;
        }
        ESP_TRY(walk_layer(w, l, &i));
    }
    return ESP_OK;
}

esp_status esp_walk_all(esp_walk *w, const esp_samples *samples)
{
    esp_status st;

    esp_walk_init(w, samples);
    st = esp_walk_begin(w);
    st = st == ESP_OK ? walk_layers(w) : st;
    esp_walk_end(w, st);
    esp_walk_free(w);
    return st;
}
