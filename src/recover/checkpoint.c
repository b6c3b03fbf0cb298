/* checkpoint.c - collective writing, and reading of the newest file that is whole. */
#include "espalier/checkpoint.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/file.h"
#include "espalier/h5.h"
#include "espalier/log.h"
#include "espalier/mem.h"

#define VERSION 1 /* of the file's layout */

static const struct field {
    const char *name;
    size_t offset;
    bool real; /* double, else size_t */
} fields[] = {
    { "step", offsetof(esp_training, step), false },
    { "epoch", offsetof(esp_training, epoch), false },
    { "position", offsetof(esp_training, position), false },
    { "best_step", offsetof(esp_training, best_step), false },
    { "bad_validations", offsetof(esp_training, bad_validations), false },
    { "train_loss", offsetof(esp_training, train_loss), true },
    { "first_loss", offsetof(esp_training, first_loss), true },
    { "best_loss", offsetof(esp_training, best_loss), true },
};

enum { N_FIELDS = sizeof fields / sizeof *fields, N_VECTORS = 4 };

static const char *const vector_names[N_VECTORS] = { "m", "v", "best", "value" };

/* ---- names of files ---- */

static char *path_of(const char *dir, size_t step)
{
    return esp_format("%s/step-%06zu.h5", dir, step);
}

/* Whether name is step-<number><end>. */
static bool is_step(size_t *step, const char *name, const char *end)
{
    int n = 0;

    return sscanf(name, "step-%zu%n", step, &n) == 1 && strcmp(name + n, end) == 0;
}

static int newest_first(const void *a, const void *b)
{
    size_t x = *(const size_t *)a, y = *(const size_t *)b;

    return (x < y) - (x > y);
}

/* Steps that have a file with this ending, newest first; the caller frees. No folder, no files. */
static size_t *list_steps(size_t *n, const char *dir, const char *end)
{
    DIR *d = opendir(dir);
    size_t *steps = NULL, step;

    *n = 0;
    for (struct dirent *e; d && (e = readdir(d));) {
        if (is_step(&step, e->d_name, end)) {
            steps = esp_grow(steps, *n + 1, sizeof *steps);
            steps[(*n)++] = step;
        }
    }
    if (d) {
        closedir(d);
    }
    if (*n > 0) {
        qsort(steps, *n, sizeof *steps, newest_first);
    }
    return steps;
}

/* ---- content ---- */

/* The vectors in the order of vector_names; value: p->value, or where a file's values go at first. */
static void vectors_of(float *vector[N_VECTORS], const esp_params *p, float *value)
{
    vector[0] = p->m;
    vector[1] = p->v;
    vector[2] = p->best;
    vector[3] = value;
}

static void digest_of(char hex[ESP_DIGEST_SIZE], float *const vector[N_VECTORS], size_t n,
                      const esp_training *t, const char *settings)
{
    esp_digest d;

    esp_digest_init(&d);
    esp_digest_add(&d, settings, strlen(settings));
    for (size_t i = 0; i < N_FIELDS; i++) {
        esp_digest_add(&d, (const char *)t + fields[i].offset, sizeof(uint64_t));
    }
    for (size_t i = 0; i < N_VECTORS; i++) {
        esp_digest_add(&d, vector[i], n * sizeof **vector);
    }
    esp_digest_end(&d, hex);
}

/* ---- writing ---- */

/* Keeps the first failure: ranks make the same calls whatever happens to one of them. */
static void note(esp_status *st, esp_status now)
{
    *st = *st == ESP_OK ? now : *st;
}

static esp_status write_fields(esp_h5 *f, const esp_training *t)
{
    esp_status st = ESP_OK;

    for (size_t i = 0; i < N_FIELDS; i++) {
        const void *at = (const char *)t + fields[i].offset;

        note(&st, fields[i].real
                      ? esp_h5_set_double(f, "/", fields[i].name, *(const double *)at)
                      : esp_h5_set_int(f, "/", fields[i].name, (int64_t) * (const size_t *)at));
    }
    return st;
}

