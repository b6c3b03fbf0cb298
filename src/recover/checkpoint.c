/* checkpoint.c - writing by all ranks, and reading of the newest file that is whole. */
#include "espalier/checkpoint.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/digest.h"
#include "espalier/file.h"
#include "espalier/folder.h"
#include "espalier/h5.h"
#include "espalier/log.h"
#include "espalier/mem.h"
#include "exchange_impl.h"
#include "writer_impl.h"

#define VERSION 3 /* of the file's layout */

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
    { "skipped", offsetof(esp_training, skipped), false },
    { "in_a_row", offsetof(esp_training, in_a_row), false },
    { "rollbacks", offsetof(esp_training, rollbacks), false },
    { "saved", offsetof(esp_training, saved), false },
    { "good", offsetof(esp_training, good), false },
    { "train_loss", offsetof(esp_training, train_loss), true },
    { "first_loss", offsetof(esp_training, first_loss), true },
    { "best_loss", offsetof(esp_training, best_loss), true },
};

enum { N_FIELDS = sizeof fields / sizeof *fields };

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

/* blocks: sum of the digests of all portions of all ranks. */
static void digest_of(char hex[ESP_DIGEST_SIZE], uint64_t blocks, uint64_t n, const esp_training *t,
                      const char *settings)
{
    esp_digest d;

    esp_digest_init(&d);
    esp_digest_add(&d, settings, strlen(settings));
    for (size_t i = 0; i < N_FIELDS; i++) {
        esp_digest_add(&d, (const char *)t + fields[i].offset, sizeof(uint64_t));
    }
    esp_digest_add(&d, &n, sizeof n);
    esp_digest_add(&d, &blocks, sizeof blocks);
    esp_digest_end(&d, hex);
}

