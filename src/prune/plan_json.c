/* plan_json.c - plan.json: written to be read by people, read back with every check. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/compensate.h"
#include "espalier/file.h"
#include "espalier/mem.h"
#include "plan_impl.h"

/* ---- writing ----------------------------------------------------------------------------------- */

static void set(json_t *object, const char *key, json_t *value)
{
    ESP_REQUIRE(value && json_object_set_new(object, key, value) == 0);
}

static json_t *integer(uint64_t n)
{
    return json_integer((json_int_t)n);
}

static json_t *cost_json(esp_cost c)
{
    json_t *o = json_object();

    set(o, "parameters", integer(c.parameters));
    set(o, "macs", integer(c.macs));
    set(o, "bytes", integer(c.bytes));
    return o;
}

/* "mlp": kept indices, "mlp_of": of how many. */
static void set_kept(json_t *object, esp_unit_kind unit, const esp_kept_groups *k)
{
    const char *name = esp_unit_name(unit);
    char *of = esp_format("%s_of", name);
    json_t *list = json_array();

    for (size_t i = 0; i < k->n; i++) {
        ESP_REQUIRE(json_array_append_new(list, json_integer(k->index[i])) == 0);
    }
    set(object, name, list);
    set(object, of, integer(k->total));
    free(of);
}

static json_t *layers_json(const esp_plan *p)
{
    json_t *layers = json_array();

    for (size_t l = 0; l < p->n_layers; l++) {
        json_t *layer = json_object();

        set(layer, "layer", integer(l));
        set(layer, "kept", json_boolean(p->layers[l].kept));
        set_kept(layer, ESP_UNIT_ATTENTION, &p->layers[l].attention);
        if (esp_plan_cuts_queries(&p->layers[l])) {
            set_kept(layer, ESP_UNIT_QUERY, &p->layers[l].query);
        }
        set_kept(layer, ESP_UNIT_MLP, &p->layers[l].mlp);
        ESP_REQUIRE(json_array_append_new(layers, layer) == 0);
    }
    return layers;
}

static void set_amount(json_t *root, const esp_plan_options *o)
{
    if (o->target_kind == ESP_TARGET_NONE) {
        set(root, "ratio", json_real(o->ratio));
        if (o->attention_ratio > 0) {
            set(root, "attention_ratio", json_real(o->attention_ratio));
        }
    } else {
        json_t *target = json_object();

        set(target, esp_target_name(o->target_kind), json_real(o->target));
        set(root, "target", target);
    }
}

static const char *unit_name(const esp_near_tie *t)
{
    return t->unit == ESP_UNIT_LAYER ? "layer" : esp_unit_name(t->unit);
}

/* An object a unit; a whole layer is its own index. */
static json_t *near_json(const esp_plan *p)
{
    json_t *list = json_array();

    for (size_t i = 0; i < p->n_near;) {
        const esp_near_tie *t = &p->near[i];
        json_t *unit = json_object(), *kept = json_array(), *cut = json_array();

        if (t->layer != ESP_NO_LAYER) {
            set(unit, "layer", integer(t->layer));
        }
        set(unit, "unit", json_string(unit_name(t)));
        set(unit, "kept", kept);
        set(unit, "cut", cut);
        for (; i < p->n_near && p->near[i].unit == t->unit && p->near[i].layer == t->layer; i++) {
            json_t *to = p->near[i].stays ? kept : cut;

            ESP_REQUIRE(json_array_append_new(to, integer(p->near[i].group)) == 0);
        }
        ESP_REQUIRE(json_array_append_new(list, unit) == 0);
    }
    return list;
}

/* Errors as parts of the squares: a curve begins at what is left of the error with all groups. */
static json_t *curve_json(const esp_curve *c)
{
    json_t *unit = json_object(), *cut = json_array(), *error = json_array();

    set(unit, "layer", integer(c->unit->layer));
    set(unit, "unit", json_string(esp_unit_name(c->unit->kind)));
    set(unit, "cut", cut);
    set(unit, "error", error);
    set(unit, "squares", json_real(c->squares));
    set(unit, "tokens", integer((uint64_t)c->tokens));
    for (size_t i = 0; i <= c->n_gone; i++) {
        double part = c->squares > 0 ? c->error[i] / c->squares : 0;

        ESP_REQUIRE(json_array_append_new(error, json_real(part)) == 0);
        if (i < c->n_gone) {
            ESP_REQUIRE(json_array_append_new(cut, json_integer(c->order[i])) == 0);
        }
    }
    return unit;
}

static json_t *curves_json(const esp_choices *chosen)
{
    json_t *curves = json_array();

    for (size_t i = 0; i < chosen->n; i++) {
        ESP_REQUIRE(json_array_append_new(curves, curve_json(&chosen->curve[i])) == 0);
    }
    return curves;
}

