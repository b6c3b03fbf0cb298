/* Groups against the definition: neurons and edges of small models one by one, the two rules of the
 * paper applied to closure from every neuron, and what then lies in the weights. */
#include "espalier/groups.h"
#include "model_shapes.h"

#define N_MOST 1024 /* neurons, and indices of weight sides, of the small models here */

/* ---- what a block computes ---------------------------------------------------------------------- */

typedef enum packing {
    APART,  /* q, k and v are three matrices                        */
    BLOCKS, /* one matrix: the rows of all q, of all k, of all v     */
    HEADS   /* one matrix: the rows of q, k and v a head at a time */
} packing;

/* A family as its paper or its published program has it, in the last parts of its tensor names; this
 * table, not that of the program, says here which rows of a fused matrix are which. */
typedef struct recipe {
    const char *norm[2],
        *post_norm[2];  /* before attention and MLP; behind them or NULL           */
    const char *qkv[3]; /* one name where they are one matrix                      */
    packing packing;
    const char *out;
    const char *gate, *up,
        *down; /* gate NULL: no gate; gate = up: one matrix, the gate's rows first */
    bool positions, embed_norm; /* learned positions; a norm behind the embedding                */
} recipe;

#define PRE_NORMS   .norm = { "input_layernorm", "post_attention_layernorm" }
#define QKV         .qkv = { "q_proj", "k_proj", "v_proj" }
#define LLAMA_OUT   .out = "o_proj", .down = "down_proj"
#define LLAMA_MLP   .gate = "gate_proj", .up = "up_proj"
#define DENSE       .out = "dense", .up = "dense_h_to_4h", .down = "dense_4h_to_h"
#define FUSED(name) .qkv = { name }

static const recipe llama = { PRE_NORMS, QKV, LLAMA_OUT, LLAMA_MLP };
static const recipe phi3 = { PRE_NORMS,         FUSED("qkv_proj"),      LLAMA_OUT,
                             .packing = BLOCKS, .gate = "gate_up_proj", .up = "gate_up_proj" };
static const recipe baichuan = { PRE_NORMS, FUSED("W_pack"), LLAMA_OUT, LLAMA_MLP,
                                 .packing = BLOCKS };
static const recipe chatglm2 = { PRE_NORMS, FUSED("query_key_value"), DENSE, .packing = BLOCKS,
                                 .gate = "dense_h_to_4h" };
static const recipe chatglm = { PRE_NORMS, FUSED("query_key_value"), DENSE, .packing = HEADS };
static const recipe bloom = { PRE_NORMS, FUSED("query_key_value"), DENSE, .packing = HEADS,
                              .embed_norm = true };
static const recipe gemma2 = { .norm = { "input_layernorm", "pre_feedforward_layernorm" },
                               .post_norm = { "post_attention_layernorm",
                                              "post_feedforward_layernorm" },
                               QKV,
                               LLAMA_OUT,
                               LLAMA_MLP };
static const recipe opt = { .norm = { "self_attn_layer_norm", "final_layer_norm" },
                            QKV,
                            .out = "out_proj",
                            .up = "fc1",
                            .down = "fc2",
                            .positions = true };

/* ---- the graph by enumeration ------------------------------------------------------------------ */

/* Index `at + i` of the list of all weight indices belongs to neuron `first + i`. */
typedef struct side_ref {
    size_t layer;
    int slot;
    esp_side side;
    size_t at, first, n;
} side_ref;

typedef struct brute {
    const esp_model *m;
    bool queries;              /* keys and values stay                                 */
    size_t n;                  /* neurons                                              */
    size_t label[N_MOST];      /* elementwise partners have the same                   */
    int head[N_MOST];          /* -1, or the neurons that a reshape into heads joins   */
    bool vocabulary[N_MOST];   /* tokens and logits                                    */
    bool edge[N_MOST][N_MOST]; /* from, to; of labels                                 */
    side_ref sides[64];
    size_t n_sides, n_indices;
    int n_heads;
} brute;

