/* compensate.c - projections whose groups are chosen, and which are fitted; what an earlier call has left of
 * that, and the rest of it.
 */
#include "espalier/compensate.h"

#include <stdlib.h>

#include "compensate_walk_impl.h"
#include "espalier/mem.h"
#include "plan_impl.h"

/* ---- which projections -------------------------------------------------------------------------- */

/* Whether a projection has lost rows or columns. */
static bool is_cut(const esp_remnant *c, size_t layer, int slot)
{
    const esp_weight *w = esp_model_weight(&c->left, layer, slot);
    const esp_weight *whole = esp_model_weight(c->model, c->layer[layer], slot);

    return w->rows < whole->rows || w->cols < whole->cols;
}

/* Below the first cut both streams are the same. */
static void list_projections(esp_walk *w)
{
    bool differs = false;
    size_t n_layers = w->remnant->left.dims.n_layers, n_slots;
    int slot[ESP_MOST_PROJECTIONS];

    n_slots = esp_projection_slots(slot, w->remnant->model);
    ESP_NEW(w->list, n_layers * ESP_MOST_PROJECTIONS);
    for (size_t l = 0; l < n_layers; l++) {
        for (size_t i = 0; i < n_slots; i++) {
            bool cut = is_cut(w->remnant, l, slot[i]);

            differs = differs || cut || w->remnant->layer[l] != l;
            if (w->options->cut_only ? cut : differs) {
                w->list[w->n++] = (esp_projection){ .layer = l, .slot = slot[i] };
            }
        }
    }
}

/* ---- the whole ------------------------------------------------------------------------------------ */

/* Results of an earlier call, but for those whose choice is missing. Collective. */
static void find_results(esp_walk *w)
{
    for (size_t i = 0; i < w->n; i++) {
        esp_projection *p = &w->list[i];

        if (w->grid->rank == 0) {
            p->found =
                (!p->unit || p->found) && esp_projection_is_whole(w->dir, &w->remnant->left, p);
        }
        ESP_MPI(MPI_Bcast(&p->found, 1, MPI_C_BOOL, 0, w->grid->world));
    }
}

/* Every rank maps the results that are there and have not been mapped; rank 0 tells of those that it has not
 * made. Local. */
static esp_status use_results(esp_compensated *done, esp_walk *w)
{
    for (size_t i = 0; i < w->n; i++) {
        esp_projection *p = &w->list[i];
        const esp_projection_head *head;

        if (p->found && !done->files[i].data) {
            ESP_TRY(esp_projection_use(&done->files[i], w->remnant, w->dir, p));
            head = (const void *)done->files[i].data;
            if (w->grid->rank == 0 && !p->told) {
                esp_walk_report(w, p, &head->damping);
            }
        }
    }
    return ESP_OK;
}

/* Marks what this call has made. */
static void mark_made(esp_walk *w)
{
    for (size_t i = 0; i < w->n; i++) {
        w->list[i].found = true;
    }
}

esp_status esp_compensate(esp_compensated *done, esp_remnant *remnant, const esp_samples *samples,
                          const esp_compensate_options *o, const char *dir,
                          const esp_compensate_calls *calls, const esp_grid *grid)
{
    esp_walk w = { .remnant = remnant, .options = o, .calls = calls, .grid = grid, .dir = dir };
    esp_status st;

    list_projections(&w);
    *done = (esp_compensated){ .n = w.n };
    ESP_NEW(done->files, w.n);
    find_results(&w);
    st = esp_agree(grid->world, use_results(done, &w));
    if (st == ESP_OK && !esp_walk_is_done(&w, 0)) {
        st = esp_agree(grid->world, esp_walk_all(&w, samples));
        mark_made(&w);
        st = st == ESP_OK ? esp_agree(grid->world, use_results(done, &w)) : st;
    }
    free(w.list);
    return st;
}

void esp_compensated_free(esp_compensated *done)
{
    for (size_t i = 0; i < done->n; i++) {
        esp_map_close(&done->files[i]);
    }
    free(done->files);
    *done = (esp_compensated){ 0 };
}

/* ---- with a choice of the groups that go ------------------------------------------------------------ */

/* The unit of which groups go by the goal among the inputs of a projection that is cut. */
static const esp_unit *unit_of(const esp_groups *g, const esp_plan *goal, const esp_projection *p)
{
    const esp_unit *attention = esp_groups_unit(g, ESP_UNIT_ATTENTION, p->layer);
    const esp_kept_groups *kept = esp_plan_kept(goal, attention);

    if (esp_unit_columns(attention)->slot != p->slot) {
        return esp_groups_unit(g, ESP_UNIT_MLP, p->layer);
    }
    return kept->n < kept->total ? attention : esp_groups_unit(g, ESP_UNIT_QUERY, p->layer);
}

