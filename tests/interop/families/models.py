"""A small random model of each family, under the names of tensors and configuration that the family has."""
import json
import os

import numpy as np
import torch
from safetensors.torch import save_file
from sentencepiece import sentencepiece_model_pb2

from .layout import is_tied, layout_of, sizes_of

SAMPLES, LENGTH, LAYERS, VOCAB = 4, 12, 2, 80
COMMON = dict(num_hidden_layers=LAYERS, vocab_size=VOCAB, bos_token_id=1, eos_token_id=2)
LLAMA = COMMON | dict(
    hidden_size=32,
    intermediate_size=40,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
    rms_norm_eps=1e-5,
    rope_theta=10000.0,
    hidden_act="silu",
    tie_word_embeddings=False,
)
BAICHUAN = COMMON | dict(
    model_type="baichuan",
    architectures=["BaichuanForCausalLM"],
    hidden_size=36,
    intermediate_size=40,
    num_attention_heads=6,
    rms_norm_eps=1e-6,
    hidden_act="silu",
    tie_word_embeddings=False,
    pad_token_id=0,
)
# model_max_length stands for max_position_embeddings where positions are ALiBi; z_loss_weight, a key of
# Baichuan 2 alone, tells that the rows of the head are normalised.
CONFIGS = {
    "qwen3": LLAMA
    | dict(model_type="qwen3", architectures=["Qwen3ForCausalLM"], hidden_size=40, head_dim=8)
    | dict(rope_theta=1000000.0, tie_word_embeddings=True),
    "phi3": LLAMA
    | dict(model_type="phi3", architectures=["Phi3ForCausalLM"], pad_token_id=2, rope_scaling=None)
    | dict(original_max_position_embeddings=64, sliding_window=63),
    # Longer than what they were trained for: each sample of LENGTH tokens is beyond the border of 8.
    "phi4": LLAMA
    | dict(model_type="phi3", architectures=["Phi3ForCausalLM"], pad_token_id=2, sliding_window=99)
    | dict(original_max_position_embeddings=8, partial_rotary_factor=0.75, tie_word_embeddings=True)
    | dict(rope_scaling=dict(type="longrope", short_factor=[1.0, 1.1, 1.3], long_factor=[1.1, 1.8, 3.5])),
    "dynamic": LLAMA
    | dict(model_type="llama", architectures=["LlamaForCausalLM"], max_position_embeddings=8)
    | dict(rope_parameters=dict(rope_type="dynamic", factor=4.0, rope_theta=10000.0)),
    "baichuan-7b": BAICHUAN
    | dict(architectures=["BaiChuanForCausalLM"], num_attention_heads=4, hidden_size=32)
    | dict(max_position_embeddings=64),
    "baichuan-13b": BAICHUAN | dict(model_max_length=64),
    "baichuan2": BAICHUAN
    | dict(num_attention_heads=4, hidden_size=32, max_position_embeddings=64)
    | dict(model_max_length=64, z_loss_weight=0),
    "baichuan2-13b": BAICHUAN | dict(model_max_length=64, z_loss_weight=0),
    # What is not said is the default of the class: 8 key/value heads; soft caps, scale, window, activation.
    "mistral-window": COMMON
    | dict(model_type="mistral", architectures=["MistralForCausalLM"], hidden_size=32)
    | dict(num_attention_heads=8, intermediate_size=40, sliding_window=5),
    "gemma2-defaults": COMMON
    | dict(model_type="gemma2", architectures=["Gemma2ForCausalLM"], hidden_size=40, head_dim=8)
    | dict(num_attention_heads=4, intermediate_size=40, pad_token_id=0),
    "opt": COMMON
    | dict(model_type="opt", architectures=["OPTForCausalLM"], hidden_size=32, ffn_dim=72)
    | dict(num_attention_heads=4, max_position_embeddings=30, word_embed_proj_dim=32)
    | dict(do_layer_norm_before=True, activation_function="relu", enable_bias=True)
    | dict(layer_norm_elementwise_affine=True, bos_token_id=2, pad_token_id=1)
    | dict(dropout=0.0, attention_dropout=0.0, layerdrop=0.0),
    "bloom": dict(model_type="bloom", architectures=["BloomForCausalLM"], hidden_size=24)
    | dict(n_layer=LAYERS, n_head=6, vocab_size=VOCAB, layer_norm_epsilon=1e-5, seq_length=64)
    | dict(apply_residual_connection_post_layernorm=False, bos_token_id=1, eos_token_id=2)
    | dict(pad_token_id=3, hidden_dropout=0.0, attention_dropout=0.0),
    "gemma2": LLAMA
    | dict(model_type="gemma2", architectures=["Gemma2ForCausalLM"], hidden_size=40, head_dim=8)
    | dict(hidden_act="gelu_pytorch_tanh", hidden_activation="gelu_pytorch_tanh", sliding_window=5)
    | dict(query_pre_attn_scalar=10, attn_logit_softcapping=2.0, final_logit_softcapping=4.0)
    | dict(tie_word_embeddings=True, bos_token_id=2, eos_token_id=1, pad_token_id=0),
    "chatglm2": dict(model_type="chatglm", architectures=["ChatGLMModel"], hidden_size=32)
    | dict(num_layers=LAYERS, num_attention_heads=4, kv_channels=8, ffn_hidden_size=40)
    | dict(padded_vocab_size=VOCAB, seq_length=64, layernorm_epsilon=1e-5, rmsnorm=True)
    | dict(multi_query_attention=True, multi_query_group_num=2, add_qkv_bias=True)
    | dict(add_bias_linear=False, apply_residual_connection_post_layernorm=False)
    | dict(post_layer_norm=True, apply_query_key_layer_scaling=True, original_rope=True)
    | dict(tie_word_embeddings=False, eos_token_id=2, pad_token_id=0),
    "chatglm": dict(model_type="chatglm", architectures=["ChatGLMModel"], hidden_size=32)
    | dict(num_layers=LAYERS, num_attention_heads=4, inner_hidden_size=72, vocab_size=VOCAB)
    | dict(max_sequence_length=64, layernorm_epsilon=1e-5, position_encoding_2d=True)
    | dict(bos_token_id=78, eos_token_id=79, mask_token_id=74, gmask_token_id=75, pad_token_id=3)
    | dict(use_cache=True, pre_seq_len=None, prefix_projection=False, quantization_bit=0),
}

