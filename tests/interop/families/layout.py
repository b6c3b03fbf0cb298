"""Where the structures of a family lie: which rows or columns of which tensor belong to which channel.

The convention (importance.h has the formulas):
    attention  a group is a key/value head with its query heads; structures in order of execution q, k, v
               (rows) and o (columns). Channel c of all query heads of a group is one channel. In a fused
               tensor the row ranges of q, k and v are the structures q, k and v.
    mlp        a group is a neuron; structures gate, up (rows; up alone where there is no gate) and down
               (columns). A fused gate_up tensor gives gate and up by its row ranges.
    hidden     a group is a channel of the residual stream; structures: columns of the embedding and of
               learned positions, every norm over the stream, columns of q, k, v, gate, up (a fused tensor's
               columns are one structure), rows of o and down, last the final norm, and the head's columns
               where it is a tensor of its own.
    A bias is one more element of its row, that of a norm as well. Norms of a head's channels (Qwen3) are in
    no unit. Importance is that of the stored numbers: a norm that multiplies by 1 + w has the elements w.
"""
from dataclasses import dataclass, replace

import torch


@dataclass(frozen=True)
class Layout:
    """Tensor names without ".weight"; those of a block without the prefix."""

    layer: str  # prefix of the tensors of a block; %d stands for its number
    embed: str
    final: str
    head: str
    norms: tuple  # of a block, over the residual stream
    qkv: tuple  # three tensors, or one that holds q, k and v
    out: str
    mlp: tuple  # (gate, up), one fused (gate_up,), or (fc1,) where gated is False
    down: str
    positions: str = ""  # learned ones
    embed_norm: str = ""
    head_norms: tuple = ()  # vectors over the channels of a head
    per_head: bool = False  # a fused qkv: [q, k, v] a head, instead of [all q, all k, all v]
    gated: bool = True
    biased: tuple = ()  # parts of a block with a bias: "norm", "qkv", "out", "mlp", "down"


LLAMA = dict(
    layer="model.layers.%d.",
    embed="model.embed_tokens",
    final="model.norm",
    head="lm_head",
    norms=("input_layernorm", "post_attention_layernorm"),
    qkv=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    out="self_attn.o_proj",
    mlp=("mlp.gate_proj", "mlp.up_proj"),
    down="mlp.down_proj",
)
CHATGLM = dict(
    qkv=("attention.query_key_value",),
    out="attention.dense",
    norms=("input_layernorm", "post_attention_layernorm"),
    mlp=("mlp.dense_h_to_4h",),
    down="mlp.dense_4h_to_h",
)
EVERYWHERE = ("norm", "qkv", "out", "mlp", "down")

LAYOUTS = {
    "llama": Layout(**LLAMA),
    "mistral": Layout(**LLAMA),
    "qwen2": Layout(**LLAMA, biased=("qkv",)),
    "qwen3": Layout(**LLAMA, head_norms=("self_attn.q_norm", "self_attn.k_norm")),
    "phi3": Layout(**LLAMA | dict(qkv=("self_attn.qkv_proj",), mlp=("mlp.gate_up_proj",))),
    "baichuan": Layout(**LLAMA | dict(qkv=("self_attn.W_pack",))),
    "gemma2": Layout(
        **LLAMA
        | dict(
            norms=(
                "input_layernorm",
                "post_attention_layernorm",
                "pre_feedforward_layernorm",
                "post_feedforward_layernorm",
            )
        )
    ),
    "opt": Layout(
        **LLAMA
        | dict(
            layer="model.decoder.layers.%d.",
            embed="model.decoder.embed_tokens",
            positions="model.decoder.embed_positions",
            final="model.decoder.final_layer_norm",
            norms=("self_attn_layer_norm", "final_layer_norm"),
            out="self_attn.out_proj",
            mlp=("fc1",),
            down="fc2",
            gated=False,
            biased=EVERYWHERE,
        )
    ),
    "bloom": Layout(
        **CHATGLM
        | dict(
            layer="transformer.h.%d.",
            embed="transformer.word_embeddings",
            embed_norm="transformer.word_embeddings_layernorm",
            final="transformer.ln_f",
            head="lm_head",
            qkv=("self_attention.query_key_value",),
            out="self_attention.dense",
            per_head=True,
            gated=False,
            biased=EVERYWHERE,
        )
    ),
    "chatglm": Layout(
        **CHATGLM,
        layer="transformer.layers.%d.",
        embed="transformer.word_embeddings",
        final="transformer.final_layernorm",
        head="lm_head",
        per_head=True,
        gated=False,
        biased=EVERYWHERE,
    ),
    "chatglm2": Layout(
        **CHATGLM
        | dict(
            layer="transformer.encoder.layers.%d.",
            embed="transformer.embedding.word_embeddings",
            final="transformer.encoder.final_layernorm",
            head="transformer.output_layer",
            qkv=("self_attention.query_key_value",),
            out="self_attention.dense",
            biased=("qkv",),
        )
    ),
}


