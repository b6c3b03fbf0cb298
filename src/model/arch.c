/* arch.c - the families as tables. */
#include "espalier/arch.h"

#include <string.h>

/* Weights of a LLaMA-like decoder block, in the order of the slots after ESP_SLOT_BLOCK. */
enum { NORM1 = ESP_SLOT_BLOCK, Q, K, V, O, NORM2, GATE, UP, DOWN };

static const esp_slot llama_slots[] = {
    [ESP_SLOT_EMBED] = { "model.embed_tokens", "embed", ESP_W_VOCAB, ESP_W_HIDDEN, ESP_BIAS_NEVER },
    [ESP_SLOT_FINAL_NORM] = { "model.norm", "norm", ESP_W_HIDDEN, ESP_W_ONE, ESP_BIAS_NEVER },
    [ESP_SLOT_HEAD] = { "lm_head", "head", ESP_W_VOCAB, ESP_W_HIDDEN, ESP_BIAS_NEVER },
#define LAYER(slot, name, label, rows, cols, bias) \
    [slot] = { "model.layers.%zu." name, label, rows, cols, bias }
    LAYER(NORM1, "input_layernorm", "norm1", ESP_W_HIDDEN, ESP_W_ONE, ESP_BIAS_NEVER),
    LAYER(Q, "self_attn.q_proj", "q", ESP_W_QUERY, ESP_W_HIDDEN, ESP_BIAS_QKV),
    LAYER(K, "self_attn.k_proj", "k", ESP_W_KV, ESP_W_HIDDEN, ESP_BIAS_QKV),
    LAYER(V, "self_attn.v_proj", "v", ESP_W_KV, ESP_W_HIDDEN, ESP_BIAS_QKV),
    LAYER(O, "self_attn.o_proj", "o", ESP_W_HIDDEN, ESP_W_QUERY, ESP_BIAS_ATTENTION),
    LAYER(NORM2, "post_attention_layernorm", "norm2", ESP_W_HIDDEN, ESP_W_ONE, ESP_BIAS_NEVER),
    LAYER(GATE, "mlp.gate_proj", "gate", ESP_W_MLP, ESP_W_HIDDEN, ESP_BIAS_MLP),
    LAYER(UP, "mlp.up_proj", "up", ESP_W_MLP, ESP_W_HIDDEN, ESP_BIAS_MLP),
    LAYER(DOWN, "mlp.down_proj", "down", ESP_W_HIDDEN, ESP_W_MLP, ESP_BIAS_MLP),
#undef LAYER
};

/* Values of the block, each written once. */
enum {
    X,
    H1,
    QUERY,
    KEY,
    VALUE,
    QUERY_R,
    KEY_R,
    ATT,
    ATT_OUT,
    X1,
    H2,
    G,
    U,
    M,
    MLP_OUT,
    X2,
    N_VALUES
};

static const esp_width llama_values[N_VALUES] = {
    [X] = ESP_W_HIDDEN,  [H1] = ESP_W_HIDDEN, [QUERY] = ESP_W_QUERY,
    [KEY] = ESP_W_KV,    [VALUE] = ESP_W_KV,  [QUERY_R] = ESP_W_QUERY,
    [KEY_R] = ESP_W_KV,  [ATT] = ESP_W_QUERY, [ATT_OUT] = ESP_W_HIDDEN,
    [X1] = ESP_W_HIDDEN, [H2] = ESP_W_HIDDEN, [G] = ESP_W_MLP,
    [U] = ESP_W_MLP,     [M] = ESP_W_MLP,     [MLP_OUT] = ESP_W_HIDDEN,
    [X2] = ESP_W_HIDDEN,
};

static const esp_op llama_ops[] = {
    { ESP_OP_NORM, NORM1, { X, -1, -1 }, H1 },
    { ESP_OP_LINEAR, Q, { H1, -1, -1 }, QUERY },
    { ESP_OP_LINEAR, K, { H1, -1, -1 }, KEY },
    { ESP_OP_LINEAR, V, { H1, -1, -1 }, VALUE },
    { ESP_OP_ROTARY, -1, { QUERY, -1, -1 }, QUERY_R },
    { ESP_OP_ROTARY, -1, { KEY, -1, -1 }, KEY_R },
    { ESP_OP_ATTENTION, -1, { QUERY_R, KEY_R, VALUE }, ATT },
    { ESP_OP_LINEAR, O, { ATT, -1, -1 }, ATT_OUT },
    { ESP_OP_ADD, -1, { X, ATT_OUT, -1 }, X1 },
    { ESP_OP_NORM, NORM2, { X1, -1, -1 }, H2 },
    { ESP_OP_LINEAR, GATE, { H2, -1, -1 }, G },
    { ESP_OP_LINEAR, UP, { H2, -1, -1 }, U },
    { ESP_OP_GATE, -1, { G, U, -1 }, M },
    { ESP_OP_LINEAR, DOWN, { M, -1, -1 }, MLP_OUT },
    { ESP_OP_ADD, -1, { X1, MLP_OUT, -1 }, X2 },
};

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define LLAMA_LIKE(type, class, qkv_bias)                                            \
    {                                                                                \
        .model_type = type, .architecture = class, .always_qkv_bias = qkv_bias,      \
        .slots = llama_slots, .n_slots = COUNT(llama_slots), .values = llama_values, \
        .n_values = COUNT(llama_values), .ops = llama_ops, .n_ops = COUNT(llama_ops) \
    }

static const esp_arch families[] = {
    LLAMA_LIKE("llama", "LlamaForCausalLM", false),
    LLAMA_LIKE("mistral", "MistralForCausalLM", false),
    LLAMA_LIKE("qwen2", "Qwen2ForCausalLM", true),
};

const esp_arch *esp_arch_find(const char *model_type)
{
    for (size_t i = 0; i < COUNT(families); i++) {
        if (strcmp(families[i].model_type, model_type) == 0) {
            return &families[i];
        }
    }
    return NULL;
}

const char *esp_arch_list(void)
{
    return "llama, mistral, qwen2";
}

const char *esp_slot_role(const esp_slot *s)
{
    const char *dot = strrchr(s->name, '.');

    return dot ? dot + 1 : s->name;
}

int esp_arch_slot(const esp_arch *a, const char *role)
{
    for (size_t i = 0; i < a->n_slots; i++) {
        if (strcmp(esp_slot_role(&a->slots[i]), role) == 0) {
            return (int)i;
        }
    }
    return -1;
}