# The pieces of ChatGLM-6B's tokenizer that are no text, those after the vocabulary last; its ids are those of
# the configuration above.
WHITE_SPACE = ["<n>", "<|tab|>", "<|blank_2|>", "<|blank_3|>", "<|blank_4|>"]
LAST = ["[MASK]", "[gMASK]", "[sMASK]", "<unused_0>", "<sop>", "<eop>"]
WORDS = "the cat dog bird fox saw met fed tree pond hill what did see a and in of to who".split()


def shapes_of(config):
    """{tensor: (shape, kind)}, kind "embed", "matrix", "norm" or "bias"."""
    layout, s = layout_of(config), sizes_of(config)
    q, kv = s.heads * s.head_dim, s.kv_heads * s.head_dim
    out = {}

    def add(name, shape, kind, bias):
        out[name + ".weight"] = (shape, kind)
        if bias:
            out[name + ".bias"] = (shape[:1], "bias")

    def add_norm(name):
        add(name, (s.hidden,), "norm", "norm" in layout.biased)

    add(layout.embed, (s.vocab, s.hidden), "embed", False)
    if layout.positions:
        add(layout.positions, (config["max_position_embeddings"] + 2, s.hidden), "embed", False)
    if layout.embed_norm:
        add_norm(layout.embed_norm)
    for i in range(s.layers):
        prefix = layout.layer % i
        for name in layout.norms:
            add_norm(prefix + name)
        for name in layout.head_norms:
            add(prefix + name, (s.head_dim,), "norm", False)
        rows = (q, kv, kv) if len(layout.qkv) == 3 else (q + 2 * kv,)
        for name, n in zip(layout.qkv, rows):
            add(prefix + name, (n, s.hidden), "matrix", "qkv" in layout.biased)
        add(prefix + layout.out, (s.hidden, q), "matrix", "out" in layout.biased)
        n = s.mlp * (2 if layout.gated else 1) // len(layout.mlp)
        for name in layout.mlp:
            add(prefix + name, (n, s.hidden), "matrix", "mlp" in layout.biased)
        add(prefix + layout.down, (s.hidden, s.mlp), "matrix", "down" in layout.biased)
    add_norm(layout.final)
    if not is_tied(config):
        add(layout.head, (s.vocab, s.hidden), "matrix", False)
    return out