static brute b; /* large */

static size_t neurons(size_t n)
{
    size_t first = b.n;

    ESP_REQUIRE(b.n + n <= N_MOST);
    for (size_t i = 0; i < n; i++) {
        b.label[b.n] = b.n;
        b.head[b.n] = -1;
        b.n++;
    }
    return first;
}

static void merge_one(size_t i, size_t j)
{
    size_t gone = b.label[j], stays = b.label[i];

    for (size_t k = 0; k < b.n; k++) {
        if (b.label[k] == gone) {
            b.label[k] = stays;
        }
    }
}

static void merge(size_t first, size_t second, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        merge_one(first + i, second + i);
    }
}

/* Of a block: OPT has the same name outside. */
static int slot_of(const char *role)
{
    int slot = ESP_SLOT_BLOCK;

    while (strcmp(esp_slot_role(&b.m->arch->slots[slot]), role) != 0) {
        slot++;
        ESP_REQUIRE((size_t)slot < b.m->arch->n_slots);
    }
    return slot;
}

static void weight_side(size_t layer, int slot, esp_side side, size_t first, size_t n)
{
    b.sides[b.n_sides++] = (side_ref){ layer, slot, side, b.n_indices, first, n };
    b.n_indices += n;
    ESP_REQUIRE(b.n_indices <= N_MOST && b.n_sides <= 64);
}

/* Fully connected, once all merging is done: remembered as weight sides, see connect. */
static size_t matrix(size_t layer, const char *role, size_t in, size_t n_in, size_t n_out)
{
    size_t out = neurons(n_out);

    weight_side(layer, slot_of(role), ESP_COLS, in, n_in);
    weight_side(layer, slot_of(role), ESP_ROWS, out, n_out);
    return out;
}

static size_t norm(size_t layer, int slot, size_t in, size_t n)
{
    size_t out = neurons(n);

    weight_side(layer, slot, ESP_ROWS, out, n);
    merge(in, out, n);
    return out;
}

/* role NULL: there is none */
static size_t block_norm(size_t layer, const char *role, size_t in, size_t n)
{
    return role ? norm(layer, slot_of(role), in, n) : in;
}

/* First neurons of q, k and v of a layer. */
typedef struct qkv_place {
    size_t q, k, v;
    size_t step; /* neurons from a head to the next */
} qkv_place;

static qkv_place project(const recipe *r, size_t l, size_t h)
{
    size_t D = b.m->dims.hidden, d = b.m->dims.head_dim, all;
    size_t Hd = b.m->dims.layer[l].heads * d, Kd = b.m->dims.layer[l].kv_heads * d;
    qkv_place at = { .step = d };

    if (r->packing == APART) {
        at.q = matrix(l, r->qkv[0], h, D, Hd);
        at.k = matrix(l, r->qkv[1], h, D, Kd);
        at.v = matrix(l, r->qkv[2], h, D, Kd);
        return at;
    }
    all = matrix(l, r->qkv[0], h, D, Hd + 2 * Kd);
    if (r->packing == BLOCKS) {
        return (qkv_place){ all, all + Hd, all + Hd + Kd, d };
    }
    return (qkv_place){ all, all + d, all + 2 * d, 3 * d };
}

/* x + attention(norm(x)). Where the norm's output is what is added to, it is x, index by index. Norms of
 * a head's channels (Qwen3) have one weight for all heads, no index of which goes with a head. */
