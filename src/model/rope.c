/* rope.c - the frequencies of rotary positions: which channels rotate, from which base, by which keys of
 * config.json.
 */
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/file.h"
#include "espalier/log.h"
#include "espalier/mem.h"
#include "rope_impl.h"

#define THETA 10000 /* where config.json does not say */

/* ---- what rotates ---- */

/* Share of a head's channels that are rotated, which the object says before config.json does. */
static esp_status read_share(double *share, const esp_rope_reader *r)
{
    static const char key[] = "partial_rotary_factor";
    const esp_config_part *c = esp_config_get(r->part, key) ? r->part : r->config;
    bool free_choice = r->model->arch->rotary.source == ESP_ROPE_PHI;

    ESP_TRY(esp_config_real(share, c, key, 1));
    if (free_choice ? *share <= 1 : *share == 1) {
        return ESP_OK;
    }
    return esp_config_refuse(c, key,
                             free_choice ? "at most 1" : "1: this model_type has no use for it");
}

static esp_status read_channels(const esp_rope_reader *r)
{
    size_t divisor = r->model->arch->rotary.divisor, d = r->model->dims.head_dim;
    double share;

    if (d % divisor != 0 || d / divisor % 2 != 0) {
        return esp_fail(ESP_EFORMAT,
                        "%s: %s is %zu, must be a multiple of %zu for rotary positions",
                        r->config->where, r->model->arch->keys->head_dim, d, 2 * divisor);
    }
    ESP_TRY(read_share(&share, r));
    r->model->rope.n = (size_t)(share * (double)(d / divisor));
    if (r->model->rope.n == 0 || r->model->rope.n % 2 != 0) {
        return esp_fail(ESP_EFORMAT,
                        "%s: partial_rotary_factor is %g, must turn an even number of the %zu "
                        "channels of a head, not %zu",
                        r->config->where, share, d, r->model->rope.n);
    }
    return ESP_OK;
}

/* Frequencies without a scaling. */
static void set_plain(esp_rope *rope, double theta)
{
    for (size_t i = 0; i < rope->n / 2; i++) {
        rope->inv_freq[i] = pow(theta, -2.0 * (double)i / (double)rope->n);
    }
}

static esp_status read_scaled(esp_rope_reader *r)
{
    const esp_config_part *holder = esp_config_get(r->part, "rope_theta") ? r->part : r->config;

    ESP_TRY(esp_config_real(&r->theta, holder, "rope_theta", THETA));
    ESP_TRY(read_channels(r));
    ESP_NEW(r->model->rope.inv_freq, r->model->rope.n / 2);
    set_plain(&r->model->rope, r->theta);
    return esp_rope_scale(r);
}

/* ---- families whose code has the frequencies ---- */

/* Whether the code of a published folder divides positions by rope_ratio: what stands before its name. */
static bool is_divided(const char *code)
{
    static const char name[] = "self.rope_ratio";
    bool divided = false;

    for (const char *at = strstr(code, name); at && !divided; at = strstr(at + 1, name)) {
        const char *before = at;

        while (before > code && isspace((unsigned char)before[-1])) {
            before--;
        }
        divided = before > code && before[-1] == '/';
    }
    return divided;
}

/* ESP_RATIO_AUTO becomes what the folder's code does; base where it has none. */
static esp_status resolve(esp_ratio_use *use, const esp_model *m)
{
    char *path = esp_path(m->dir, "modeling_chatglm.py"), *code = NULL;
    bool asked = *use == ESP_RATIO_AUTO && esp_file_exists(path);
    size_t n;
    esp_status st = asked ? esp_file_read(&code, &n, path) : ESP_OK;

    if (*use == ESP_RATIO_AUTO) {
        *use = code && is_divided(code) ? ESP_RATIO_POSITIONS : ESP_RATIO_BASE;
    }
    free(code);
    free(path);
    return st;
}

static void set_ratio(esp_model *m, esp_ratio_use use)
{
    bool divided = use == ESP_RATIO_POSITIONS;

    set_plain(&m->rope, divided ? THETA : THETA * m->rope_ratio);
    for (size_t i = 0; divided && i < m->rope.n / 2; i++) {
        m->rope.inv_freq[i] /= m->rope_ratio;
    }
}

