/* plan.h - which groups stay. Made once on rank 0, agreed by digest, and the pivot of all that follows. */
#ifndef ESPALIER_PLAN_H
#define ESPALIER_PLAN_H

#include "espalier/importance.h"

typedef enum esp_prune_mode {
    ESP_PRUNE_BLOCK,
    ESP_PRUNE_CHANNEL,
    ESP_PRUNE_LAYER,
    ESP_N_PRUNE_MODES
} esp_prune_mode;
typedef enum esp_target_kind {
    ESP_TARGET_NONE,
    ESP_TARGET_PARAMETERS,
    ESP_TARGET_MACS,
    ESP_TARGET_BYTES,
    ESP_N_TARGETS
} esp_target_kind;

/* What mode block cuts of attention. */
typedef enum esp_attention_units {
    ESP_ATTENTION_GROUPS,  /* key/value heads with their query heads                       */
    ESP_ATTENTION_QUERIES, /* query heads, as many of each key/value head, which all stay  */
    ESP_ATTENTION_BOTH,    /* both                                                         */
    ESP_N_ATTENTION_UNITS
} esp_attention_units;

/* By what the groups that go are chosen; how many go does not depend on it, but where one ranking goes over
 * all layers. */
typedef enum esp_select_by {
    ESP_BY_IMPORTANCE,
    ESP_BY_RECONSTRUCTION, /* what the projection behind them loses, see compensate.h */
    ESP_N_SELECT_BY
} esp_select_by;

typedef struct esp_layer_range {
    size_t first, last; /* inclusive */
} esp_layer_range;

typedef struct esp_layer_ranges {
    esp_layer_range *range; /* [n]; n = 0: all layers */
    size_t n;
} esp_layer_ranges;

typedef struct esp_plan_options {
    esp_prune_mode mode; /* block: attention and mlp groups; channel: hidden; layer: whole layers */
    esp_attention_units attention; /* of mode block */
    esp_select_by select;
    esp_criterion criterion;
    esp_aggregation aggregation;
    bool global;            /* one ranking over all layers, else each unit alike            */
    double ratio;           /* of the groups of each unit (local) or of all (global) to cut */
    double attention_ratio; /* local: that of the units of attention; 0: the ratio  */
    /* Instead of the ratio. target <= 1: fraction of the dense model to keep; else a count. */
    esp_target_kind target_kind;
    double target;
    size_t target_tokens; /* tokens of a forward for macs */
    /* Prunable layers, borrowed; n = 0: all. Whole layers: those in either list, all where both are empty. */
    esp_layer_ranges attention_layers, mlp_layers;
    size_t round_to; /* width of a unit that is cut (its channels) is a multiple of it; 0 is 1 */
    size_t min_keep; /* groups that stay in each unit at least; 0 is 1                 */
    uint64_t seed;   /* of criterion random                                            */
    esp_precision precision; /* of the products that the scores are from                  */
} esp_plan_options;

typedef struct esp_kept_groups {
    size_t n, total;
    int32_t *index; /* [n] ascending, owned */
} esp_kept_groups;

typedef struct esp_layer_plan {
    bool kept;                 /* false: the layer goes as a whole   */
    esp_kept_groups attention; /* key/value heads with their queries */
    esp_kept_groups query;     /* query heads, as many of each of these key/value heads */
    esp_kept_groups mlp;       /* intermediate channels              */
} esp_layer_plan;

#define ESP_UNIT_LAYER ESP_N_UNITS /* a whole layer as a group */

/* A group that scores in f32 might have moved to the other side. */
typedef struct esp_near_tie {
    esp_unit_kind unit; /* or ESP_UNIT_LAYER                     */
    size_t layer;       /* ESP_NO_LAYER for hidden and for layers */
    size_t group;
    bool stays; /* in this plan */
} esp_near_tie;

typedef struct esp_plan {
    esp_layer_plan *layers; /* [n_layers] owned */
    size_t n_layers;
    esp_kept_groups hidden;
    esp_near_tie *
        near; /* [n_near] owned; by unit (query: and key/value head), ascending score; see esp_plan_make */
    size_t n_near;
    esp_cost dense, pruned;
    char model[ESP_DIGEST_SIZE];  /* digest of the dense model, or of its config.json alone */
    char digest[ESP_DIGEST_SIZE]; /* of the kept indices                                   */
} esp_plan;

/* "importance" "reconstruction". NULL after the last. Local. */
const char *esp_select_by_name(unsigned by);

struct esp_choices; /* compensate.h */