static size_t attention(const recipe *r, size_t l, size_t x)
{
    size_t D = b.m->dims.hidden, d = b.m->dims.head_dim;
    size_t H = b.m->dims.layer[l].heads, K = b.m->dims.layer[l].kv_heads;
    qkv_place at = project(r, l, block_norm(l, r->norm[0], x, D));
    size_t mixed = neurons(H * d), o;

    for (size_t h = 0; h < H; h++) {
        size_t g = h / (H / K);

        for (size_t c = 0; c < d; c++) {
            size_t of_head[] = { at.q + h * at.step + c, at.k + g * at.step + c,
                                 at.v + g * at.step + c, mixed + h * d + c };

            if (b.queries) { /* keys and values stay */
                merge_one(of_head[0], of_head[3]);
                b.head[of_head[0]] = b.head[of_head[3]] = b.n_heads + (int)h;
                continue;
            }
            merge_one(of_head[0], of_head[1]);
            merge_one(of_head[2], of_head[3]);
            for (size_t i = 0; i < 4; i++) {
                b.head[of_head[i]] = b.n_heads + (int)g;
            }
        }
    }
    b.n_heads += (int)(b.queries ? H : K);
    o = block_norm(l, r->post_norm[0], matrix(l, r->out, mixed, H * d, D), D);
    merge(x, o, D);
    return o;
}

static size_t mlp(const recipe *r, size_t l, size_t x)
{
    size_t D = b.m->dims.hidden, F = b.m->dims.layer[l].mlp, up, down;
    size_t h = block_norm(l, r->norm[1], x, D);

    if (r->gate == r->up) {
        up = matrix(l, r->up, h, D, 2 * F);
        merge(up, up + F, F);
    } else {
        up = matrix(l, r->up, h, D, F);
        if (r->gate) {
            merge(matrix(l, r->gate, h, D, F), up, F);
        }
    }
    down = block_norm(l, r->post_norm[1], matrix(l, r->down, up, F, D), D);
    merge(x, down, D);
    return down;
}

/* Edges of every matrix, between labels; the sides of a matrix follow each other: columns, rows. */
static void connect(void)
{
    for (size_t s = 0; s + 1 < b.n_sides; s++) {
        const side_ref *in = &b.sides[s], *out = &b.sides[s + 1];

        if (in->side != ESP_COLS || out->layer != in->layer || out->slot != in->slot) {
            continue;
        }
        for (size_t i = 0; i < in->n; i++) {
            for (size_t j = 0; j < out->n; j++) {
                b.edge[b.label[in->first + i]][b.label[out->first + j]] = true;
            }
        }
    }
}

static void connect_all(size_t in, size_t n_in, size_t out, size_t n_out)
{
    for (size_t i = 0; i < n_in; i++) {
        for (size_t j = 0; j < n_out; j++) {
            b.edge[b.label[in + i]][b.label[out + j]] = true;
        }
    }
}

/* Tokens and learned positions to the input of the first block. */
static size_t embedding(const recipe *r)
{
    size_t D = b.m->dims.hidden, x = neurons(D);

    weight_side(ESP_NO_LAYER, ESP_SLOT_EMBED, ESP_COLS, x, D);
    if (r->positions) {
        weight_side(ESP_NO_LAYER, ESP_SLOT_POSITION, ESP_COLS, x, D);
    }
    return r->embed_norm ? norm(ESP_NO_LAYER, ESP_SLOT_EMBED_NORM, x, D) : x;
}

/* queries: what goes with a query head alone. */
static void enumerate(const recipe *r, const esp_model *m, bool queries)
{
    size_t D = m->dims.hidden, V = m->dims.vocab, tokens, x, last, logits;

    memset(&b, 0, sizeof b);
    b.m = m;
    b.queries = queries;
    tokens = neurons(V);
    last = x = embedding(r);
    for (size_t l = 0; l < m->dims.n_layers; l++) {
        last = mlp(r, l, attention(r, l, last));
    }
    last = norm(ESP_NO_LAYER, ESP_SLOT_FINAL_NORM, last, D);
    logits = neurons(V);
    if (!m->tied) {
        weight_side(ESP_NO_LAYER, ESP_SLOT_HEAD, ESP_COLS, last, D);
    }
    connect();
    connect_all(tokens, V, x, D);
    connect_all(last, D, logits, V);
    for (size_t i = 0; i < V; i++) {
        b.vocabulary[b.label[tokens + i]] = b.vocabulary[b.label[logits + i]] = true;
    }
}

