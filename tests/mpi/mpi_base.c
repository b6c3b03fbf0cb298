/* mpi_base.c - what ranks do together in the base layer: agree, broadcast a string, form a grid. */
#include <unistd.h>

#include "espalier/clock.h"
#include "espalier/par.h"
#include "espalier/traffic.h"
#include "test.h"

static int rank, size;

static void ask(void)
{
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
}

static void test_agree_when_all_is_well(void)
{
    ask();
    CU_ASSERT_EQUAL(esp_agree(MPI_COMM_WORLD, ESP_OK), ESP_OK);
}

/* What esp_agree writes to stderr on this rank. */
static esp_status agree_aloud(esp_status st, char *said, size_t room)
{
    FILE *f = tmpfile();
    int saved = dup(STDERR_FILENO);
    size_t n;

    fflush(stderr);
    dup2(fileno(f), STDERR_FILENO);
    st = esp_agree(MPI_COMM_WORLD, st);
    fflush(stderr);
    dup2(saved, STDERR_FILENO);
    close(saved);
    rewind(f);
    n = fread(said, 1, room - 1, f);
    said[n] = '\0';
    fclose(f);
    return st;
}

/* What a rank says: all but the first name themselves and their host. */
static void expect_error(char *line, size_t room, int who, const char *text)
{
    char host[MPI_MAX_PROCESSOR_NAME];
    int n;

    MPI_Get_processor_name(host, &n);
    if (who == 0) {
        snprintf(line, room, "espalier: error: %s\n", text);
    } else {
        snprintf(line, room, "espalier: error: rank %d (host %s): %s\n", who, host, text);
    }
}

/* Each rank fails in turn, alone: all get its status, it alone speaks. */
static void test_agree_on_the_one_that_failed(void)
{
    char said[1000];

    ask();
    for (int bad = 0; bad < size; bad++) {
        esp_status st = rank == bad ? esp_fail(ESP_EIO, "disk of %d", rank) : ESP_OK;
        char text[40], expected[1000];

        CU_ASSERT_EQUAL(agree_aloud(st, said, sizeof said), ESP_EIO);
        snprintf(text, sizeof text, "disk of %d", bad);
        expect_error(expected, sizeof expected, bad, text);
        CU_ASSERT_STRING_EQUAL(said, rank == bad ? expected : "");
        CU_ASSERT_STRING_EQUAL(esp_error_message(), "");
    }
}

/* All but rank 0 fail, each in its own way: the lowest of them decides. */
static void test_agree_on_the_lowest(void)
{
    char said[1000], expected[1000];
    esp_status st;

    ask();
    expect_error(expected, sizeof expected, 1, "rank 1");
    st = rank == 0 ? ESP_OK : esp_fail(rank == 1 ? ESP_EFORMAT : ESP_EIO, "rank %d", rank);
    st = agree_aloud(st, said, sizeof said);
    CU_ASSERT_EQUAL(st, size == 1 ? ESP_OK : ESP_EFORMAT);
    CU_ASSERT_STRING_EQUAL(said, rank == 1 ? expected : "");
}

static void test_a_stop_is_no_error(void)
{
    char said[200];

    ask();
    CU_ASSERT_EQUAL(agree_aloud(esp_fail(ESP_ESTOPPED, "stopped"), said, sizeof said),
                    ESP_ESTOPPED);
    CU_ASSERT_STRING_EQUAL(said, rank == 0 ? "espalier: stopped\n" : "");
}

static void test_bcast_string(void)
{
    const char *texts[] = { "", "one line", NULL };

    ask();
    for (const char **t = texts; *t; t++) {
        char *s = rank == 0 ? esp_strdup(*t) : NULL;

        esp_bcast_string(&s, MPI_COMM_WORLD);
        CU_ASSERT_STRING_EQUAL(s, *t);
        free(s);
    }
}

static void test_grid(void)
{
    esp_grid g;
    int same, sum = 1;

    ask();
    esp_grid_init(&g, 2, MPI_COMM_WORLD);
    CU_ASSERT(g.rank == rank && g.size == size);
    CU_ASSERT(g.i_data == rank && g.n_data == size);
    CU_ASSERT_EQUAL(g.n_threads, 2);
    MPI_Comm_compare(g.world, MPI_COMM_WORLD, &same);
    CU_ASSERT_EQUAL(same, MPI_CONGRUENT);
    MPI_Allreduce(MPI_IN_PLACE, &sum, 1, MPI_INT, MPI_SUM, g.data);
    CU_ASSERT_EQUAL(sum, g.n_data);
    esp_grid_free(&g);
}