static uint64_t sum_over_ranks(uint64_t blocks, const esp_grid *grid)
{
    ESP_MPI(MPI_Allreduce(MPI_IN_PLACE, &blocks, 1, MPI_UINT64_T, MPI_SUM, grid->world));
    return blocks;
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

#define SIX "[0-9][0-9][0-9][0-9][0-9][0-9]"

/* Rank 0: the folder and, in stripes as the hints want them, the part of the file. */
static esp_status make_part(const char *part, const esp_checkpoint *c)
{
    static const char *const files[] = { "step-" SIX ".h5", "step-" SIX "[0-9].h5",
                                         "step-" SIX "[0-9][0-9].h5" };

    ESP_TRY(esp_folder_make(c->dir, files, sizeof files / sizeof *files));
    return c->io == ESP_IO_MPIO ? esp_mpi_io_create(part, c->hints) : ESP_OK;
}

/* All but the digest and the content of the vectors; where these begin. */
static esp_status fill_header(uint64_t offset[ESP_N_VECTORS], esp_checkpoint *c,
                              const esp_training *t)
{
    esp_h5 *f = &c->file;
    esp_status st = esp_h5_set_int(f, "/", "version", VERSION);

    note(&st, esp_h5_set_string(f, "/", "settings", c->settings));
    note(&st, write_fields(f, t));
    for (size_t i = 0; i < ESP_N_VECTORS; i++) {
        note(&st,
             esp_h5_reserve(f, esp_vector_names[i], H5T_NATIVE_FLOAT, c->params->n, &offset[i]));
    }
    return st;
}

/* Rank 0: the part of the file, so that all can write the vectors into it. */
static esp_status lay_out(esp_file_layout *file, const char *path, esp_checkpoint *c,
                          const esp_training *t)
{
    esp_status st;

    ESP_TRY(esp_h5_create(&c->file, path));
    st = fill_header(file->offset, c, t);
    st = st == ESP_OK ? esp_h5_lay_out(&c->file, &file->n_bytes) : st;
    return st == ESP_OK ? ESP_OK : esp_h5_close(&c->file, st);
}

/* Goes: what is older than the newest `keep` up to this step, but for the good one; what claims to be newer
 * (damaged files that were passed over, or steps that were gone back from); what was left half written. */
static esp_status clean(const char *dir, const esp_training *at, size_t keep)
{
    size_t n, kept = 0;
    size_t *steps = list_steps(&n, dir, ".h5");
    esp_status st = ESP_OK;

    for (size_t i = 0; i < n; i++) {
        if (steps[i] > at->step || (kept++ >= keep && steps[i] != at->good)) {
            char *path = path_of(dir, steps[i]);

            note(&st, esp_remove(path));
            free(path);
        }
    }
    free(steps);
    steps = list_steps(&n, dir, ".h5" ESP_PART);
    for (size_t i = 0; i < n; i++) {
        char *path = esp_format("%s/step-%06zu.h5" ESP_PART, dir, steps[i]);

        note(&st, esp_remove(path));
        free(path);
    }
    free(steps);
    return st;
}

/* Of a laid out file: opened by all ranks, or by none. */
static esp_status start_writer(const char *part, esp_file_layout *file, esp_checkpoint *c)
{
    MPI_Comm world = c->grid->world;
    esp_status st;

    ESP_MPI(MPI_Bcast(file, sizeof *file / sizeof(uint64_t), MPI_UINT64_T, 0, world));
    st = esp_agree(world, esp_checkpoint_writer_open(&c->writer, part, file, c));
    if (st == ESP_OK) {
        esp_checkpoint_writer_start(c->writer);
        return ESP_OK;
    }
    esp_checkpoint_writer_free(c->writer);
    c->writer = NULL;
    return c->grid->rank == 0 ? esp_h5_close(&c->file, st) : st;
}

esp_status esp_checkpoint_begin(esp_checkpoint *c, const esp_training *t)
{
    char *path = path_of(c->dir, t->step), *part = esp_part_path(path);
    esp_file_layout file;
    esp_status st = ESP_OK;

    ESP_REQUIRE(!c->writer);
    if (c->grid->rank == 0) {
        st = make_part(part, c);
        st = st == ESP_OK ? lay_out(&file, path, c, t) : st;
    }
    st = esp_agree(c->grid->world, st);
    if (st == ESP_OK) {
        c->at = *t;
        st = start_writer(part, &file, c);
    }
    free(path);
    free(part);
    return st;
}

/* Rank 0, when all have written into the places that `file` says. */
static esp_status commit(esp_checkpoint *c, uint64_t blocks, const esp_file_layout *file)
{
    uint64_t offset[ESP_N_VECTORS];
    char digest[ESP_DIGEST_SIZE];
    esp_status st = fill_header(offset, c, &c->at);

    ESP_REQUIRE(st != ESP_OK || memcmp(offset, file->offset, sizeof offset) == 0);
    digest_of(digest, blocks, c->params->n, &c->at, c->settings);
    note(&st, esp_h5_set_string(&c->file, "/", "digest", digest));
    ESP_TRY(esp_h5_close(&c->file, st));
    return clean(c->dir, &c->at, c->keep);
}

esp_status esp_checkpoint_finish(esp_checkpoint *c)
{
    MPI_Comm world = c->grid->world;
    bool first = c->grid->rank == 0;
    esp_file_layout file;
    uint64_t blocks;
    esp_status st;

    if (!c->writer) {
        return ESP_OK;
    }
    file = c->writer->file;
    st = esp_agree(world, esp_checkpoint_writer_join(c->writer, &blocks));
    c->writer = NULL;
    blocks = sum_over_ranks(blocks, c->grid);
    if (st == ESP_OK) {
        st = esp_agree(world, first ? commit(c, blocks, &file) : ESP_OK);
    } else if (first) {
        esp_h5_close(&c->file, st);
    }
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

static bool is_good_everywhere(bool good, const esp_grid *grid)
{
    int all = good;

    ESP_MPI(MPI_Allreduce(MPI_IN_PLACE, &all, 1, MPI_INT, MPI_MIN, grid->world));
    return all != 0;
}

/* This rank's share of the vectors; the values go to p->grad until their digest is right. */
static esp_status read_shares(uint64_t *blocks, const esp_h5 *f, esp_params *p)
{
    *blocks = 0;
    for (size_t i = 0; i < ESP_N_VECTORS; i++) {
        for (size_t k = 0; k < p->n_pieces; k++) {
            esp_portion e = esp_portion_of(p, i, k);

            e.data = i == ESP_N_VECTORS - 1 ? p->grad + e.begin : e.data;
            ESP_TRY(esp_h5_read(f, esp_vector_names[i], H5T_NATIVE_FLOAT, e.begin, e.begin + e.n,
                                e.data));
            *blocks += esp_portion_digest(i, e);
        }
    }
    return ESP_OK;
}

static esp_status read_content(bool *good, const esp_h5 *f, const esp_checkpoint *c,
                               const header *h)
{
    char digest[ESP_DIGEST_SIZE];
    uint64_t blocks;
    esp_status st = read_shares(&blocks, f, c->params);

    blocks = sum_over_ranks(blocks, c->grid);
    digest_of(digest, blocks, c->params->n, &h->training, h->settings);
    if (st == ESP_OK && strcmp(digest, h->digest) != 0) {
        st = esp_fail(ESP_EFORMAT, "%s: its digest does not fit its content", f->path);
    }
    *good = is_good_everywhere(st == ESP_OK, c->grid);
    return st;
}

/* What read_shares left in p->grad, on all ranks. */
static void share_values(const esp_checkpoint *c)
{
    esp_params *p = c->params;
    esp_exchange x;

    esp_exchange_init(&x, p, c->grid->world);
    for (size_t k = 0; k < p->n_pieces; k++) {
        esp_portion e = esp_portion_of(p, ESP_N_VECTORS - 1, k);

        memcpy(e.data, p->grad + e.begin, e.n * sizeof *e.data);
        esp_exchange_gather(&x, k);
    }
    esp_exchange_finish(&x);
    esp_exchange_free(&x);
}

static esp_status refuse_settings(const char *path, const header *h, const esp_checkpoint *c)
{
    return esp_agree(c->grid->world,
                     esp_fail(ESP_EUSAGE,
                              "%s: made with other settings, model or corpus (digest %.8s, now "
                              "%.8s): take those again, or remove %s to start anew",
                              path, h->settings, c->settings, c->dir));
}

/* st: of this rank, which speaks for all. */
static void warn_damaged(const char *path, esp_status st)
{
    if (st == ESP_OK) {
        esp_warn("checkpoint passed over: %s: another rank cannot read it", path);
    } else {
        esp_warn("checkpoint passed over: %s", esp_error_message());
        esp_error_clear();
    }
}

/* *found when the file is whole and taken. A damaged file is said and no failure. */
static esp_status try_file(bool *found, esp_training *t, const char *path, const esp_checkpoint *c)
{
    header h = { .settings = NULL };
    esp_h5 f;
    esp_status st = esp_h5_open(&f, path), refused = ESP_OK;
    bool good;

    if (st == ESP_OK) {
        st = read_header(&h, &f);
    }
    good = is_good_everywhere(st == ESP_OK, c->grid);
    if (good && strcmp(h.settings, c->settings) != 0) {
        refused = refuse_settings(path, &h, c);
    } else if (good) {
        st = read_content(&good, &f, c, &h);
    }
    if (!good) {
        warn_damaged(path, st);
    } else if (refused == ESP_OK) {
        share_values(c);
        *t = h.training;
        *found = true;
    }
    esp_h5_close(&f, ESP_OK);
    header_free(&h);
    return refused;
}

/* A checkpoint of the training would find no place there. */
static esp_status check_places(const char *dir, const size_t *steps, size_t n)
{
    esp_status st = ESP_OK;

    for (size_t i = 0; i < n && st == ESP_OK; i++) {
        char *path = path_of(dir, steps[i]);

        st = esp_dir_exists(path) ? esp_fail(ESP_EUSAGE,
                                             "%s: is a folder in the place of a checkpoint, and "
                                             "espalier did not make it: move it away",
                                             path)
                                  : ESP_OK;
        free(path);
    }
    return st;
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

esp_status esp_checkpoint_load(bool *found, esp_training *t, const esp_checkpoint *c, size_t newest)
{
    esp_params *p = c->params;
    size_t n, own = p->n_own * sizeof *p->m, tried = 0;
    size_t *steps = shared_steps(&n, c->dir, c->grid);
    esp_status st = c->grid->rank == 0 ? check_places(c->dir, steps, n) : ESP_OK;

    ESP_REQUIRE(!c->writer); /* HDF5 is of one thread at a time */
    *found = false;
    st = esp_agree(c->grid->world, st);
    for (size_t i = 0; i < n && !*found && st == ESP_OK; i++) {
        if (steps[i] <= newest) {
            char *path = path_of(c->dir, steps[i]);

            st = try_file(found, t, path, c);
            tried++;
            free(path);
        }
    }
    free(steps);
    if (tried > 0 && !*found && st == ESP_OK) {
        esp_warn("%s: no checkpoint is whole: the training starts anew at step 0", c->dir);
    }
    memset(p->grad, 0, p->n * sizeof *p->grad);
    if (!*found) {
        memset(p->m, 0, own);
        memset(p->v, 0, own);
        memset(p->best, 0, own);
    }
    return st;
}
