/* bench_compensate.c - what it costs to compensate a projection of 2752 inputs and 1024 outputs, those of a
 * block of 4096 / 11008 at a quarter of its sizes: the sums over 8192 tokens, the choice of the inputs that
 * go, and the fit of what is left, beside dsyrk and dpotrf on the same numbers. On one rank.
 */
#include <cblas.h>
#include <math.h>

#include "espalier/mem.h"
#include "espalier/reconstruction.h"
#include "bench.h"
#include "finite_differences.h"

enum { IN = 2752, OUT = 1024, SAMPLE = 512, SAMPLES = 16, REPEATS = 3 };

extern void dpotrf_(const char *half, const int *n, double *a, const int *lda, int *info);

typedef struct subject {
    float *x, *y, *scratch; /* of a sample          */
    double *tokens, *h;     /* of all samples, for dsyrk */
    double *w0, *w;
    esp_gram fit, held;
} subject;

static void subject_init(subject *s)
{
    s->x = random_floats(SAMPLE * IN, 1);
    s->y = random_floats(SAMPLE * OUT, 2);
    ESP_NEW(s->scratch, esp_gram_scratch(IN, OUT));
    ESP_NEW(s->tokens, (size_t)SAMPLES * SAMPLE * IN);
    ESP_NEW(s->h, (size_t)IN * IN);
    ESP_NEW(s->w0, (size_t)OUT * IN);
    ESP_NEW(s->w, (size_t)OUT * IN);
    for (size_t i = 0; i < (size_t)SAMPLES * SAMPLE * IN; i++) {
        s->tokens[i] = (double)s->x[i * 7 % (SAMPLE * IN)];
    }
    for (size_t i = 0; i < (size_t)OUT * IN; i++) {
        s->w0[i] = (double)s->x[i * 5 % (SAMPLE * IN)];
    }
    esp_gram_init(&s->fit, IN, OUT, false);
    esp_gram_init(&s->held, IN, OUT, false);
}

static void subject_free(subject *s)
{
    free(s->x);
    free(s->y);
    free(s->scratch);
    free(s->tokens);
    free(s->h);
    free(s->w0);
    free(s->w);
    esp_gram_free(&s->fit);
    esp_gram_free(&s->held);
}

/* H = X^T X and its factor, by the BLAS and LAPACK. */
static void reference(subject *s)
{
    const int n = IN;
    int info;

    cblas_dsyrk(CblasRowMajor, CblasUpper, CblasTrans, IN, SAMPLES * SAMPLE, 1, s->tokens, IN, 0,
                s->h, IN);
    for (size_t i = 0; i < IN; i++) {
        s->h[i * IN + i] += SAMPLES * SAMPLE;
    }
    dpotrf_("L", &n, s->h, &n, &info);
    ESP_REQUIRE(info == 0);
}

static void sum(subject *s)
{
    esp_gram_clear(&s->fit);
    esp_gram_clear(&s->held);
    for (size_t j = 0; j < SAMPLES; j++) {
        esp_gram_add(j % 8 == 7 ? &s->held : &s->fit, s->x, s->y, SAMPLE, s->scratch);
    }
    esp_gram_reduce(&s->fit, MPI_COMM_SELF);
    esp_gram_reduce(&s->held, MPI_COMM_SELF);
}

/* A quarter of the inputs, one by one. */
static void choose(subject *s)
{
    enum { GONE = IN / 4 };
    esp_input_groups g = { .n = IN, .width = 1, .lanes = 1 };
    esp_reconstruction r;
    int32_t order[GONE];
    double error[GONE + 1];

    ESP_NEW(g.input, IN);
    for (size_t i = 0; i < IN; i++) {
        g.input[i] = i;
    }
    esp_reconstruction_init(&r, IN, OUT, &g);
    ESP_REQUIRE(esp_reconstruction_order(order, error, GONE, &g, s->w0, &s->fit, 0.1, 0, OUT, &r,
                                         MPI_COMM_SELF));
    esp_reconstruction_free(&r);
    free(g.input);
}

/* The damping, by nine solves. */
static void fit(subject *s)
{
    esp_least_squares l;

    esp_least_squares_init(&l, IN, OUT);
    esp_least_squares_choose(&s->fit, &s->held, 0, s->w0, s->w, 0, OUT, &l, MPI_COMM_SELF);
    esp_least_squares_free(&l);
}

static double seconds(void (*run)(subject *), subject *s)
{
    double t[REPEATS];

    for (int i = 0; i < REPEATS; i++) {
        double began = esp_now();

        run(s);
        t[i] = esp_now() - began;
    }
    return bench_median(t, REPEATS);
}

static void compensate(const esp_grid *grid)
{
    static const struct {
        const char *name;
        void (*run)(subject *);
    } parts[] = { { "compensate 2752 -> 1024, sums", sum },
                  { "compensate 2752 -> 1024, choice", choose },
                  { "compensate 2752 -> 1024, fit", fit } };
    subject s;
    double before;

    subject_init(&s);
    before = seconds(reference, &s);
    for (size_t k = 0; k < sizeof parts / sizeof *parts; k++) {
        double took = seconds(parts[k].run, &s), after = seconds(reference, &s);

        bench_row(parts[k].name, took, "s", (before + after) / 2 / took, "dsyrk + dpotrf", 0, grid);
        before = after;
    }
    subject_free(&s);
}

int main(int argc, char **argv)
{
    esp_grid grid;
    int provided;

    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided);
    esp_grid_init(&grid, 0, MPI_COMM_WORLD);
    openblas_set_num_threads(grid.n_threads);
    omp_set_num_threads(grid.n_threads);
    if (grid.size == 1) {
        compensate(&grid);
    }
    esp_grid_free(&grid);
    MPI_Finalize();
    return 0;
}