def random_tensor(rng, shape, kind, config):
    a = rng.standard_normal(shape)
    if kind == "norm":
        a = 0.2 * a + (0 if config["model_type"] == "gemma2" else 1)
    else:
        a *= {"embed": 0.3, "matrix": 0.25, "bias": 0.2}[kind]
    return torch.tensor(a, dtype=torch.float32)


def random_tokens(rng, config):
    """Ids clear of the special ones; a ChatGLM sample has a prompt that ends in [gMASK] <sop>."""
    ids = rng.integers(4, 74, (SAMPLES, LENGTH))
    if "gmask_token_id" in config:
        for j, sample in enumerate(ids):
            sample[3 + j : 5 + j] = config["gmask_token_id"], config["bos_token_id"]
    return ids


def write_ice_text(folder):
    """ice_text.model and tokenizer_config.json; a unigram model that prefers words to letters."""
    file = sentencepiece_model_pb2.ModelProto()
    kinds = file.SentencePiece

    def add(pieces, score, kind):
        for piece in pieces:
            file.pieces.add(piece=piece, score=score, type=kind)

    add(["<unk>"], 0, kinds.UNKNOWN)
    add(["<s>", "</s>", "<pad>"], 0, kinds.CONTROL)
    add(WHITE_SPACE, 0, kinds.USER_DEFINED)
    add(["\u2581" + word for word in WORDS], -1, kinds.NORMAL)
    add("\u2581abcdefghijklmnopqrstuvwxyz.,!?':#", -3, kinds.NORMAL)
    add(map(str, range(VOCAB - len(LAST) - len(file.pieces))), -3, kinds.NORMAL)
    add(LAST, 0, kinds.USER_DEFINED)
    file.trainer_spec.model_type = file.trainer_spec.UNIGRAM
    file.trainer_spec.vocab_size = len(file.pieces)
    file.normalizer_spec.name = "identity"
    file.normalizer_spec.remove_extra_whitespaces = False
    with open(os.path.join(folder, "ice_text.model"), "wb") as f:
        f.write(file.SerializeToString())
    with open(os.path.join(folder, "tokenizer_config.json"), "w") as f:
        names = dict(bos_token="<sop>", eos_token="<eop>", mask_token="[MASK]", gmask_token="[gMASK]")
        names |= dict(pad_token="<pad>", unk_token="<unk>", num_image_tokens=0, do_lower_case=False)
        json.dump(names | dict(tokenizer_class="ChatGLMTokenizer"), f, indent=2)
        f.write("\n")


def write_weights(folder, config, rng):
    """config.json and random weights of its shapes"""
    tensors = {
        tensor: random_tensor(rng, shape, kind, config) for tensor, (shape, kind) in shapes_of(config).items()
    }
    if config.get("inner_hidden_size"):  # the first ChatGLM's published files have it twice
        layout = layout_of(config)
        tensors[layout.head + ".weight"] = tensors[layout.embed + ".weight"].clone()
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(config, f, indent=2)
        f.write("\n")
    save_file(tensors, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})


def write_model(folder, name):
    config = CONFIGS[name] | {"torch_dtype": "float32"}
    rng = np.random.default_rng(list(name.encode()))
    write_weights(folder, config, rng)
    with open(os.path.join(folder, "tokens.txt"), "w") as f:
        for sample in random_tokens(rng, config):
            f.write(" ".join(map(str, sample)) + "\n")
    if name == "chatglm":
        write_ice_text(folder)