/* ---- the two rules ----------------------------------------------------------------------------- */

static size_t in_degree(size_t j)
{
    size_t n = 0;

    for (size_t i = 0; i < b.n; i++) {
        n += b.edge[i][j];
    }
    return n;
}

static size_t out_degree(size_t i)
{
    size_t n = 0;

    for (size_t j = 0; j < b.n; j++) {
        n += b.edge[i][j];
    }
    return n;
}

/* Whether the neuron (a label) of j must go when that of i goes. */
static bool depends(size_t j, size_t i)
{
    if ((b.edge[i][j] && in_degree(j) == 1) || (b.edge[j][i] && out_degree(j) == 1)) {
        return true;
    }
    for (size_t x = 0; x < b.n; x++) {
        for (size_t y = 0; b.label[x] == i && b.head[x] >= 0 && y < b.n; y++) {
            if (b.label[y] == j && b.head[y] == b.head[x]) {
                return true;
            }
        }
    }
    return false;
}

static void closure(bool *gone, size_t trigger)
{
    size_t queue[N_MOST], n = 0;

    memset(gone, 0, b.n * sizeof *gone);
    gone[trigger] = true;
    queue[n++] = trigger;
    for (size_t k = 0; k < n; k++) {
        for (size_t j = 0; j < b.n; j++) {
            if (b.label[j] == j && !gone[j] && depends(j, queue[k])) {
                gone[j] = true;
                queue[n++] = j;
            }
        }
    }
}

/* The indices of weights that a set of neurons takes with it. */
static void indices_of_neurons(bool *index, const bool *gone)
{
    for (size_t s = 0; s < b.n_sides; s++) {
        for (size_t i = 0; i < b.sides[s].n; i++) {
            index[b.sides[s].at + i] = gone[b.label[b.sides[s].first + i]];
        }
    }
}

/* ---- comparison -------------------------------------------------------------------------------- */

static const side_ref *side_of(const esp_structure *s)
{
    for (size_t i = 0; i < b.n_sides; i++) {
        const side_ref *r = &b.sides[i];

        if (r->layer == s->layer && r->slot == s->slot && r->side == s->side && r->n == s->length) {
            return r;
        }
    }
    return NULL;
}

static void indices_of_group(bool *index, const esp_unit *u, size_t group)
{
    memset(index, 0, b.n_indices);
    for (size_t i = 0; i < u->n_structures; i++) {
        const esp_structure *s = &u->structures[i];
        const side_ref *r = side_of(s);

        CU_ASSERT_PTR_NOT_NULL(r);
        for (size_t k = 0; r && k < s->length; k++) {
            bool in_it =
                s->channel[k] >= 0 && (size_t)s->channel[k] / u->channels_per_group == group;

            index[r->at + k] = index[r->at + k] || in_it;
        }
    }
}

/* Of query heads, or of all other units. */
static size_t n_all_groups(const esp_groups *g, bool queries)
{
    size_t n = 0;

    for (size_t u = 0; u < g->n_units; u++) {
        n += (g->units[u].kind == ESP_UNIT_QUERY) == queries ? g->units[u].n_groups : 0;
    }
    return n;
}

/* Whether the closure of a neuron is a group: of heads where these are alone. */
static bool is_asked(size_t label)
{
    if (!b.queries) {
        return !b.vocabulary[label];
    }
    for (size_t i = 0; i < b.n; i++) {
        if (b.label[i] == label && b.head[i] >= 0) {
            return true;
        }
    }
    return false;
}