/* The model of traffic.h: what a rank sends of n bytes; nothing where it is alone. */
static void test_sent(void)
{
    esp_traffic then = esp_traffic_now(), t;
    double share;

    ask();
    share = (double)(size - 1) / size;
    esp_sent(ESP_SENT_WEIGHT_GRADIENTS, ESP_COST_REDUCE_SCATTER, 1200, MPI_COMM_WORLD);
    esp_sent(ESP_SENT_GRADIENTS, ESP_COST_ALLREDUCE, 2400, MPI_COMM_WORLD);
    if (rank == 0) {
        esp_sent(ESP_SENT_ACTIVATIONS, ESP_COST_P2P, 64, MPI_COMM_WORLD);
    }
    esp_sent(ESP_SENT_VALUES, ESP_COST_ALLREDUCE, 64, MPI_COMM_SELF);
    esp_waited(esp_now() - 2);
    t = esp_traffic_now();
    CU_ASSERT_DOUBLE_EQUAL(t.bytes[ESP_SENT_WEIGHT_GRADIENTS] -
                               then.bytes[ESP_SENT_WEIGHT_GRADIENTS],
                           1200 * share, 1e-9);
    t = esp_traffic_since(&then, MPI_COMM_WORLD);
    CU_ASSERT_DOUBLE_EQUAL(t.bytes[ESP_SENT_WEIGHT_GRADIENTS], 1200.0 * (size - 1), 1e-9);
    CU_ASSERT_DOUBLE_EQUAL(t.bytes[ESP_SENT_GRADIENTS], 4800.0 * (size - 1), 1e-9);
    CU_ASSERT(t.waited >= 2 * size && t.waited < 2 * size + 1);
    CU_ASSERT_EQUAL(t.bytes[ESP_SENT_ACTIVATIONS], size > 1 ? 64 : 0);
    CU_ASSERT_EQUAL(t.bytes[ESP_SENT_VALUES], 0);
    CU_ASSERT_EQUAL(t.bytes[ESP_SENT_SUMS], 0);
    CU_ASSERT_EQUAL(t.calls[ESP_SENT_WEIGHT_GRADIENTS], size > 1 ? size : 0);
    CU_ASSERT_EQUAL(t.calls[ESP_SENT_ACTIVATIONS], size > 1 ? 1 : 0);
}

/* Every grid that the ranks can be: neighbours share a stage; what does not divide them is refused. */
static void test_grid_shapes(void)
{
    esp_grid g;

    ask();
    esp_grid_init(&g, 1, MPI_COMM_WORLD);
    for (int stages = 1; stages <= size + 1; stages++) {
        if (stages <= size && size % stages == 0) {
            int n_data, n_pipeline;

            CU_ASSERT_EQUAL(esp_grid_shape(&g, (size_t)stages), ESP_OK);
            MPI_Comm_size(g.data, &n_data);
            MPI_Comm_size(g.pipeline, &n_pipeline);
            CU_ASSERT(g.n_pipeline == stages && n_pipeline == stages);
            CU_ASSERT(g.n_data == size / stages && n_data == g.n_data);
            CU_ASSERT(g.i_pipeline == rank / g.n_data && g.i_data == rank % g.n_data);
        } else {
            CU_ASSERT_EQUAL(esp_grid_shape(&g, (size_t)stages), ESP_EUSAGE);
            esp_error_clear();
        }
    }
    CU_ASSERT_EQUAL(esp_grid_shape(&g, 0), ESP_EUSAGE);
    esp_error_clear();
    esp_grid_free(&g);
}

/* The last rank alone has the narrowest kernels, and then all have. */
static void test_kernels(void)
{
    const char *before = esp_isa_name();

    ask();
    esp_isa_agree(MPI_COMM_WORLD);
    CU_ASSERT_STRING_EQUAL(esp_isa_name(), before); /* one machine */
    CU_ASSERT_EQUAL(esp_isa_choose(rank == size - 1 ? esp_isa_at(0) : before), ESP_OK);
    esp_isa_agree(MPI_COMM_WORLD);
    CU_ASSERT_STRING_EQUAL(esp_isa_name(), esp_isa_at(0));
    CU_ASSERT_EQUAL(esp_isa_choose(before), ESP_OK);
}

ESP_TEST_MAIN("base, ranks together", { "agree when all is well", test_agree_when_all_is_well },
              { "agree on the one that failed", test_agree_on_the_one_that_failed },
              { "agree on the lowest", test_agree_on_the_lowest },
              { "a stop is no error", test_a_stop_is_no_error },
              { "broadcast a string", test_bcast_string }, { "grid", test_grid },
              { "bytes sent", test_sent }, { "grids of all shapes", test_grid_shapes },
              { "kernels that all ranks have", test_kernels })
