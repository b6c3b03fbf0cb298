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

void esp_isa_agree(MPI_Comm comm)
{
    int least[2] = { chosen, -chosen }; /* and -most */

    ESP_MPI(MPI_Allreduce(MPI_IN_PLACE, least, 2, MPI_INT, MPI_MIN, comm));
    chosen = least[0];
    if (least[0] != -least[1]) {
        esp_info("kernels: %s on all ranks, the widest of some; others would take %s",
                 esp_isa_name(), isas[-least[1]].name);
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
