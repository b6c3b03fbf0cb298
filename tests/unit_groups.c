/* Groups against the definition: neurons and edges of small models one by one, the two rules of the
 * paper applied to closure from every neuron, and what then lies in the weights. */
#include "espalier/groups.h"
#include "shapes.h"

#define N_MOST 1024 /* neurons, and indices of weight sides, of the small models here */

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

static void weight_side(size_t layer, const char *role, esp_side side, size_t first, size_t n)
{
    b.sides[b.n_sides++] =
        (side_ref){ layer, esp_arch_slot(b.m->arch, role), side, b.n_indices, first, n };
    b.n_indices += n;
    ESP_REQUIRE(b.n_indices <= N_MOST && b.n_sides <= 64);
}

/* Fully connected, once all merging is done: remembered as weight sides, see connect. */
static size_t matrix(size_t layer, const char *role, size_t in, size_t n_in, size_t n_out)
{
    size_t out = neurons(n_out);

    weight_side(layer, role, ESP_COLS, in, n_in);
    weight_side(layer, role, ESP_ROWS, out, n_out);
    return out;
}

static size_t norm(size_t layer, const char *role, size_t in, size_t n)
{
    size_t out = neurons(n);

    weight_side(layer, role, ESP_ROWS, out, n);
    merge(in, out, n);
    return out;
}

/* x + attention(norm(x)), written out for the LLaMA block. */
static size_t attention(size_t l, size_t x)
{
    size_t D = b.m->dims.hidden, d = b.m->dims.head_dim;
    size_t H = b.m->dims.layer[l].heads, K = b.m->dims.layer[l].kv_heads;
    size_t h1 = norm(l, "input_layernorm", x, D);
    size_t q = matrix(l, "q_proj", h1, D, H * d), k = matrix(l, "k_proj", h1, D, K * d);
    size_t v = matrix(l, "v_proj", h1, D, K * d), mixed = neurons(H * d), o;

    for (size_t h = 0; h < H; h++) {
        size_t g = h / (H / K);

        for (size_t c = 0; c < d; c++) {
            size_t of_head[] = { q + h * d + c, k + g * d + c, v + g * d + c, mixed + h * d + c };

            merge_one(of_head[0], of_head[1]);
            merge_one(of_head[2], of_head[3]);
            for (size_t i = 0; i < 4; i++) {
                b.head[of_head[i]] = b.n_heads + (int)g;
            }
        }
    }
    b.n_heads += (int)K;
    o = matrix(l, "o_proj", mixed, H * d, D);
    merge(x, o, D);
    return o;
}