/* Every closure is one of the groups, every group a closure, and no two groups are alike. */
static void compare_with(const esp_groups *g)
{
    size_t n_groups = n_all_groups(g, b.queries), at = 0;
    bool *groups = esp_calloc(n_groups * b.n_indices, 1), *met = esp_calloc(n_groups, 1);
    bool gone[N_MOST], index[N_MOST];

    for (size_t u = 0; u < g->n_units; u++) {
        bool asked = (g->units[u].kind == ESP_UNIT_QUERY) == b.queries;

        for (size_t k = 0; asked && k < g->units[u].n_groups; k++) {
            indices_of_group(groups + b.n_indices * at++, &g->units[u], k);
        }
    }
    for (size_t t = 0; t < b.n; t++) {
        size_t found = 0;

        if (b.label[t] != t || !is_asked(t)) {
            continue;
        }
        closure(gone, t);
        indices_of_neurons(index, gone);
        for (size_t k = 0; k < n_groups; k++) {
            if (memcmp(index, groups + k * b.n_indices, b.n_indices) == 0) {
                met[k] = true;
                found++;
            }
        }
        CU_ASSERT_EQUAL(found, 1);
    }
    CU_ASSERT_PTR_NULL(n_groups ? memchr(met, false, n_groups) : NULL);
    free(groups);
    free(met);
}

static bool shares_keys(const esp_model *m)
{
    for (size_t l = 0; l < m->dims.n_layers; l++) {
        if (m->dims.layer[l].heads > m->dims.layer[l].kv_heads) {
            return true;
        }
    }
    return false;
}

/* Frees m. */
static void check_model(const recipe *r, esp_model *m)
{
    esp_groups g;

    esp_groups_find(&g, m);
    enumerate(r, m, false);
    compare_with(&g);
    CU_ASSERT_EQUAL(shares_keys(m), n_all_groups(&g, true) > 0);
    if (shares_keys(m)) {
        enumerate(r, m, true);
        compare_with(&g);
    }
    esp_groups_free(&g);
    esp_groups_free(&g);
    esp_model_free(m);
}

static void check_shape(const recipe *r, const shape *s)
{
    esp_model m;

    shape_model(&m, s);
    check_model(r, &m);
}

static void test_enumerated(void)
{
    static const shape shapes[] = {
        { "llama", 2, 8, 4, 2, 2, 6, 5, true, NULL },    /* grouped queries, tied    */
        { "llama", 2, 8, 4, 4, 2, 6, 5, false, NULL },   /* as many key/value heads  */
        { "mistral", 2, 6, 4, 1, 4, 5, 3, false, NULL }, /* one key/value head       */
        { "qwen2", 1, 8, 4, 2, 4, 6, 5, true, NULL },    /* biases, wide heads       */
        { "qwen3", 2, 8, 4, 2, 4, 6, 5, true, NULL },    /* norms of heads           */
        { "llama", 3, 8, 4, 2, 2, 6, 5, false,           /* layers of their own size */
          ", \"espalier\": {\"num_attention_heads\": [4, 2, 6], "
          "\"num_key_value_heads\": [2, 1, 3], \"intermediate_size\": [6, 1, 9]}" },
    };

    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        check_shape(&llama, &shapes[i]);
    }
}

#define UNEVEN                                                                            \
    ", \"espalier\": {\"num_attention_heads\": [4, 2], \"num_key_value_heads\": [2, 1], " \
    "\"intermediate_size\": [6, 1]}"
#define UNEVEN_HEADS                                                                      \
    ", \"espalier\": {\"num_attention_heads\": [3, 1], \"num_key_value_heads\": [3, 1], " \
    "\"intermediate_size\": [6, 1]}"
#define BLOOM    BLOOM_KEYS(2, 4)
#define CHATGLM  CHATGLM_KEYS(2, 7)
#define CHATGLM2 CHATGLM2_KEYS(2, 2, 4, 6, 5)

