"""The plain forward passes against relatives that transformers has: with its tensors renamed Baichuan-7B is
a LLaMA and ChatGLM2 a GLM; Baichuan-13B has the slopes of BLOOM."""
import torch
from transformers import GlmConfig, GlmForCausalLM, LlamaConfig, LlamaForCausalLM
from transformers.models.bloom.modeling_bloom import build_alibi_tensor

from .layout import layout_of, qkv_rows, sizes_of
from .plain import alibi_slopes
from .values import AllDouble, load_reference, read_tokens


def renamed(p, layout, s, mlp):
    """Parameters under the names of the LLaMA family, q, k and v apart; mlp: names of layout.mlp there."""
    out = {"model.embed_tokens.weight": layout.embed, "model.norm.weight": layout.final}
    out["lm_head.weight"] = layout.head
    for i in range(s.layers):
        here, there = layout.layer % i, "model.layers.%d." % i
        names = (*layout.norms, layout.out, *layout.mlp, layout.down)
        norms = ("input_layernorm", "post_attention_layernorm")
        others = (*norms, "self_attn.o_proj", *mlp, "mlp.down_proj")
        out |= {there + b + ".weight": here + a for a, b in zip(names, others)}
    out = {name: p[source + ".weight"] for name, source in out.items()}
    for i in range(s.layers):
        for label, (name, rows) in zip("qkv", qkv_rows(layout, s)):
            for kind in (".weight", ".bias"):
                if layout.layer % i + name + kind in p:
                    there = "model.layers.%d.self_attn.%s_proj%s" % (i, label, kind)
                    out[there] = p[layout.layer % i + name + kind][rows]
    return out


def same_logits(folder, model_class, config_class, mlp, **more):
    config, p, forward = load_reference(folder)
    layout, s = layout_of(config), sizes_of(config)
    shape = config_class(
        vocab_size=s.vocab,
        hidden_size=s.hidden,
        intermediate_size=s.mlp,
        num_hidden_layers=s.layers,
        num_attention_heads=s.heads,
        num_key_value_heads=s.kv_heads,
        head_dim=s.head_dim,
        tie_word_embeddings=False,
        pad_token_id=0,
        attn_implementation="eager",
        **more
    )
    with torch.no_grad(), AllDouble():
        model = model_class(shape).double().eval()
        model.load_state_dict(renamed(p, layout, s, mlp))
        return all(
            torch.allclose(forward(ids), model(ids[None]).logits[0], rtol=1e-10, atol=1e-10)
            for ids in read_tokens(folder)
        )


def same_slopes(heads):
    with AllDouble():
        bloom = build_alibi_tensor(torch.ones(1, 2), heads, torch.float64)[:, 0, 1]
    return torch.allclose(alibi_slopes(heads), bloom, rtol=1e-12)


def comparisons(golden):
    """[(what, the same?)]"""
    llama = (LlamaForCausalLM, LlamaConfig, ("mlp.gate_proj", "mlp.up_proj"))
    glm = (GlmForCausalLM, GlmConfig, ("mlp.gate_up_proj",))
    return [
        ("logits of baichuan-7b as a LLaMA", same_logits(golden + "/baichuan-7b", *llama, rms_norm_eps=1e-6)),
        ("logits of chatglm2 as a GLM", same_logits(golden + "/chatglm2", *glm, rms_norm_eps=1e-5)),
        ("slopes for 4, 6, 40, 64 heads", all(map(same_slopes, (4, 6, 40, 64)))),
    ]
