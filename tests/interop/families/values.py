"""What is true of a model folder, in float64: logits, losses, gradients and importance, by dataset name."""
import json
import os

import torch
from safetensors.torch import load_file
from torch.overrides import TorchFunctionMode
from transformers import AutoModelForCausalLM

from .layout import hidden_sides, is_tied, layout_of, mlp_rows, qkv_rows, sizes_of
from .plain import plain_forward

CRITERIA = ("vector", "element1", "element2", "mix", "l1", "l2")
AGGREGATIONS = {
    "sum": lambda s: s.sum(0),
    "prod": lambda s: s.prod(0),
    "max": lambda s: s.max(0)[0],
    "last": lambda s: s[-1],
}


class AllDouble(TorchFunctionMode):
    """transformers computes norms, softmax and positions in float32 whatever the model's type is; under
    this mode every request for float32 is one for float64, and so is a number times a tensor of integers."""

    def __enter__(self):
        torch.set_default_dtype(torch.float64)
        return super().__enter__()

    def __exit__(self, *exception):
        torch.set_default_dtype(torch.float32)
        return super().__exit__(*exception)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        def wider(a):
            return torch.float64 if a is torch.float32 else a

        if func is torch.Tensor.float:
            func = torch.Tensor.double
        kwargs = {k: wider(v) for k, v in (kwargs or {}).items()}
        return func(*map(wider, args), **kwargs)


def load_reference(folder):
    """(config, parameters by name, logits [T, V] of the ids of one sample)"""
    with open(os.path.join(folder, "config.json")) as f:
        config = json.load(f)
    tensors = load_file(os.path.join(folder, "model.safetensors"))
    code = os.path.join(folder, "modeling_chatglm.py")
    if os.path.exists(code):
        with open(code) as f:
            config["code"] = f.read()
    forward = plain_forward(config)
    if forward:
        if is_tied(config):
            tensors.pop(layout_of(config).head + ".weight", None)
        p = {name: t.double().requires_grad_() for name, t in tensors.items()}
        return config, p, lambda ids: forward(config, p, ids)
    with AllDouble():
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float64, attn_implementation="eager"
        ).eval()
    p = dict(model.named_parameters())
    if p.keys() != tensors.keys():
        raise SystemExit("%s: transformers has other tensors: %s" % (folder, p.keys() ^ tensors.keys()))

    def logits(ids):
        with AllDouble():
            return model(ids[None], use_cache=False).logits[0]

    return config, p, logits


def read_tokens(folder):
    with open(os.path.join(folder, "tokens.txt")) as f:
        return torch.tensor([[int(word) for word in line.split()] for line in f])


def salience(criterion, w, g, f):
    return {
        "vector": lambda: g * w,
        "element1": lambda: g * w,
        "element2": lambda: 0.5 * f * w * w,
        "mix": lambda: g * w - 0.5 * f * w * w,
        "l1": lambda: w,
        "l2": lambda: w * w,
    }[criterion]()


class Importance:
    """Sums of one criterion over the rows and columns of tensors named without ".weight"."""

    def __init__(self, criterion, p, G, F):
        self.by_vector = criterion == "vector"
        self.salience = {name: salience(criterion, p[name], G[name], F[name]) for name in p}

    def reduce(self, s, dim):
        return s.sum(dim).abs() if self.by_vector else s.abs().sum(dim)

    def rows(self, name):
        s = self.salience[name + ".weight"]
        s = s.view(len(s), -1)
        if name + ".bias" in self.salience:
            s = torch.cat([s, self.salience[name + ".bias"][:, None]], 1)
        return self.reduce(s, 1)

    def cols(self, name):
        return self.reduce(self.salience[name + ".weight"], 0)


