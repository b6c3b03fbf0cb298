/* bench_scaling.c - two ranks against one, a thread each: strong, on the same samples, and weak, on twice as
 * many; one after the other, so that both meet the same machine. Beside it two single ranks that work at the
 * same time and share nothing, which is what the machine lets two ranks reach, and the spread of a single
 * rank's times. The ratio is 1 where two ranks are twice as fast as one. */
#include "bench_work.h"

enum { SAMPLES = 8, LENGTH = 64, N_RUNS = 5 };
enum { SCORE, RECOVER };

typedef struct work {
    int kind;
    esp_model *model;
    const esp_groups *groups;
    const esp_samples *once, *twice;
} work;

/* Tokens a second of a grid. */
static double speed(const work *w, const esp_samples *samples, const esp_grid *grid)
{
    bench_run run;

    if (w->kind == SCORE) {
        bench_score(&run, 1u << ESP_ELEMENT1 | 1u << ESP_MIX, w->model, w->groups, samples, 0,
                    grid);
    } else {
        bench_recover(&run, w->model, samples, SAMPLES / 2, 0, grid);
    }
    return run.tok_per_second;
}

/* The same of one rank alone, the others idle. Collective on grid->world. */
static double speed_of_one(const work *w, const esp_grid *alone, const esp_grid *grid)
{
    double s = 0;

    bench_meet(grid);
    if (grid->rank == 0) {
        s = speed(w, w->once, alone);
    }
    bench_meet(grid);
    ESP_MPI(MPI_Bcast(&s, 1, MPI_DOUBLE, 0, grid->world));
    return s;
}

/* Each round of two ranks stands between two of one. */
static void scale(const char *name, const work *w, const esp_grid *alone, const esp_grid *grid)
{
    double one[N_RUNS], strong[N_RUNS], weak[N_RUNS], both[N_RUNS];
    double tok = 0, spread, before;
    char *what;

    speed(w, w->once, grid); /* pages of the model, memory of the process */
    before = speed_of_one(w, alone, grid);
    for (int i = 0; i < N_RUNS; i++) {
        double sum = speed(w, w->once, alone), of_strong = speed(w, w->once, grid);
        double of_weak = speed(w, w->twice, grid), after = speed_of_one(w, alone, grid);

        ESP_MPI(MPI_Allreduce(MPI_IN_PLACE, &sum, 1, MPI_DOUBLE, MPI_SUM, grid->world));
        both[i] = sum / (before + after);
        strong[i] = of_strong / (before + after);
        weak[i] = of_weak / (before + after);
        one[i] = before = after;
        tok = of_strong;
    }
    spread = bench_median(one, N_RUNS);
    spread = (one[N_RUNS - 1] - one[0]) / spread; /* sorted now */
    what = esp_format("%s, strong scaling", name);
    bench_row(what, tok, "tokens/s", bench_median(strong, N_RUNS), "2 x one rank", 0, grid);
    free(what);
    what = esp_format("%s, weak scaling", name);
    bench_row(what, tok, "tokens/s", bench_median(weak, N_RUNS), "2 x one rank", 0, grid);
    free(what);
    what = esp_format("%s, two ranks apart", name);
    bench_row(what, tok, "tokens/s", bench_median(both, N_RUNS), "2 x one rank", 0, grid);
    free(what);
    what = esp_format("%s, noise", name);
    bench_row(what, 100 * spread, "% spread", NAN, "one rank, repeated", 0, grid);
    free(what);
}

int main(int argc, char **argv)
{
    esp_samples once = { 0 }, twice = { 0 };
    esp_groups groups;
    esp_model m;
    esp_grid grid, alone;
    int provided;

    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided);
    esp_grid_init(&grid, 1, MPI_COMM_WORLD);
    esp_grid_init(&alone, 1, MPI_COMM_SELF);
    if (grid.size == 2) {
        bench_model(&m, &grid);
        bench_samples(&once, &m, SAMPLES, LENGTH);
        bench_samples(&twice, &m, 2 * SAMPLES, LENGTH);
        esp_groups_find(&groups, &m);
        scale("score", &(work){ SCORE, &m, &groups, &once, &twice }, &alone, &grid);
        scale("recover", &(work){ RECOVER, &m, &groups, &once, &twice }, &alone, &grid);
        esp_groups_free(&groups);
        esp_samples_free(&once);
        esp_samples_free(&twice);
        esp_model_free(&m);
    }
    esp_grid_free(&alone);
    esp_grid_free(&grid);
    MPI_Finalize();
    return 0;
}