static esp_status write_file(const char *path, const esp_params *p, const esp_training *t,
                             const char *settings, const char *digest, const esp_grid *grid)
{
    float *vector[N_VECTORS];
    size_t begin, end;
    esp_h5 f;
    esp_status st;

    ESP_TRY(esp_h5_create(&f, path, grid->world));
    st = esp_h5_set_int(&f, "/", "version", VERSION);
    note(&st, esp_h5_set_string(&f, "/", "settings", settings));
    note(&st, esp_h5_set_string(&f, "/", "digest", digest));
    note(&st, write_fields(&f, t));
    vectors_of(vector, p, p->value);
    esp_share(&begin, &end, p->n, grid->rank, grid->size);
    for (size_t i = 0; i < N_VECTORS; i++) {
        note(&st, esp_h5_write_share(&f, vector_names[i], H5T_NATIVE_FLOAT, p->n, begin, end,
                                     vector[i] + begin));
    }
    return esp_h5_close(&f, st);
}

/* Goes: what is older than the newest `keep` up to this step, what claims to be newer (damaged files
 * that were passed over), and what was left half written. */
static esp_status clean(const char *dir, size_t step, size_t keep)
{
    size_t n, kept = 0;
    size_t *steps = list_steps(&n, dir, ".h5");
    esp_status st = ESP_OK;

    for (size_t i = 0; i < n; i++) {
        if (steps[i] > step || kept++ >= keep) {
            char *path = path_of(dir, steps[i]);

            note(&st, esp_remove(path));
            free(path);
        }
    }
    free(steps);
    steps = list_steps(&n, dir, ".h5.part");
    for (size_t i = 0; i < n; i++) {
        char *path = esp_format("%s/step-%06zu.h5.part", dir, steps[i]);

        note(&st, esp_remove(path));
        free(path);
    }
    free(steps);
    return st;
}

esp_status esp_checkpoint_save(const char *dir, const esp_params *p, const esp_training *t,
                               const char *settings, size_t keep, const esp_grid *grid)
{
    char digest[ESP_DIGEST_SIZE], first[ESP_DIGEST_SIZE];
    float *vector[N_VECTORS];
    char *path = path_of(dir, t->step);
    esp_status st;

    vectors_of(vector, p, p->value);
    digest_of(digest, vector, p->n, t, settings);
    memcpy(first, digest, sizeof first);
    ESP_MPI(MPI_Bcast(first, sizeof first, MPI_CHAR, 0, grid->world));
    ESP_REQUIRE(strcmp(first, digest) == 0); /* all ranks hold the same training */
    st = esp_agree(grid->world, grid->rank == 0 ? esp_mkdirs(dir) : ESP_OK);
    if (st == ESP_OK) {
        st = write_file(path, p, t, settings, digest, grid);
    }
    if (st == ESP_OK) {
        st = esp_agree(grid->world, grid->rank == 0 ? clean(dir, t->step, keep) : ESP_OK);
    }
    free(path);
    return st;
}

/* ---- reading ---- */

typedef struct header {
    esp_training training;
    char *settings, *digest; /* owned */
} header;

static void header_free(header *h)
{
    free(h->settings);
    free(h->digest);
}

static esp_status read_fields(esp_training *t, const esp_h5 *f)
{
    for (size_t i = 0; i < N_FIELDS; i++) {
        void *at = (char *)t + fields[i].offset;
        int64_t whole = 0;

        if (fields[i].real) {
            ESP_TRY(esp_h5_get_double(f, "/", fields[i].name, at));
        } else {
            ESP_TRY(esp_h5_get_int(f, "/", fields[i].name, &whole));
            *(size_t *)at = (size_t)whole;
        }
    }
    return ESP_OK;
}

static esp_status read_header(header *h, const esp_h5 *f)
{
    int64_t version;

    ESP_TRY(esp_h5_get_int(f, "/", "version", &version));
    if (version != VERSION) {
        return esp_fail(ESP_EFORMAT, "%s: version %lld, this program reads %d", f->path,
                        (long long)version, VERSION);
    }
    ESP_TRY(read_fields(&h->training, f));
    ESP_TRY(esp_h5_get_string(f, "/", "settings", &h->settings));
    return esp_h5_get_string(f, "/", "digest", &h->digest);
}

/* Each rank reads its share of every vector and gets the others' from them. */
static esp_status read_vectors(float *const vector[N_VECTORS], size_t n, const esp_h5 *f,
                               const esp_grid *grid)
{
    esp_status st = ESP_OK;
    size_t begin, end;

    for (size_t i = 0; i < N_VECTORS; i++) {
        esp_share(&begin, &end, n, grid->rank, grid->size);
        note(&st, esp_h5_read(f, vector_names[i], H5T_NATIVE_FLOAT, begin, end, vector[i] + begin));
        for (int owner = 0; owner < grid->size; owner++) {
            esp_share(&begin, &end, n, owner, grid->size);
            ESP_MPI(MPI_Bcast(vector[i] + begin, esp_count(end - begin), MPI_FLOAT, owner,
                              grid->world));
        }
    }
    return st;
}