static void test_families(void)
{
    static const struct {
        const recipe *recipe;
        shape shape;
    } families[] = {
        { &phi3, { "phi3", 2, 8, 4, 2, 2, 6, 5, false, NULL } },
        { &phi3, { "phi3", 2, 8, 4, 2, 2, 6, 5, true, UNEVEN } },
        { &baichuan, { "baichuan", 2, 8, 4, 4, 2, 6, 5, false, NULL } },
        { &baichuan, { "baichuan", 2, 8, 4, 4, 2, 6, 5, false, UNEVEN_HEADS } },
        { &chatglm2, { "chatglm", 2, 8, 4, 2, 4, 6, 5, false, CHATGLM2 } },
        { &chatglm2, { "chatglm", 2, 8, 4, 2, 4, 6, 5, false, CHATGLM2 UNEVEN } },
        { &chatglm, { "chatglm", 2, 8, 2, 2, 4, 7, 5, false, CHATGLM } },
        { &chatglm, { "chatglm", 2, 8, 2, 2, 4, 7, 5, false, CHATGLM UNEVEN_HEADS } },
        { &bloom, { "bloom", 2, 8, 4, 4, 2, 32, 5, true, BLOOM } },
        { &bloom, { "bloom", 2, 8, 4, 4, 2, 32, 5, false, BLOOM UNEVEN_HEADS } },
        { &gemma2, { "gemma2", 2, 8, 4, 2, 4, 6, 5, true, NULL } },
        { &opt, { "opt", 2, 8, 4, 4, 2, 6, 5, true, OPT_KEYS(6) } },
        { &opt, { "opt", 2, 8, 4, 4, 2, 6, 5, true, OPT_KEYS(6) UNEVEN_HEADS } },
    };
    esp_model m;

    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        check_shape(families[i].recipe, &families[i].shape);
    }
    config_model(&m, "{\"model_type\": \"baichuan\", \"num_hidden_layers\": 2, \"hidden_size\": 8, "
                     "\"num_attention_heads\": 4, \"intermediate_size\": 6, \"vocab_size\": 5, "
                     "\"model_max_length\": 64}");
    CU_ASSERT(m.arch->alibi); /* the 13B one */
    check_model(&baichuan, &m);
}

/* ---- units, order and channels ----------------------------------------------------------------- */

static void check_labels(const esp_unit *u, const char *expected)
{
    char text[256] = "";
    size_t at = 0;

    for (size_t i = 0; i < u->n_structures; i++) {
        at += (size_t)snprintf(text + at, sizeof text - at, "%s%s", i ? " " : "",
                               u->structures[i].label);
    }
    CU_ASSERT_STRING_EQUAL(text, expected);
}

static void check_order(const shape *s, const char *attention, const char *mlp, const char *hidden)
{
    esp_model m;
    esp_groups g;
    size_t last;

    shape_model(&m, s);
    esp_groups_find(&g, &m);
    last = g.n_units - 1;
    CU_ASSERT_EQUAL(g.n_units, shares_keys(&m) ? 4 : 3);
    CU_ASSERT_EQUAL(g.units[0].kind, ESP_UNIT_ATTENTION);
    CU_ASSERT_EQUAL(g.units[1].kind, shares_keys(&m) ? ESP_UNIT_QUERY : ESP_UNIT_MLP);
    CU_ASSERT_EQUAL(g.units[last - 1].kind, ESP_UNIT_MLP);
    CU_ASSERT_EQUAL(g.units[last].kind, ESP_UNIT_HIDDEN);
    check_labels(&g.units[0], attention);
    check_labels(&g.units[1], shares_keys(&m) ? "q o" : mlp);
    check_labels(&g.units[last - 1], mlp);
    check_labels(&g.units[last], hidden);
    CU_ASSERT_EQUAL(g.units[last].layer, ESP_NO_LAYER);
    CU_ASSERT_EQUAL(g.units[last].structures[0].side, ESP_COLS);
    esp_groups_free(&g);
    esp_model_free(&m);
}