/* By what the groups that go were chosen. */
static void set_reason(json_t *root, const esp_plan_options *o)
{
    if (o->select == ESP_BY_IMPORTANCE) {
        set(root, "criterion", json_string(esp_criterion_name(o->criterion)));
        set(root, "aggregation", json_string(esp_aggregation_name(o->aggregation)));
    } else {
        set(root, "select", json_string(esp_select_by_name(o->select)));
    }
}

static json_t *plan_json(const esp_plan *p, const esp_plan_options *o, const esp_choices *chosen)
{
    esp_cost saves = { p->dense.parameters - p->pruned.parameters, p->dense.macs - p->pruned.macs,
                       p->dense.bytes - p->pruned.bytes };
    json_t *root = json_object();

    set(root, "digest", json_string(p->digest));
    set(root, "model", json_string(p->model));
    set(root, "mode", json_string(esp_prune_mode_name(o->mode)));
    set_reason(root, o);
    set(root, "scope", json_string(esp_scope_name(o->global)));
    if (o->mode == ESP_PRUNE_BLOCK) {
        set(root, "attention", json_string(esp_attention_units_name(o->attention)));
    }
    set_amount(root, o);
    set(root, "tokens", integer(o->target_tokens));
    set(root, "dense", cost_json(p->dense));
    set(root, "pruned", cost_json(p->pruned));
    set(root, "saves", cost_json(saves));
    set(root, "layers", layers_json(p));
    set_kept(root, ESP_UNIT_HIDDEN, &p->hidden);
    if (chosen) {
        set(root, "curves", curves_json(chosen));
    } else if (o->precision == ESP_PRECISION_BF16) {
        set(root, "precision", json_string(esp_precision_name(o->precision)));
        set(root, "near_ties", near_json(p));
    }
    return root;
}

static void print_value(FILE *f, const json_t *value)
{
    json_dumpf(value, f, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(10));
}

/* One line per key, and per element of a list of objects. */
static void print_lines(FILE *f, json_t *root)
{
    const char *key, *end = "{\n";
    json_t *value, *element;
    size_t i;

    json_object_foreach(root, key, value)
    {
        fprintf(f, "%s  \"%s\": ", end, key);
        end = ",\n";
        if (!json_is_object(json_array_get(value, 0))) {
            print_value(f, value);
            continue;
        }
        json_array_foreach(value, i, element)
        {
            fputs(i ? ",\n    " : "[\n    ", f);
            print_value(f, element);
        }
        fputs("\n  ]", f);
    }
    fputs("\n}\n", f);
}

esp_status esp_plan_save(const esp_plan *p, const esp_plan_options *o, const esp_choices *chosen,
                         const char *path)
{
    json_t *root = plan_json(p, o, chosen);
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    esp_status st;

    ESP_REQUIRE(f);
    print_lines(f, root);
    ESP_REQUIRE(fclose(f) == 0);
    st = esp_file_write(path, text, n);
    free(text);
    json_decref(root);
    return st;
}

/* ---- reading ----------------------------------------------------------------------------------- */

/* A whole number from 0 to below `below`. */
static bool get_size(size_t *n, const json_t *value, size_t below)
{
    json_int_t i = json_integer_value(value);

    if (!json_is_integer(value) || i < 0 || (uint64_t)i >= below) {
        return false;
    }
    *n = (size_t)i;
    return true;
}

static esp_status get_digest(char out[ESP_DIGEST_SIZE], const json_t *root, const char *key)
{
    const char *s = json_string_value(json_object_get(root, key));

    if (!s || strlen(s) != ESP_DIGEST_SIZE - 1 || strspn(s, "0123456789abcdef") != strlen(s)) {
        return esp_fail(ESP_EFORMAT, "%s: is not a digest of 32 hex digits", key);
    }
    memcpy(out, s, ESP_DIGEST_SIZE);
    return ESP_OK;
}

static esp_status get_indices(esp_kept_groups *k, const json_t *list, const char *name)
{
    size_t i, next = 0, index;
    json_t *value;

    json_array_foreach(list, i, value)
    {
        if (!get_size(&index, value, k->total) || index < next) {
            return esp_fail(ESP_EFORMAT,
                            "%s[%zu]: is not an index above the one before and below %zu", name, i,
                            k->total);
        }
        k->index[k->n++] = (int32_t)index;
        next = index + 1;
    }
    return ESP_OK;
}

/* some: whether the list must hold an index (else none). */
static esp_status get_kept(esp_kept_groups *k, const json_t *object, esp_unit_kind unit,
                           size_t total, bool some)
{
    const char *name = esp_unit_name(unit);
    const json_t *list = json_object_get(object, name);
    char *of = esp_format("%s_of", name);
    bool sized = get_size(&k->total, json_object_get(object, of), INT32_MAX);

    free(of);
    if (!json_is_array(list) || !sized) {
        return esp_fail(ESP_EFORMAT, "%s: a list and its %s_of are needed", name, name);
    }
    if (k->total != total) {
        return esp_fail(ESP_EFORMAT, "%s: the plan is for %zu groups, the model has %zu", name,
                        k->total, total);
    }
    if ((json_array_size(list) > 0) != some) {
        return esp_fail(ESP_EFORMAT, "%s: keeps %zu groups of a layer that %s", name,
                        json_array_size(list), some ? "stays" : "goes");
    }
    ESP_NEW(k->index, total);
    return get_indices(k, list, name);
}