static bool is_good_everywhere(bool good, const esp_grid *grid)
{
    int all = good;

    ESP_MPI(MPI_Allreduce(MPI_IN_PLACE, &all, 1, MPI_INT, MPI_MIN, grid->world));
    return all != 0;
}

/* The vectors of an open file; the values go to p->grad until their digest is right. */
static esp_status read_content(bool *good, const esp_h5 *f, esp_params *p, const header *h,
                               const esp_grid *grid)
{
    char digest[ESP_DIGEST_SIZE];
    float *vector[N_VECTORS];
    esp_status st;

    vectors_of(vector, p, p->grad);
    st = read_vectors(vector, p->n, f, grid);
    digest_of(digest, vector, p->n, &h->training, h->settings);
    if (st == ESP_OK && strcmp(digest, h->digest) != 0) {
        st = esp_fail(ESP_EFORMAT, "%s: its digest does not fit its content", f->path);
    }
    *good = is_good_everywhere(st == ESP_OK, grid);
    return st;
}

static esp_status refuse_settings(const char *path, const char *dir, const header *h,
                                  const char *settings, const esp_grid *grid)
{
    return esp_agree(grid->world,
                     esp_fail(ESP_EUSAGE,
                              "%s: made with other settings, model or corpus (digest %.8s, now "
                              "%.8s): take those again, or remove %s to start anew",
                              path, h->settings, settings, dir));
}

/* *found when the file is whole and taken. A damaged file is said and no failure. */
static esp_status try_file(bool *found, const char *path, const char *dir, esp_params *p,
                           esp_training *t, const char *settings, const esp_grid *grid)
{
    header h = { .settings = NULL };
    esp_h5 f;
    esp_status st = esp_h5_open(&f, path), refused = ESP_OK;
    bool good;

    if (st == ESP_OK) {
        st = read_header(&h, &f);
    }
    good = is_good_everywhere(st == ESP_OK, grid);
    if (good && strcmp(h.settings, settings) != 0) {
        refused = refuse_settings(path, dir, &h, settings, grid);
    } else if (good) {
        st = read_content(&good, &f, p, &h, grid);
    }
    if (!good) {
        esp_info("checkpoint passed over: %s",
                 st == ESP_OK ? "another rank cannot read it" : esp_error_message());
        esp_error_clear();
    } else if (refused == ESP_OK) {
        memcpy(p->value, p->grad, p->n * sizeof *p->value);
        *t = h.training;
        *found = true;
    }
    esp_h5_close(&f, ESP_OK);
    header_free(&h);
    return refused;
}

/* What rank 0 sees in the folder, on all ranks; the caller frees. */
static size_t *shared_steps(size_t *n, const char *dir, const esp_grid *grid)
{
    uint64_t count = 0;
    size_t *steps = NULL;

    if (grid->rank == 0) {
        steps = list_steps(n, dir, ".h5");
        count = *n;
    }
    ESP_MPI(MPI_Bcast(&count, 1, MPI_UINT64_T, 0, grid->world));
    *n = count;
    if (grid->rank != 0) {
        ESP_NEW(steps, *n);
    }
    ESP_MPI(MPI_Bcast(steps, esp_count(*n * sizeof *steps), MPI_BYTE, 0, grid->world));
    return steps;
}

esp_status esp_checkpoint_load(bool *found, const char *dir, esp_params *p, esp_training *t,
                               const char *settings, const esp_grid *grid)
{
    size_t n, bytes = p->n * sizeof *p->value;
    size_t *steps = shared_steps(&n, dir, grid);
    esp_status st = ESP_OK;

    *found = false;
    for (size_t i = 0; i < n && !*found && st == ESP_OK; i++) {
        char *path = path_of(dir, steps[i]);

        st = try_file(found, path, dir, p, t, settings, grid);
        free(path);
    }
    free(steps);
    memset(p->grad, 0, bytes);
    if (!*found) {
        memset(p->m, 0, bytes);
        memset(p->v, 0, bytes);
        memset(p->best, 0, bytes);
    }
    return st;
}