static void test_order(void)
{
    static const shape untied = { "llama", 1, 8, 4, 2, 2, 6, 5, false, NULL };
    static const shape tied = { "llama", 1, 8, 4, 2, 2, 6, 5, true, NULL };
    static const shape fused = { "phi3", 1, 8, 4, 2, 2, 6, 5, false, NULL };
    static const shape by_head = { "bloom", 1, 8, 4, 4, 2, 32, 5, true, BLOOM_KEYS(1, 4) };

    check_order(&untied, "q k v o", "gate up down",
                "embed norm1 q k v o norm2 gate up down norm head");
    check_order(&tied, "q k v o", "gate up down", "embed norm1 q k v o norm2 gate up down norm");
    check_order(&fused, "q k v o", "gate up down",
                "embed norm1 qkv o norm2 gate_up down norm head");
    check_order(&by_head, "q k v o", "up down", "embed norm0 norm1 qkv o norm2 up down norm");
}

/* Channel c of every query head of a group is channel c of the group. */
static void test_channels(void)
{
    static const shape s = { "llama", 1, 8, 6, 2, 4, 5, 5, false, NULL };
    esp_model m;
    esp_groups g;
    const esp_unit *u;

    shape_model(&m, &s);
    esp_groups_find(&g, &m);
    u = esp_groups_unit(&g, ESP_UNIT_ATTENTION, 0);
    CU_ASSERT_EQUAL(u->n_groups, 2);
    CU_ASSERT_EQUAL(u->channels_per_group, 4);
    for (size_t i = 0; i < u->n_structures; i++) {
        const esp_structure *x = &u->structures[i];
        size_t heads_of_group = x->length / 4 / 2; /* 3 of q and o, 1 of k and v */

        for (size_t k = 0; k < x->length; k++) {
            CU_ASSERT_EQUAL(x->channel[k], (int32_t)(k / 4 / heads_of_group * 4 + k % 4));
        }
    }
    u = esp_groups_unit(&g, ESP_UNIT_QUERY, 0);
    CU_ASSERT_EQUAL(u->n_groups, 6);
    CU_ASSERT_EQUAL(u->channels_per_group, 4);
    CU_ASSERT_EQUAL(u->n_structures, 2);
    for (size_t i = 0; i < 2 * 24; i++) { /* every head's own */
        CU_ASSERT_EQUAL(u->structures[i / 24].channel[i % 24], (int32_t)(i % 24));
    }
    for (size_t n = 2; n < g.n_units; n++) { /* a neuron, a channel of the stream: one index each */
        CU_ASSERT_EQUAL(g.units[n].channels_per_group, 1);
        for (size_t i = 0; i < g.units[n].n_structures; i++) {
            for (size_t k = 0; k < g.units[n].structures[i].length; k++) {
                CU_ASSERT_EQUAL(g.units[n].structures[i].channel[k], (int32_t)k);
            }
        }
    }
    CU_ASSERT_PTR_NULL(esp_groups_unit(&g, ESP_UNIT_MLP, 1));
    esp_groups_free(&g);
    esp_model_free(&m);
}

/* The neuron graph of a model of real size. */
static void test_large(void)
{
    static const shape llama_7b = { "llama", 32, 4096, 32, 32, 128, 11008, 32000, false, NULL };
    esp_model m;
    esp_groups g;

    shape_model(&m, &llama_7b);
    esp_groups_find(&g, &m);
    CU_ASSERT_EQUAL(g.n_units, 65);
    CU_ASSERT_EQUAL(n_all_groups(&g, false), 32 * (32 + 11008) + 4096);
    CU_ASSERT_EQUAL(esp_groups_unit(&g, ESP_UNIT_ATTENTION, 31)->channels_per_group, 128);
    CU_ASSERT_EQUAL(esp_groups_unit(&g, ESP_UNIT_HIDDEN, 0)->n_structures, 3 + 32 * 9);
    esp_groups_free(&g);
    esp_model_free(&m);
}

ESP_TEST_MAIN("groups", { "enumerated neurons", test_enumerated },
              { "enumerated neurons of families", test_families }, { "order", test_order },
              { "channels", test_channels }, { "model of real size", test_large })
