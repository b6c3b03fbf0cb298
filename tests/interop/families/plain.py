"""Forward passes of families that transformers does not have, from their published descriptions."""
import math

import torch
from torch.nn import functional

from .layout import layer_sizes, layout_of, mlp_rows, qkv_rows, sizes_of


def rms_norm(x, p, name, eps):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * p[name + ".weight"]


def layer_norm(x, p, name, eps):
    return functional.layer_norm(x, x.shape[-1:], p[name + ".weight"], p[name + ".bias"], eps)


def linear(x, p, name):
    return functional.linear(x, p[name + ".weight"], p.get(name + ".bias"))


def angles(positions, n, theta=10000.0):
    """[T, n / 2] of the pairs of n channels."""
    return positions[:, None] * theta ** (-torch.arange(0, n, 2, dtype=torch.float64) / n)


def turn_halves(x, angle):
    """Channel c with channel c + n / 2.  x [heads, T, n]"""
    a, b = x.chunk(2, -1)
    return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], -1)


def turn_pairs(x, angle):
    """Channel 2c with channel 2c + 1."""
    a, b = x[..., 0::2], x[..., 1::2]
    turned = [a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()]
    return torch.stack(turned, -1).flatten(-2)


def alibi_slopes(heads):
    """Press et al.: a geometric series for a power of two; further heads take every second term of the
    series of twice as many."""
    n = 2 ** int(math.log2(heads))
    first = [2.0 ** (-8.0 * (i + 1) / n) for i in range(n)]
    more = [2.0 ** (-8.0 * (i + 1) / (2 * n)) for i in range(0, 2 * n, 2)]
    return torch.tensor((first + more)[:heads], dtype=torch.float64)


def layer_slopes(config, i, heads):
    """Those of the heads that are left, where some were cut."""
    own = config.get("espalier", {}).get("alibi_slopes")
    return torch.tensor(own[i], dtype=torch.float64) if own else alibi_slopes(heads)


def attend(q, k, v, bias):
    """q [H, T, d], k and v [K, T, d], bias [H or 1, T, T] -> [T, H * d]"""
    k, v = (t.repeat_interleave(len(q) // len(k), 0) for t in (k, v))
    weights = torch.softmax(q @ k.transpose(1, 2) / math.sqrt(q.shape[-1]) + bias, -1)
    return (weights @ v).transpose(0, 1).flatten(1)


def causal(t):
    return torch.full((t, t), -math.inf, dtype=torch.float64).triu(1)


def split_heads(y, layout, s):
    """The fused projection [T, n] -> q, k, v [heads, T, d]"""
    return [y[:, rows].view(len(y), -1, s.head_dim).transpose(0, 1) for _, rows in qkv_rows(layout, s)]


def gated_mlp(x, p, prefix, layout, s):
    rows = mlp_rows(layout, s)
    gate, up = (linear(x, p, prefix + name)[:, index] for name, index in (rows["gate"], rows["up"]))
    return linear(functional.silu(gate) * up, p, prefix + layout.down)


def baichuan(config, p, ids):
    layout, eps = layout_of(config), config["rms_norm_eps"]
    at = torch.arange(len(ids), dtype=torch.float64)
    rotary = "max_position_embeddings" in config
    x = p[layout.embed + ".weight"][ids]
    for i in range(sizes_of(config).layers):
        prefix, s = layout.layer % i, layer_sizes(config, i)
        bias = causal(len(ids))[None]
        if not rotary:
            slopes = layer_slopes(config, i, s.heads)
            bias = bias + slopes[:, None, None] * (at[None, :] - at[:, None])
        h = rms_norm(x, p, prefix + layout.norms[0], eps)
        q, k, v = split_heads(linear(h, p, prefix + layout.qkv[0]), layout, s)
        if rotary:
            q, k = (turn_halves(t, angles(at, s.head_dim)) for t in (q, k))
        x = x + linear(attend(q, k, v, bias), p, prefix + layout.out)
        x = x + gated_mlp(rms_norm(x, p, prefix + layout.norms[1], eps), p, prefix, layout, s)
    head = p[layout.head + ".weight"]
    if "z_loss_weight" in config:
        head = head / head.norm(dim=1, keepdim=True)
    return rms_norm(x, p, layout.final, eps) @ head.T


def chatglm2(config, p, ids):
    """Only the first half of the channels of a head is turned, in pairs."""
    layout, eps, n = layout_of(config), config["layernorm_epsilon"], sizes_of(config).head_dim // 2
    at, ratio = torch.arange(len(ids), dtype=torch.float64), config.get("rope_ratio", 1)
    divides = "/ self.rope_ratio" in config.get("code", "")
    angle = angles(at / ratio, n) if divides else angles(at, n, 10000.0 * ratio)
    bias = causal(len(ids))
    x = p[layout.embed + ".weight"][ids]
    for i in range(sizes_of(config).layers):
        prefix, s = layout.layer % i, layer_sizes(config, i)
        h = rms_norm(x, p, prefix + layout.norms[0], eps)
        q, k, v = split_heads(linear(h, p, prefix + layout.qkv[0]), layout, s)
        q, k = (torch.cat([turn_pairs(t[..., :n], angle), t[..., n:]], -1) for t in (q, k))
        x = x + linear(attend(q, k, v, bias), p, prefix + layout.out)
        x = x + gated_mlp(rms_norm(x, p, prefix + layout.norms[1], eps), p, prefix, layout, s)
    return linear(rms_norm(x, p, layout.final, eps), p, layout.head)


def chatglm(config, p, ids):
    """The first version. The tokens before <sop> (bos) see one another. They count positions 0, 1, ... and
    block position 0; the rest stay at the position of [gMASK] and count block positions 1, 2, ...
    Positions turn the first half of a head's channels, block positions the second. Attention scores are
    divided by the layer's number and multiplied by it again, which nets out."""
    layout, eps, layers = layout_of(config), config["layernorm_epsilon"], sizes_of(config).layers
    prompt = ids.tolist().index(config["bos_token_id"])
    mask = ids.tolist().index(config["gmask_token_id"])
    at = torch.arange(len(ids), dtype=torch.float64)
    block = (at - prompt + 1).clamp(min=0)
    at[prompt:] = mask
    bias = causal(len(ids))
    bias[:, :prompt] = 0
    alpha = math.sqrt(2 * layers)
    x = p[layout.embed + ".weight"][ids]
    for i in range(layers):
        prefix, s = layout.layer % i, layer_sizes(config, i)
        h = layer_norm(x, p, prefix + layout.norms[0], eps)
        q, k, v = split_heads(linear(h, p, prefix + layout.qkv[0]), layout, s)
        q, k = (
            torch.cat(
                [turn_halves(a, angles(at, a.shape[-1])), turn_halves(b, angles(block, b.shape[-1]))], -1
            )
            for a, b in (q.chunk(2, -1), k.chunk(2, -1))
        )
        x = alpha * h + linear(attend(q, k, v, bias), p, prefix + layout.out)
        h = layer_norm(x, p, prefix + layout.norms[1], eps)
        m = functional.gelu(linear(h, p, prefix + layout.mlp[0]), approximate="tanh")
        x = alpha * h + linear(m, p, prefix + layout.down)
    head = layout.head if layout.head + ".weight" in p else layout.embed
    return linear(layer_norm(x, p, layout.final, eps), p, head)


def plain_forward(config):
    """The forward pass of config's family, None where there is no plain one."""
    if config["model_type"] == "chatglm":
        return chatglm2 if "ffn_hidden_size" in config else chatglm
    return baichuan if config["model_type"] == "baichuan" else None