esp_status esp_model_use_ratio(esp_model *m, esp_ratio_use use)
{
    if (m->rope_ratio == 1) {
        return ESP_OK;
    }
    ESP_TRY(resolve(&use, m));
    set_ratio(m, use);
    esp_info("%s: rope_ratio %g %s; the setting rope_ratio decides", m->dir, m->rope_ratio,
             use == ESP_RATIO_POSITIONS ? "divides positions, as in ChatGLM2-6B-32k"
                                        : "multiplies the base of the angles, as in ChatGLM3 and "
                                          "GLM-4 (ChatGLM2-6B-32k divides positions)");
    return ESP_OK;
}

/* The published code of these families has base 10000 and no scaling, whatever config.json says. */
static esp_status check_unscaled(const esp_config_part *c, bool ratio)
{
    static const char *const objects[] = { "rope_scaling", "rope_parameters" };
    double theta, factor;

    for (size_t i = 0; i < 2; i++) {
        if (esp_config_get(c, objects[i])) {
            return esp_config_refuse(c, objects[i],
                                     "null: the code of this model_type does not read it");
        }
    }
    ESP_TRY(esp_config_real(&theta, c, "rope_theta", THETA));
    if (theta != THETA) {
        return esp_config_refuse(c, "rope_theta",
                                 "10000: the code of this model_type does not read it");
    }
    ESP_TRY(esp_config_real(&factor, c, "rope_ratio", 1));
    return ratio || factor == 1
               ? ESP_OK
               : esp_config_refuse(c, "rope_ratio",
                                   "1: the code of this model_type does not read it");
}

static esp_status read_unscaled(const esp_rope_reader *r)
{
    esp_model *m = r->model;
    esp_ratio_use use = ESP_RATIO_AUTO;
    bool ratio = m->arch->rotary.source == ESP_ROPE_RATIO;

    ESP_TRY(check_unscaled(r->config, ratio));
    ESP_TRY(esp_config_real(&m->rope_ratio, r->config, "rope_ratio", 1));
    if (m->rope_ratio < 1 / ESP_LARGEST_ANGLE || m->rope_ratio > ESP_LARGEST_ANGLE) {
        return esp_config_refuse(r->config, "rope_ratio", "from 1e-6 to 1e6");
    }
    ESP_TRY(read_channels(r));
    ESP_NEW(m->rope.inv_freq, m->rope.n / 2);
    ESP_TRY(m->rope_ratio != 1 ? resolve(&use, m) : ESP_OK);
    set_ratio(m, use);
    return ESP_OK;
}

/* ---- the whole ---- */

esp_status esp_rope_read(esp_model *m, const esp_config_part *c)
{
    static const char *const keys[] = { "rope_scaling", "rope_parameters" };
    size_t old = json_object_size(esp_config_get(c, keys[0])); /* comes first, as in transformers */
    size_t counts = old > 0 ? 0 : 1;
    char *where = esp_format("%s: %s", c->where, keys[counts]);
    esp_config_part part = { .where = where, .json = esp_config_get(c, keys[counts]) };
    esp_rope_reader r = { .model = m, .config = c, .part = &part };
    esp_status st = ESP_OK;

    m->rope_ratio = m->rope.gain = 1;
    for (size_t i = 0; i < 2 && st == ESP_OK; i++) {
        const json_t *v = esp_config_get(c, keys[i]);

        st = !v || json_is_object(v) ? ESP_OK : esp_config_refuse(c, keys[i], "an object or null");
    }
    if (st == ESP_OK && m->arch->rotary.divisor > 0) {
        bool scaled = m->arch->rotary.source <= ESP_ROPE_PHI;

        st = scaled ? read_scaled(&r) : read_unscaled(&r);
    }
    free(where);
    return st;
}

size_t esp_model_anew(const esp_model *m)
{
    return m->arch->rotary.source == ESP_ROPE_PHI && m->rope.longer ? m->rope.border + 1 : 0;
}

static double *copy_of(const double *list, size_t n)
{
    double *copy = NULL;

    if (list) {
        ESP_NEW(copy, n);
        memcpy(copy, list, n * sizeof *copy);
    }
    return copy;
}

void esp_rope_copy(esp_rope *to, const esp_rope *from)
{
    *to = *from;
    to->inv_freq = copy_of(from->inv_freq, from->n / 2);
    to->longer = copy_of(from->longer, from->n / 2);
}

void esp_rope_free(esp_rope *r)
{
    free(r->inv_freq);
    free(r->longer);
    *r = (esp_rope){ 0 };
}