def attention_structures(of, layout, s, prefix):
    """{label: [K, d]}, channel c of the query heads of a key/value head summed."""
    parts = [of.rows(prefix + name)[rows] for name, rows in qkv_rows(layout, s)]
    parts.append(of.cols(prefix + layout.out))
    return {
        label: part.view(s.kv_heads, -1, s.head_dim).sum(1) for label, part in zip(("q", "k", "v", "o"), parts)
    }


def mlp_structures(of, layout, s, prefix):
    """{label: [F]}"""
    parts = {label: of.rows(prefix + name)[rows] for label, (name, rows) in mlp_rows(layout, s).items()}
    return parts | {"down": of.cols(prefix + layout.down)}


def unit_values(base, structures):
    """Scores of the groups and channels; channels of a group are its last axis, where it has one."""
    out = {"%sstructures/%s" % (base, label): part.flatten() for label, part in structures.items()}
    stacked = torch.stack(list(structures.values()))
    for name, aggregate in AGGREGATIONS.items():
        channels = aggregate(stacked)
        out[base + name] = channels.sum(1) if channels.dim() == 2 else channels
    return out


def importance_values(config, p, G, F):
    layout, s = layout_of(config), sizes_of(config)
    sides = hidden_sides(layout, s, layout.head + ".weight" in p)
    out = {}
    for criterion in CRITERIA:
        of = Importance(criterion, p, G, F)
        for i in range(s.layers):
            for unit, structures in (("attention", attention_structures), ("mlp", mlp_structures)):
                base = "layers/%d/%s/%s/" % (i, unit, criterion)
                out |= unit_values(base, structures(of, layout, s, layout.layer % i))
        hidden = torch.stack([getattr(of, side)(name) for name, side in sides])
        for name, aggregate in AGGREGATIONS.items():
            out["hidden/%s/%s" % (criterion, name)] = aggregate(hidden)
    return out


def gate_gradients(config, p, g):
    """{"layers/0/attention": [K], "layers/0/mlp": [F] ...}: dL/dm of a gate m = 1 on the output of a group, which
    scales the columns of the matrix behind it."""
    layout, s = layout_of(config), sizes_of(config)
    out = {}
    for i in range(s.layers):
        for unit, name in (("attention", layout.out), ("mlp", layout.down)):
            weight = layout.layer % i + name + ".weight"
            cols = (p[weight] * g[weight]).sum(0)
            out["layers/%d/%s" % (i, unit)] = cols.view(s.kv_heads, -1).sum(1) if unit == "attention" else cols
    return out


def gate_values(gates):
    """Scores by gates, from the gradients of each sample; every aggregation has the same."""
    out = {}
    for unit in gates[0]:
        m = torch.stack([sample[unit] for sample in gates])
        out[unit + "/gate1/sum"] = m.mean(0).abs()
        out[unit + "/gate2/sum"] = (m * m).mean(0) / 2
    return out


def golden_values(folder):
    """{dataset: numpy array}; "loss" is an attribute of the file."""
    config, p, forward = load_reference(folder)
    ids = read_tokens(folder)
    G = {name: torch.zeros_like(w) for name, w in p.items()}
    F = {name: torch.zeros_like(w) for name, w in p.items()}
    logits, losses, gates = [], [], []
    for sample in ids:
        logits.append(forward(sample))
        losses.append(torch.nn.functional.cross_entropy(logits[-1][:-1], sample[1:]))
        gradients = dict(zip(p, torch.autograd.grad(losses[-1], list(p.values()))))
        for name, g in gradients.items():
            G[name] += g / len(ids)
            F[name] += g * g / len(ids)
        gates.append(gate_gradients(config, p, gradients))
    with torch.no_grad():
        out = {"tokens": ids.int(), "logits": torch.stack(logits)}
        out["loss_per_sample"] = torch.stack(losses)
        out |= {"grad_norms/" + name: g.norm() for name, g in G.items()}
        out |= importance_values(config, p, G, F)
        out |= gate_values(gates)
        out["loss"] = out["loss_per_sample"].mean()
    return {name: value.detach().numpy() for name, value in out.items()}
