/* bench_bf16.c - precision bf16 beside f32, one after the other: products of a width of 2048, score and
 * recovery of two layers of that width. In its rows the reference is f32 instead of sgemm. */
#include "bench_work.h"
#include "espalier/exporters.h"
#include "espalier/bf16.h"
#include "espalier/clock.h"

enum { D = 2048, F = 5632, LAYERS = 2, VOCAB = 4000 };
enum { SAMPLES = 10, LENGTH = 64, BATCH = 4, CUT = 128 };

static void open_model(esp_model *m, const esp_grid *grid)
{
    const esp_synth_options o = { .model_type = "llama",
                                  .hidden = D,
                                  .mlp = F,
                                  .layers = LAYERS,
                                  .heads = 16,
                                  .vocab = VOCAB,
                                  .max_positions = 512,
                                  .dtype = ESP_BF16,
                                  .std = 0.02,
                                  .rope_theta = 10000 };
    char *dir = esp_test_dir("model-2048");

    ESP_REQUIRE(esp_synth(esp_export_to(dir, "huggingface"), &o, grid->world) == ESP_OK);
    ESP_REQUIRE(esp_model_load(m, dir, grid->world) == ESP_OK);
    free(dir);
}

/* x W^T and dy W of [n_tok, D] with [D, F], as blocks have them: x in f32, rounded where that is needed. */
typedef struct products {
    float *x, *w, *y;
    uint16_t *w16;
    esp_bf16_buffer room;
    esp_batch batch;
} products;

static void multiply(bench_run *run, products *p, esp_precision precision, const esp_grid *grid)
{
    esp_bf16 *bf16 = esp_bf16_open(precision);
    size_t n = p->batch.n_tok;
    double began;

    ESP_MPI(MPI_Barrier(grid->world));
    began = esp_now();
    if (bf16) {
        esp_bf16_forward(bf16, p->y, esp_bf16_round(&p->room, p->x, n, D), p->w16, NULL, n, D, F);
        esp_bf16_backward_input(bf16, p->x, esp_bf16_round(&p->room, p->y, n, F), p->w16, n, D, F);
    } else {
        esp_linear_forward(p->y, p->x, esp_array_f32(p->w), NULL, D, F, &p->batch);
        esp_linear_backward_input(p->x, p->y, esp_array_f32(p->w), D, F, &p->batch);
    }
    run->tok_per_second = (double)n * grid->size / (esp_now() - began);
    run->flops_per_second = 4.0 * D * F * run->tok_per_second;
    esp_bf16_close(bf16);
}

static void bench_linear(const esp_model *m, const esp_samples *samples, const esp_grid *grid)
{
    size_t all[SAMPLES];
    bench_run runs[BENCH_REPEATS + 1], f32;
    products p = { 0 };

    esp_batch_init(&p.batch, SAMPLES, (size_t)SAMPLES * LENGTH);
    for (size_t j = 0; j < SAMPLES; j++) {
        all[j] = j;
    }
    esp_batch_fill(&p.batch, samples, all, SAMPLES);
    ESP_NEW(p.x, p.batch.n_tok * D);
    ESP_NEW(p.y, p.batch.n_tok * F);
    ESP_NEW(p.w, (size_t)D * F);
    ESP_NEW(p.w16, (size_t)D * F);
    esp_to_f32(p.w, esp_model_weight(m, 0, esp_arch_slot(m->arch, "gate_proj"))->data, ESP_BF16,
               (size_t)D * F);
    esp_from_f32(p.w16, ESP_BF16, p.w, (size_t)D * F);
    for (int i = 0; i <= BENCH_REPEATS; i++) { /* the first warms up */
        multiply(&f32, &p, ESP_PRECISION_F32, grid);
        multiply(&runs[i], &p, ESP_PRECISION_BF16, grid);
        runs[i].sgemm = f32.flops_per_second;
    }
    bench_print_of("linear bf16", "f32", runs + 1, BENCH_REPEATS, bench_peak(grid), grid);
    esp_batch_free(&p.batch);
    esp_bf16_buffer_free(&p.room);
    free(p.x);
    free(p.y);
    free(p.w);
    free(p.w16);
}

static void bench_scores(esp_model *m, const esp_samples *samples, const esp_grid *grid)
{
    bench_run runs[BENCH_REPEATS], f32;
    esp_groups groups;

    esp_groups_find(&groups, m);
    for (int i = 0; i < BENCH_REPEATS; i++) {
        m->precision = ESP_PRECISION_F32;
        bench_score(&f32, 1u << ESP_ELEMENT1, m, &groups, samples, 0, grid);
        m->precision = ESP_PRECISION_BF16;
        bench_score(&runs[i], 1u << ESP_ELEMENT1, m, &groups, samples, 0, grid);
        runs[i].sgemm = f32.flops_per_second;
    }
    bench_print_of("score bf16", "f32", runs, BENCH_REPEATS, bench_peak(grid), grid);
    esp_groups_free(&groups);
}

static void bench_recovery(esp_model *m, const esp_samples *samples, const esp_grid *grid)
{
    bench_run runs[BENCH_REPEATS], f32;

    for (int i = 0; i < BENCH_REPEATS; i++) {
        m->precision = ESP_PRECISION_F32;
        bench_recover(&f32, m, samples, BATCH / (size_t)grid->size, 0, grid);
        m->precision = ESP_PRECISION_BF16;
        bench_recover(&runs[i], m, samples, BATCH / (size_t)grid->size, 0, grid);
        runs[i].sgemm = f32.flops_per_second;
    }
    bench_print_of("recover bf16", "f32", runs, BENCH_REPEATS, bench_peak(grid), grid);
}

int main(int argc, char **argv)
{
    esp_samples short_ones = { 0 }, long_ones = { 0 };
    esp_model m;
    esp_grid grid;
    int provided;

    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided);
    esp_grid_init(&grid, 0, MPI_COMM_WORLD);
    if (esp_test_bf16()) {
        open_model(&m, &grid);
        bench_samples(&short_ones, &m, SAMPLES, LENGTH);
        bench_samples(&long_ones, &m, BATCH, CUT);
        bench_linear(&m, &short_ones, &grid);
        bench_scores(&m, &short_ones, &grid);
        bench_recovery(&m, &long_ones, &grid);
        esp_samples_free(&short_ones);
        esp_samples_free(&long_ones);
        esp_model_free(&m);
    }
    esp_grid_free(&grid);
    MPI_Finalize();
    return 0;
}