def layout_of(config):
    kind = config["model_type"]
    return LAYOUTS["chatglm2" if kind == "chatglm" and "ffn_hidden_size" in config else kind]


def is_tied(config):
    """Whether head and embedding are one: as the class means it where the file does not say so."""
    tied = config["model_type"] in ("opt", "bloom", "gemma2") or layout_of(config) is LAYOUTS["chatglm"]
    return config.get("tie_word_embeddings", tied)


@dataclass(frozen=True)
class Sizes:
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp: int
    vocab: int


def sizes_of(config):
    def first(*keys):
        return next(config[k] for k in keys if config.get(k))

    hidden, heads = first("hidden_size", "n_embed"), first("num_attention_heads", "n_head")
    return Sizes(
        layers=first("num_hidden_layers", "num_layers", "n_layer"),
        hidden=hidden,
        heads=heads,
        kv_heads=config.get("multi_query_group_num") or config.get("num_key_value_heads") or heads,
        head_dim=config.get("head_dim") or config.get("kv_channels") or hidden // heads,
        mlp=config.get("intermediate_size")
        or config.get("ffn_dim")
        or config.get("ffn_hidden_size")
        or config.get("inner_hidden_size")
        or 4 * hidden,
        vocab=first("vocab_size", "padded_vocab_size"),
    )


def layer_sizes(config, i):
    """Sizes of layer i, where a model that was cut has its own for each."""
    own = config.get("espalier", {})
    keys = dict(heads="num_attention_heads", kv_heads="num_key_value_heads", mlp="intermediate_size")
    return replace(sizes_of(config), **{size: own[key][i] for size, key in keys.items() if key in own})


def qkv_rows(layout, s):
    """[(tensor, rows)] of q, k and v."""
    q, kv = s.heads * s.head_dim, s.kv_heads * s.head_dim
    if len(layout.qkv) == 3:
        return [(name, torch.arange(n)) for name, n in zip(layout.qkv, (q, kv, kv))]
    if layout.per_head:
        parts = torch.arange(3 * q).view(s.heads, 3, s.head_dim).unbind(1)
    else:
        parts = torch.arange(q + 2 * kv).split((q, kv, kv))
    return [(layout.qkv[0], rows.reshape(-1)) for rows in parts]


def mlp_rows(layout, s):
    """{label: (tensor, rows)} of the neurons' inputs."""
    labels = ("gate", "up") if layout.gated else ("up",)
    if len(layout.mlp) == len(labels):
        return {label: (name, torch.arange(s.mlp)) for label, name in zip(labels, layout.mlp)}
    return {
        label: (layout.mlp[0], rows) for label, rows in zip(labels, torch.arange(2 * s.mlp).split(s.mlp))
    }


def hidden_sides(layout, s, has_head):
    """[(tensor, "rows" or "cols")] over the residual stream; a norm has rows."""
    sides = [(layout.embed, "cols")]
    sides += [(layout.positions, "cols")] if layout.positions else []
    sides += [(layout.embed_norm, "rows")] if layout.embed_norm else []
    for i in range(s.layers):
        prefix = layout.layer % i
        sides += [(prefix + name, "rows") for name in layout.norms + (layout.out, layout.down)]
        sides += [(prefix + name, "cols") for name in layout.qkv + layout.mlp]
    return sides + [(layout.final, "rows")] + ([(layout.head, "cols")] if has_head else [])