/* "block" "channel" "layer"; "groups" "queries" "both"; "none" "parameters" "macs" "bytes"; "local" "global".
 * NULL after the last. Local. */
const char *esp_prune_mode_name(esp_prune_mode mode);
const char *esp_attention_units_name(esp_attention_units units);
const char *esp_target_name(esp_target_kind kind);
const char *esp_scope_name(unsigned global);

/* Bits of esp_unit_kind: units whose scores a plan ranks by. Local. */
unsigned esp_plan_units(const esp_plan_options *o);

/* Ranks groups by score (rounded to the 24 bits of an f32, ties by layer, unit and index) and cuts from
 * the lowest. A ratio is never passed: of n groups floor(n ratio) go, of each unit (local) or of all
 * (global), fewer where round_to and min_keep want it. A target is met within one group (or as many as
 * round_to takes together), local: with the same share cut from each unit. Of query heads each key/value head
 * loses as many, of its own the least: together they are one step, whose score is their sum, and the ratio is
 * that of the heads of each. Units of both kinds lose their share each.
 * Criterion random needs no scores (NULL), shapes only. p->model is set to the digest of config.json.
 * With scores in bf16, p->near has the groups that lie so near the cut that scores in f32 might choose
 * otherwise: only the rank that makes the plan has them, they are neither read nor shared.
 * ESP_EUSAGE when an option cannot be met, with the nearest that can, and for query heads of a model where
 * none share keys; ESP_EFAILED for scores that are
 * no finite numbers. Local. */
esp_status esp_plan_make(esp_plan *p, const esp_model *m, const esp_groups *g,
                         const esp_scores *scores, const esp_plan_options *o);

/* ESP_EUSAGE for layers that the model does not have. Local. */
esp_status esp_plan_check_layers(const esp_model *m, const esp_plan_options *o);

/* What shapes alone tell of esp_plan_make, before there are scores: ESP_EUSAGE where an option cannot be met,
 * and where nothing would go, with the least ratio by which something does. Warnings: units of few groups
 * that follow a local ratio from afar, "attention: 1 of 3 groups (33 %) in each layer for a ratio of 40 %".
 * Local. */
esp_status esp_plan_check_early(const esp_model *m, const esp_groups *g, const esp_plan_options *o);

void esp_plan_free(esp_plan *p); /* safe twice and on {0} */

/* The groups of a unit that stay. Borrowed. Local. */
const esp_kept_groups *esp_plan_kept(const esp_plan *p, const esp_unit *u);

/* Broadcasts rank 0's plan; the others' must be {0}. Digests are compared on all ranks.
 * Collective on comm. */
esp_status esp_plan_share(esp_plan *p, MPI_Comm comm);

/* plan.json, one line per key and per layer: {"digest", "model", "mode", "criterion", "aggregation", "scope",
 * "attention" (mode block), "ratio" (and "attention_ratio") or "target": {kind: n}, "tokens" (of macs),
 * "dense", "pruned", "saves": {"parameters", "macs", "bytes"}, "layers": [{"layer", "kept",
 * "attention": [indices], "attention_of": n, "query": [indices], "query_of": n, "mlp": [indices],
 * "mlp_of": n}], "hidden": [indices], "hidden_of": n}. "query" and "query_of" are there where query heads of
 * a group that stays go. A layer that goes has empty lists. Scores in bf16: also "precision": "bf16" and
 * "near_ties": [{"layer" (not of hidden), "unit": "attention" "query" "mlp" "hidden" or "layer",
 * "kept": [indices], "cut": [indices]}]. chosen: how the groups that go were chosen, where the
 * options say so: {"select"} in the place of {"criterion", "aggregation"} and "curves": [{"layer", "unit",
 * "cut": [indices, in the order in which they go], "error": [as parts of |y|^2, before and after each],
 * "squares": |y|^2, "tokens"}]; else NULL. Local. */
esp_status esp_plan_save(const esp_plan *p, const esp_plan_options *o,
                         const struct esp_choices *chosen, const char *path);
/* ESP_EFORMAT with file and place when it is malformed, its digest does not fit, or it is for other
 * shapes than m's; ESP_EUSAGE when it is not there. Costs are counted again from m. Local. */
esp_status esp_plan_load(esp_plan *p, const esp_model *m, const char *path);

/* Sizes of the model that a plan leaves; dims->layer is fresh, the caller frees. Local. */
void esp_plan_dims(esp_dims *dims, const esp_plan *p, const esp_model *m);

#endif