/* Those that a layer lists: as many of each key/value head that stays, and none of others. */
static bool are_alike(const esp_layer_plan *l)
{
    size_t of_group = l->query.total / l->attention.total, left = l->query.n / l->attention.n;

    if (left * l->attention.n != l->query.n) {
        return false;
    }
    for (size_t i = 0; i < l->query.n; i++) {
        if (l->query.index[i] / (int32_t)of_group != l->attention.index[i / left]) {
            return false;
        }
    }
    return true;
}

/* Query heads, which are listed where some go alone. */
static esp_status get_queries(esp_layer_plan *l, const json_t *object, size_t heads)
{
    if (!l->kept || !json_object_get(object, esp_unit_name(ESP_UNIT_QUERY))) {
        esp_plan_keep_all(&l->query, heads);
        esp_plan_drop_queries(l);
        return ESP_OK;
    }
    ESP_TRY(get_kept(&l->query, object, ESP_UNIT_QUERY, heads, true));
    return are_alike(l) ? ESP_OK
                        : esp_fail(ESP_EFORMAT, "query: is not as many heads of each key/value "
                                                "head that stays");
}

static esp_status get_layer(esp_layer_plan *l, const json_t *object, size_t i,
                            const esp_layer_dims *dims)
{
    const json_t *kept = json_object_get(object, "kept");
    size_t number;

    if (!get_size(&number, json_object_get(object, "layer"), SIZE_MAX) || number != i ||
        !json_is_boolean(kept)) {
        return esp_fail(ESP_EFORMAT, "\"layer\": %zu and a true or false \"kept\" are needed", i);
    }
    l->kept = json_is_true(kept);
    ESP_TRY(get_kept(&l->attention, object, ESP_UNIT_ATTENTION, dims->kv_heads, l->kept));
    ESP_TRY(get_queries(l, object, dims->heads));
    return get_kept(&l->mlp, object, ESP_UNIT_MLP, dims->mlp, l->kept);
}

static esp_status get_layers(esp_plan *p, const json_t *root, const esp_model *m)
{
    const json_t *layers = json_object_get(root, "layers");

    if (!json_is_array(layers) || json_array_size(layers) != m->dims.n_layers) {
        return esp_fail(ESP_EFORMAT,
                        "layers: a list of %zu is needed, as the model has; there are %zu",
                        m->dims.n_layers, json_array_size(layers));
    }
    p->n_layers = m->dims.n_layers;
    ESP_NEW(p->layers, p->n_layers);
    for (size_t l = 0; l < p->n_layers; l++) {
        esp_status st = get_layer(&p->layers[l], json_array_get(layers, l), l, &m->dims.layer[l]);

        if (st != ESP_OK) {
            return esp_fail_in(st, "layers[%zu]", l);
        }
    }
    return ESP_OK;
}

/* Costs are counted again, not believed. */
static esp_status get_plan(esp_plan *p, const json_t *root, const esp_model *m)
{
    char digest[ESP_DIGEST_SIZE];
    size_t n_tok;

    ESP_TRY(get_digest(digest, root, "digest"));
    ESP_TRY(get_digest(p->model, root, "model"));
    if (!get_size(&n_tok, json_object_get(root, "tokens"), INT32_MAX)) {
        return esp_fail(ESP_EFORMAT, "tokens: a whole number is needed");
    }
    ESP_TRY(get_kept(&p->hidden, root, ESP_UNIT_HIDDEN, m->dims.hidden, true));
    ESP_TRY(get_layers(p, root, m));
    esp_plan_seal(p);
    if (strcmp(digest, p->digest) != 0) {
        return esp_fail(ESP_EFORMAT,
                        "digest: %s is written, the kept indices have %s; they were changed",
                        digest, p->digest);
    }
    p->pruned = esp_plan_cost(p, m, n_tok);
    p->dense = esp_model_cost(m, n_tok);
    return ESP_OK;
}

esp_status esp_plan_load(esp_plan *p, const esp_model *m, const char *path)
{
    json_error_t error;
    json_t *root;
    esp_status st;
    char *text;
    size_t n;

    *p = (esp_plan){ 0 };
    ESP_TRY(esp_file_read(&text, &n, path));
    root = json_loadb(text, n, JSON_REJECT_DUPLICATES, &error);
    free(text);
    if (!root) {
        return esp_fail(ESP_EFORMAT, "%s: line %d: %s", path, error.line, error.text);
    }
    st = get_plan(p, root, m);
    json_decref(root);
    if (st != ESP_OK) {
        esp_plan_free(p);
        return esp_fail_in(st, "%s", path);
    }
    return ESP_OK;
}
