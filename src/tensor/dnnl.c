/* dnnl.c - products of bf16 matrices by oneDNN, where the build has it. */
#include "dnnl_impl.h"

#include <stdlib.h>
#include <string.h>

#include "espalier/mem.h"
#include "espalier/status.h"

#ifdef ESPALIER_HAVE_DNNL

#include <oneapi/dnnl/dnnl.h>

#define OK(call)                                                                         \
    do {                                                                                 \
        dnnl_status_t dnnl_code = (call);                                                \
        if (dnnl_code != dnnl_success) {                                                 \
            esp_bug(__FILE__, __LINE__, "oneDNN error %d in %s", (int)dnnl_code, #call); \
        }                                                                                \
    } while (0)

#define ANY DNNL_RUNTIME_DIM_VAL /* given with the call */

struct esp_dnnl {
    dnnl_engine_t engine;
    dnnl_primitive_t product[ESP_N_LAYOUTS][2]; /* beta 0, beta 1 */
};

esp_status esp_dnnl_check(void)
{
    unsigned needed = (unsigned)dnnl_cpu_isa_avx512_core_bf16;

    if (((unsigned)dnnl_get_effective_cpu_isa() & needed) != needed) {
        return esp_fail(ESP_EUSAGE, "precision: bf16 needs a processor with AVX512-BF16 or AMX, "
                                    "this one has neither; use f32");
    }
    return ESP_OK;
}

/* A matrix [rows, cols]; turned: it is stored as [cols, rows]. */
static dnnl_memory_desc_t describe(dnnl_data_type_t type, bool turned, int64_t rows, int64_t cols,
                                   int64_t distance)
{
    dnnl_dims_t dims = { rows, cols };
    dnnl_dims_t strides = { turned ? 1 : distance, turned ? distance : 1 };
    dnnl_memory_desc_t d;

    OK(dnnl_memory_desc_init_by_strides(&d, 2, dims, type, strides));
    return d;
}

static dnnl_primitive_attr_t attributes(bool add)
{
    dnnl_primitive_attr_t attr;
    dnnl_post_ops_t sum;

    OK(dnnl_primitive_attr_create(&attr));
    OK(dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user));
    if (add) {
        OK(dnnl_post_ops_create(&sum));
        OK(dnnl_post_ops_append_sum(sum, 1));
        OK(dnnl_primitive_attr_set_post_ops(attr, sum));
        OK(dnnl_post_ops_destroy(sum));
    }
    return attr;
}

static dnnl_primitive_t make_product(dnnl_engine_t engine, esp_dnnl_layout layout, bool add)
{
    dnnl_memory_desc_t a = describe(dnnl_bf16, false, ANY, ANY, ANY);
    dnnl_memory_desc_t b = describe(dnnl_bf16, layout == ESP_ROWS_ROWS_T, ANY, ANY, ANY);
    dnnl_memory_desc_t c = describe(dnnl_f32, false, ANY, ANY, ANY);
    dnnl_primitive_attr_t attr = attributes(add);
    dnnl_primitive_desc_t kind;
    dnnl_primitive_t product;
    dnnl_matmul_desc_t matmul;

    OK(dnnl_matmul_desc_init(&matmul, &a, &b, NULL, &c));
    OK(dnnl_primitive_desc_create(&kind, &matmul, attr, engine, NULL));
    /* threads share the primitive: it must not need room of its own */
    ESP_REQUIRE(dnnl_memory_desc_get_size(
                    dnnl_primitive_desc_query_md(kind, dnnl_query_scratchpad_md, 0)) == 0);
    OK(dnnl_primitive_create(&product, kind));
    OK(dnnl_primitive_desc_destroy(kind));
    OK(dnnl_primitive_attr_destroy(attr));
    return product;
}

esp_dnnl *esp_dnnl_open(void)
{
    esp_dnnl *d;

    ESP_NEW(d, 1);
    OK(dnnl_engine_create(&d->engine, dnnl_cpu, 0));
    for (esp_dnnl_layout l = 0; l < ESP_N_LAYOUTS; l++) {
        d->product[l][false] = make_product(d->engine, l, false);
        d->product[l][true] = make_product(d->engine, l, true);
    }
    return d;
}

size_t esp_dnnl_bytes(void)
{
    return esp_calloc_bytes(1, sizeof(esp_dnnl));
}

void esp_dnnl_close(esp_dnnl *d)
{
    for (int l = 0; d && l < ESP_N_LAYOUTS; l++) {
        OK(dnnl_primitive_destroy(d->product[l][false]));
        OK(dnnl_primitive_destroy(d->product[l][true]));
    }
    if (d) {
        OK(dnnl_engine_destroy(d->engine));
    }
    free(d);
}

void esp_dnnl_product(const esp_dnnl *d, esp_dnnl_layout layout, size_t m, size_t n, size_t k,
                      const uint16_t *a, size_t lda, const uint16_t *b, size_t ldb, bool add,
                      float *c, size_t ldc)
{
    const int64_t M = (int64_t)m, N = (int64_t)n, K = (int64_t)k;
    dnnl_memory_desc_t describe_a = describe(dnnl_bf16, false, M, K, (int64_t)lda);
    dnnl_memory_desc_t describe_b =
        describe(dnnl_bf16, layout == ESP_ROWS_ROWS_T, K, N, (int64_t)ldb);
    dnnl_memory_desc_t describe_c = describe(dnnl_f32, false, M, N, (int64_t)ldc);
    dnnl_exec_arg_t args[] = { { .arg = DNNL_ARG_SRC },
                               { .arg = DNNL_ARG_WEIGHTS },
                               { .arg = DNNL_ARG_DST } };
    void *in_a, *in_b;
    dnnl_stream_t stream;

    memcpy(&in_a, &a, sizeof in_a); /* it does not write through these */
    memcpy(&in_b, &b, sizeof in_b);
    OK(dnnl_memory_create(&args[0].memory, &describe_a, d->engine, in_a));
    OK(dnnl_memory_create(&args[1].memory, &describe_b, d->engine, in_b));
    OK(dnnl_memory_create(&args[2].memory, &describe_c, d->engine, c));
    OK(dnnl_stream_create(&stream, d->engine, dnnl_stream_default_flags));
    OK(dnnl_primitive_execute(d->product[layout][add], stream, 3, args));
    OK(dnnl_stream_destroy(stream));
    for (int i = 0; i < 3; i++) {
        OK(dnnl_memory_destroy(args[i].memory));
    }
}

#else

esp_status esp_dnnl_check(void)
{
    return esp_fail(ESP_EUSAGE, "precision: bf16 needs oneDNN, which this build was made without "
                                "(libdnnl-dev); use f32");
}

esp_dnnl *esp_dnnl_open(void)
{
    esp_bug(__FILE__, __LINE__, "bf16 without oneDNN");
}

size_t esp_dnnl_bytes(void)
{
    return 0;
}

void esp_dnnl_close(esp_dnnl *d)
{
    ESP_REQUIRE(!d);
}

void esp_dnnl_product(const esp_dnnl *d, esp_dnnl_layout layout, size_t m, size_t n, size_t k,
                      const uint16_t *a, size_t lda, const uint16_t *b, size_t ldb, bool add,
                      float *c, size_t ldc)
{
    (void)d, (void)layout, (void)m, (void)n, (void)k, (void)a, (void)lda, (void)b, (void)ldb;
    (void)add, (void)c, (void)ldc;
    esp_bug(__FILE__, __LINE__, "bf16 without oneDNN");
}

#endif
