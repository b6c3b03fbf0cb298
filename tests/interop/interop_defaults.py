#!/usr/bin/env python3
"""Is a config.json that leaves keys out read as the classes of transformers read it?

    interop_defaults.py table
        compares the rows of BUILD/tests/tool_defaults with the fields of the classes: value, and whether the
        class takes null; a field of a class that no row has must be one that changes no result
    interop_defaults.py models OUT
        writes small models of all families to OUT, their config.json with no more than sizes in it, or with
        windows or nulls, and compares logits of BUILD/tests/tool_logits with those of transformers in float64

Families that transformers does not have are in tests/golden. Prints a PASS or FAIL line for each comparison; the
exit code is 1 if any failed. Needs torch, transformers, safetensors, h5py.
"""
import json
import os
import sys

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from families.values import load_reference
from interop_logits import logits_of_tool, report_error, tool

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "phi3", "opt", "bloom", "gemma2")
# Fields that change neither forward pass nor shapes; the drop-outs are those of training in transformers.
NO_MATTER = {"initializer_range", "init_std", "use_cache", "pad_token_id", "pretraining_tp"}
NO_MATTER |= {"attention_dropout", "hidden_dropout", "dropout", "layerdrop", "resid_pdrop", "embd_pdrop"}
# Fields that are refused where they change a result.
REFUSED = {"slow_but_exact"}
# What the rows have beyond the class: a bound of positions; a key that makes AutoModel take another class.
OWN = {("bloom", "seq_length"), ("mistral", "layer_types")}
# Of rotary positions, which have tests of their own.
ROTARY = {"rope_parameters", "original_max_position_embeddings"}
SIZES = {"model_type", "architectures", "vocab_size", "hidden_size", "intermediate_size", "ffn_dim"}
SIZES |= {"num_hidden_layers", "n_layer", "num_attention_heads", "n_head", "pad_token_id"}
TOKENS = 40
failed = False


def report(what, good, detail=""):
    global failed
    failed = failed or not good
    print("%s %s%s" % ("PASS" if good else "FAIL", what, ": " + detail if detail else ""))


def class_of(family):
    return type(AutoConfig.for_model(family))


def fields_of(cls):
    """{key: default} of the class itself and tying, which some inherit."""
    mine = {key: cls.__dataclass_fields__[key].default for key in cls.__annotations__ if key != "model_type"}
    mine = {k: v for k, v in mine.items() if k in cls.__dataclass_fields__ and not k.startswith("base_model")}
    return mine | {"rope_theta": (cls().to_dict().get("rope_parameters") or {}).get("rope_theta")}


def takes_null(cls, key):
    try:
        cls.from_dict({key: None})
        return True
    except Exception:
        return False


def compare_table():
    table = json.loads(tool("tool_defaults"))
    for family in FAMILIES:
        cls, rows = class_of(family), table[family]
        fields = fields_of(cls)
        bad = [
            "%s is %s, there %s" % (key, row["default"], fields.get(key, "no field"))
            for key, row in rows.items()
            if (family, key) not in OWN and (key not in fields or fields[key] != row["default"])
        ]
        report("%s: values of %d keys" % (family, len(rows)), not bad, "; ".join(bad))
        bad = [k for k, row in rows.items() if k != "rope_theta" and row["takes_null"] != takes_null(cls, k)]
        report("%s: null" % family, not [k for k in bad if (family, k) not in OWN], ", ".join(bad))
        bad = set(fields) - set(rows) - NO_MATTER - REFUSED - ROTARY - {"rope_theta"}
        report("%s: fields without a row" % family, not bad, ", ".join(bad))


# ---- models ----

SMALL = dict(vocab_size=80, hidden_size=32, num_hidden_layers=3, num_attention_heads=8, pad_token_id=0)
SHAPES = {
    "opt": SMALL | dict(ffn_dim=40),
    "bloom": dict(vocab_size=80, hidden_size=32, n_layer=3, n_head=8),
} | {family: SMALL | dict(intermediate_size=40) for family in FAMILIES if family not in ("opt", "bloom")}
KV = dict(num_key_value_heads=4)
WINDOW = dict(sliding_window=5)
# What stays in config.json beside sizes; qwen2 and qwen3 have 32 key/value heads otherwise.
CASES = [
    ("llama", {}),
    ("llama", dict(sliding_window=5, layer_types=["sliding_attention"] * 3)),
    ("llama", dict(num_key_value_heads=None, head_dim=None, attention_bias=True)),
    ("mistral", {}),
    ("mistral", WINDOW),
    ("mistral", WINDOW | dict(head_dim=4, layer_types=["full_attention", "sliding_attention", "full_attention"])),
    ("mistral", dict(sliding_window=None)),
    ("qwen2", KV),
    ("qwen2", dict(num_key_value_heads=None)),
    ("qwen2", KV | WINDOW),
    ("qwen2", KV | WINDOW | dict(use_sliding_window=True, max_window_layers=1)),
    ("qwen3", KV),
    ("qwen3", KV | WINDOW | dict(use_sliding_window=True, max_window_layers=2)),
    ("qwen3", KV | WINDOW | dict(use_sliding_window=True, layer_types=["sliding_attention"] + ["full_attention"] * 2)),
    ("phi3", {}),
    ("phi3", WINDOW),
    ("opt", {}),
    ("bloom", {}),
    ("bloom", dict(seq_length=None, slow_but_exact=True)),
    ("bloom", dict(pretraining_tp=2)),
    ("gemma2", {}),
    ("gemma2", WINDOW),
    ("gemma2", dict(attn_logit_softcapping=None, final_logit_softcapping=None)),
    ("gemma2", WINDOW | dict(layer_types=["full_attention", "sliding_attention", "sliding_attention"])),
]


def write_small(folder, family, kept):
    """A random model of a configuration with SHAPES and kept; the file says no more than these."""
    config = AutoConfig.for_model(family, **(SHAPES[family] | kept))
    torch.manual_seed(len(folder))
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(p + 0.2 * torch.randn_like(p))
    model.save_pretrained(folder)
    path = os.path.join(folder, "config.json")
    with open(path) as f:
        written = json.load(f)
    written = {key: value for key, value in written.items() if key in SIZES} | kept
    with open(path, "w") as f:
        json.dump(written, f)


def compare_models(out):
    ids = torch.randint(4, 80, (2, TOKENS), generator=torch.Generator().manual_seed(1))
    for i, (family, kept) in enumerate(CASES):
        windows = "-windows" if kept.get("use_sliding_window") else ""
        folder = os.path.join(out, "%d-%s%s" % (i, family, windows))
        write_small(folder, family, kept)
        _, _, forward = load_reference(folder)
        with torch.no_grad():
            wanted = torch.stack([forward(sample) for sample in ids])
        error = (wanted - logits_of_tool(folder, ids)).abs().max() / wanted.abs().max()
        report_error("%s %s logits, error by the largest" % (family, json.dumps(kept)), float(error), 1e-5)


if __name__ == "__main__":
    import interop_logits

    if sys.argv[1:] == ["table"]:
        compare_table()
    elif len(sys.argv) == 3 and sys.argv[1] == "models":
        compare_models(sys.argv[2])
    else:
        sys.exit(__doc__)
    sys.exit(failed or interop_logits.failed)