static size_t mlp(size_t l, size_t x)
{
    size_t D = b.m->dims.hidden, F = b.m->dims.layer[l].mlp;
    size_t h2 = norm(l, "post_attention_layernorm", x, D);
    size_t gate = matrix(l, "gate_proj", h2, D, F), up = matrix(l, "up_proj", h2, D, F), down;

    merge(gate, up, F);
    down = matrix(l, "down_proj", gate, F, D);
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

static void enumerate(const esp_model *m)
{
    size_t D = m->dims.hidden, V = m->dims.vocab, tokens, x, last, logits;

    memset(&b, 0, sizeof b);
    b.m = m;
    tokens = neurons(V);
    x = neurons(D);
    weight_side(ESP_NO_LAYER, "embed_tokens", ESP_COLS, x, D);
    last = x;
    for (size_t l = 0; l < m->dims.n_layers; l++) {
        last = mlp(l, attention(l, last));
    }
    last = norm(ESP_NO_LAYER, "norm", last, D);
    logits = neurons(V);
    if (!m->tied) {
        weight_side(ESP_NO_LAYER, "lm_head", ESP_COLS, last, D);
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

static size_t n_all_groups(const esp_groups *g)
{
    size_t n = 0;

    for (size_t u = 0; u < g->n_units; u++) {
        n += g->units[u].n_groups;
    }
    return n;
}

/* Every closure is one of the groups, every group a closure, and no two groups are alike. */
static void compare_with(const esp_groups *g)
{
    size_t n_groups = n_all_groups(g), at = 0;
    bool *groups = esp_calloc(n_groups * b.n_indices, 1), *met = esp_calloc(n_groups, 1);
    bool gone[N_MOST], index[N_MOST];

    for (size_t u = 0; u < g->n_units; u++) {
        for (size_t k = 0; k < g->units[u].n_groups; k++) {
            indices_of_group(groups + b.n_indices * at++, &g->units[u], k);
        }
    }
    for (size_t t = 0; t < b.n; t++) {
        size_t found = 0;

        if (b.label[t] != t || b.vocabulary[t]) {
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
    CU_ASSERT_PTR_NULL(memchr(met, false, n_groups));
    free(groups);
    free(met);
}

static void check_shape(const shape *s)
{
    esp_model m;
    esp_groups g;

    shape_model(&m, s);
    esp_groups_find(&g, &m);
    enumerate(&m);
    compare_with(&g);
    esp_groups_free(&g);
    esp_groups_free(&g);
    esp_model_free(&m);
}

static void test_enumerated(void)
{
    static const shape shapes[] = {
        { "llama", 2, 8, 4, 2, 2, 6, 5, true, NULL },    /* grouped queries, tied    */
        { "llama", 2, 8, 4, 4, 2, 6, 5, false, NULL },   /* as many key/value heads  */
        { "mistral", 2, 6, 4, 1, 4, 5, 3, false, NULL }, /* one key/value head       */
        { "qwen2", 1, 8, 4, 2, 4, 6, 5, true, NULL },    /* biases, wide heads       */
        { "llama", 3, 8, 4, 2, 2, 6, 5, false,           /* layers of their own size */
          ", \"espalier\": {\"num_attention_heads\": [4, 2, 6], "
          "\"num_key_value_heads\": [2, 1, 3], \"intermediate_size\": [6, 1, 9]}" },
    };

    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        check_shape(&shapes[i]);
    }
}

/* ---- units, order and channels ----------------------------------------------------------------- */

static void check_labels(const esp_unit *u, const esp_model *m, const char *expected)
{
    char text[256] = "";
    size_t at = 0;

    for (size_t i = 0; i < u->n_structures; i++) {
        at += (size_t)snprintf(text + at, sizeof text - at, "%s%s", i ? " " : "",
                               m->arch->slots[u->structures[i].slot].label);
    }
    CU_ASSERT_STRING_EQUAL(text, expected);
}

static void test_order(void)
{
    static const shape s = { "llama", 1, 8, 4, 2, 2, 6, 5, false, NULL };
    shape tied = s;
    esp_model m;
    esp_groups g;

    shape_model(&m, &s);
    esp_groups_find(&g, &m);
    CU_ASSERT_EQUAL(g.n_units, 3);
    CU_ASSERT_EQUAL(g.units[0].kind, ESP_UNIT_ATTENTION);
    CU_ASSERT_EQUAL(g.units[1].kind, ESP_UNIT_MLP);
    CU_ASSERT_EQUAL(g.units[2].kind, ESP_UNIT_HIDDEN);
    check_labels(&g.units[0], &m, "q k v o");
    check_labels(&g.units[1], &m, "gate up down");
    check_labels(&g.units[2], &m, "embed norm1 q k v o norm2 gate up down norm head");
    CU_ASSERT_EQUAL(g.units[2].layer, ESP_NO_LAYER);
    CU_ASSERT_EQUAL(g.units[2].structures[0].side, ESP_COLS);
    esp_groups_free(&g);
    esp_model_free(&m);

    tied.tied = true;
    shape_model(&m, &tied);
    esp_groups_find(&g, &m);
    check_labels(&g.units[2], &m, "embed norm1 q k v o norm2 gate up down norm");
    esp_groups_free(&g);
    esp_model_free(&m);
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
    for (size_t n = 1; n < g.n_units; n++) { /* a neuron, a channel of the stream: one index each */
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
    CU_ASSERT_EQUAL(n_all_groups(&g), 32 * (32 + 11008) + 4096);
    CU_ASSERT_EQUAL(esp_groups_unit(&g, ESP_UNIT_ATTENTION, 31)->channels_per_group, 128);
    CU_ASSERT_EQUAL(esp_groups_unit(&g, ESP_UNIT_HIDDEN, 0)->n_structures, 3 + 32 * 9);
    esp_groups_free(&g);
    esp_model_free(&m);
}

ESP_TEST_MAIN("groups", { "enumerated neurons", test_enumerated }, { "order", test_order },
              { "channels", test_channels }, { "model of real size", test_large })
