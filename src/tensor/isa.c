/* isa.c - the choice of the kernels' width, and the public functions, which call through its table. */
#include "espalier/isa.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "espalier/log.h"
#include "tensor/kernels_impl.h"

/* ---- widths ----------------------------------------------------------------------------------- */

typedef struct isa {
    const char *name, *instructions; /* instructions: beyond those of all processors */
    const esp_kernels *kernels;
    bool (*has)(void); /* whether the processor, and the system, have them */
} isa;

static bool always(void)
{
    return true;
}

#ifdef __x86_64__

/* The same instructions as in ISA_avx2 and ISA_avx512 of the Makefile. */
static bool has_avx2(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("bmi2");
}

static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

extern const esp_kernels esp_kernels_sse2, esp_kernels_avx2, esp_kernels_avx512;

static const isa isas[] = {
    { "sse2", "SSE2", &esp_kernels_sse2, always },
    { "avx2", "AVX2, FMA and BMI2", &esp_kernels_avx2, has_avx2 },
    { "avx512", "AVX-512 F, BW, DQ and VL", &esp_kernels_avx512, has_avx512 },
};

#else

extern const esp_kernels esp_kernels_generic;

static const isa isas[] = { { "generic", "any", &esp_kernels_generic, always } };

#endif

enum { N_ISAS = sizeof isas / sizeof *isas };

static int chosen;

const char *esp_isa_at(size_t i)
{
    return i < N_ISAS ? isas[i].name : NULL;
}

const char *esp_isa_name(void)
{
    return isas[chosen].name;
}

/* Each has what those before it have. */
static int widest(void)
{
    int i = N_ISAS - 1;

    while (!isas[i].has()) {
        i--;
    }
    return i;
}

/* Before main, so that a program without a word about widths gets fast kernels too. */
static __attribute__((constructor)) void begin_with_widest(void)
{
    chosen = widest();
}

static int find(const char *name)
{
    int i = 0;

    while (i < N_ISAS && strcmp(isas[i].name, name) != 0) {
        i++;
    }
    return i;
}

static esp_status refuse_unknown(const char *name)
{
    char names[64] = "";

    for (size_t i = 0, n = 0; i < N_ISAS; i++) {
        n += (size_t)snprintf(names + n, sizeof names - n, " %s", isas[i].name);
    }
    return esp_fail(ESP_EUSAGE, "ESPALIER_ISA = %s: unknown; this build has%s", name, names);
}

esp_status esp_isa_choose(const char *name)
{
    int i = name && name[0] ? find(name) : widest();

    if (i == N_ISAS) {
        return refuse_unknown(name);
    }
    if (!isas[i].has()) {
        return esp_fail(ESP_EUSAGE,
                        "ESPALIER_ISA = %s: needs %s, which this processor lacks; its widest is %s",
                        name, isas[i].instructions, isas[widest()].name);
    }
    chosen = i;
    return ESP_OK;
}

/* Which rank and node hold all the others back. */
static void tell_narrowest(int rank, int most, MPI_Comm comm)
{
    char host[MPI_MAX_PROCESSOR_NAME] = "";
    int n;

    ESP_MPI(MPI_Get_processor_name(host, &n));
    ESP_MPI(MPI_Bcast(host, sizeof host, MPI_CHAR, rank, comm));
    esp_info("kernels: %s on all ranks, the widest of rank %d (host %s); others would take %s",
             esp_isa_name(), rank, host, isas[most].name);
}

void esp_isa_agree(MPI_Comm comm)
{
    struct {
        int width, rank;
    } least = { .width = chosen };
    int most = chosen;

    ESP_MPI(MPI_Comm_rank(comm, &least.rank));
    ESP_MPI(MPI_Allreduce(MPI_IN_PLACE, &least, 1, MPI_2INT, MPI_MINLOC, comm));
    ESP_MPI(MPI_Allreduce(MPI_IN_PLACE, &most, 1, MPI_INT, MPI_MAX, comm));
    chosen = least.width;
    if (least.width != most) {
        tell_narrowest(least.rank, most, comm);
    } else {
        esp_debug("kernels: %s", esp_isa_name());
    }
}

/* ---- public functions ------------------------------------------------------------------------- */

#define DEFINE_PROCEDURE(name, parameters, arguments) \
    void name parameters                              \
    {                                                 \
        isas[chosen].kernels->name arguments;         \
    }

#define DEFINE_FUNCTION(type, name, parameters, arguments) \
    type name parameters                                   \
    {                                                      \
        return isas[chosen].kernels->name arguments;       \
    }

ESP_KERNELS(DEFINE_PROCEDURE, DEFINE_FUNCTION)