/* In what is left by the goal. */
static void list_choices(esp_walk *w, const esp_plan *goal)
{
    for (size_t i = 0; i < w->n; i++) {
        esp_projection *p = &w->list[i];

        if (is_cut(w->remnant, p->layer, p->slot)) {
            const esp_kept_groups *kept;

            p->unit = unit_of(w->groups, goal, p);
            kept = esp_plan_kept(goal, p->unit);
            p->n_gone = kept->total - kept->n;
        }
    }
}

/* Choices that are found and have not been mapped are, and the plan follows them. Local. */
static esp_status use_choices(esp_choices *done, esp_walk *w)
{
    for (size_t i = 0; i < w->n; i++) {
        const esp_projection *p = &w->list[i];

        if (p->unit && p->found && !done->files[i].data) {
            ESP_TRY(esp_choice_open(&done->files[i], w->dir, &w->remnant->left, p));
            done->curve[i] = esp_choice_curve(&done->files[i], p->unit);
            esp_selection_apply(w->plan, p->unit, done->curve[i].order, p->n_gone);
        }
    }
    return ESP_OK;
}

/* Choices of an earlier call; those whose fit is missing are made again. Collective. */
static esp_status find_choices(esp_choices *done, esp_walk *w)
{
    for (size_t i = 0; i < w->n; i++) {
        esp_projection *p = &w->list[i];

        p->found =
            p->unit && w->grid->rank == 0 && esp_choice_is_whole(w->dir, &w->remnant->left, p);
        ESP_MPI(MPI_Bcast(&p->found, 1, MPI_C_BOOL, 0, w->grid->world));
    }
    ESP_TRY(esp_agree(w->grid->world, use_choices(done, w)));
    esp_remnant_recut(w->remnant, w->groups, w->plan);
    if (!w->options->choose_only) {
        find_results(w);
    }
    for (size_t i = 0; i < w->n; i++) {
        if (w->list[i].unit && !w->list[i].found) {
            esp_selection_apply(w->plan, w->list[i].unit, NULL, 0);
            esp_map_close(&done->files[i]);
        }
    }
    return ESP_OK;
}

/* All that is found, of every pipeline stage, on every rank. Collective. */
static esp_status use_all(esp_choices *done, esp_compensated *fitted, esp_walk *w)
{
    esp_status st = use_choices(done, w);

    esp_remnant_recut(w->remnant, w->groups, w->plan);
    if (st == ESP_OK && !w->options->choose_only) {
        st = use_results(fitted, w);
    }
    return esp_agree(w->grid->world, st);
}

static esp_status choose_all(esp_choices *done, esp_compensated *fitted, esp_walk *w,
                             const esp_samples *samples)
{
    ESP_TRY(find_choices(done, w));
    ESP_TRY(use_all(done, fitted, w));
    if (!esp_walk_is_done(w, 0)) {
        ESP_TRY(esp_agree(w->grid->world, esp_walk_all(w, samples)));
        mark_made(w);
        ESP_TRY(use_all(done, fitted, w));
    }
    return ESP_OK;
}

/* Curves of the projections that were cut, one behind the other. */
static void finish(esp_choices *done, esp_plan *plan, const esp_walk *w)
{
    size_t n = 0;

    for (size_t i = 0; i < w->n; i++) {
        if (w->list[i].unit) {
            esp_selection_apply(plan, w->list[i].unit, done->curve[i].order, w->list[i].n_gone);
            done->curve[n++] = done->curve[i];
        }
    }
    done->n = n;
    esp_plan_seal(plan);
}

esp_status esp_reconstruct(esp_choices *done, esp_plan *plan, const esp_model *m,
                           const esp_groups *groups, const esp_samples *samples,
                           const esp_compensate_options *o, const char *dir,
                           const esp_compensate_calls *calls, const esp_grid *grid)
{
    esp_compensate_options of = *o;
    esp_remnant remnant;
    esp_plan now;
    esp_walk w = { .remnant = &remnant,
                   .options = &of,
                   .calls = calls,
                   .grid = grid,
                   .dir = dir,
                   .groups = groups,
                   .plan = &now };
    esp_compensated fitted;
    esp_status st;

    of.cut_only = o->cut_only || o->choose_only;
    esp_remnant_init(&remnant, m, groups, plan);
    list_projections(&w);
    list_choices(&w, plan);
    esp_plan_whole(&now, m);
    *done = (esp_choices){ .n_files = w.n };
    fitted = (esp_compensated){ .n = w.n };
    ESP_NEW(done->curve, w.n);
    ESP_NEW(done->files, w.n);
    ESP_NEW(fitted.files, w.n);
    st = choose_all(done, &fitted, &w, samples);
    if (st == ESP_OK) {
        finish(done, plan, &w);
    }
    esp_remnant_free(&remnant);
    esp_compensated_free(&fitted);
    esp_plan_free(&now);
    free(w.list);
    return st;
}

void esp_choices_free(esp_choices *done)
{
    for (size_t i = 0; i < done->n_files; i++) {
        esp_map_close(&done->files[i]);
    }
    free(done->files);
    free(done->curve);
    *done = (esp_choices){ 0 };
}
