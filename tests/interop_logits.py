#!/usr/bin/env python3
"""Do transformers load the models of a run, and do they compute the same?

    interop_logits.py tokens OUT.h5 VOCAB      writes a token file of random documents
    interop_logits.py bare MODEL OUT           copies a model folder, its tensors under the names of the base
                                               model alone, its sizes under the synonyms that a class knows
    interop_logits.py compare MODEL RUN_DIR TOKENS.h5 WINDOW

The last form loads MODEL and the folders pruned/ and recovered/ of RUN_DIR, evaluates them on the
windows of TOKENS.h5, and compares loss, perplexity, accuracy, parameters and the number of targets with
RUN_DIR/eval.json, and the shapes of pruned/ with RUN_DIR/plan.json; names of
tensors and keys of config.json must be those of MODEL. Prints a PASS or FAIL line for
each; the exit code is 1 if any failed. Needs torch, transformers, safetensors, h5py.
"""
import json
import math
import os
import sys

import h5py
import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from families.layout import sizes_of

DOCUMENTS, LENGTH = 24, 48
SYNONYMS = {"bloom": {"n_embed": "hidden_size"}}  # beside the attribute_map of its class
SIZES = {"hidden_size", "n_embed", "n_layer", "num_hidden_layers", "num_layers", "n_head"}
SIZES |= {"num_attention_heads", "ffn_dim", "intermediate_size"}
failed = False


def report(what, got, want, allowed=0.0):
    global failed
    good = got == want if allowed == 0 else abs(got - want) <= allowed * abs(want)
    failed = failed or not good
    print("%s %s: %.9g, Espalier %.9g" % ("PASS" if good else "FAIL", what, got, want))


def write_tokens(path, vocab):
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as f:
        f["ids"] = rng.integers(0, vocab, DOCUMENTS * LENGTH, dtype=np.int32)
        f["start"] = np.arange(DOCUMENTS + 1, dtype=np.int64) * LENGTH
        f["prompt"] = np.zeros(DOCUMENTS, dtype=np.int64)
        f.attrs["corpus"] = np.bytes_("random ids")
        f.attrs["tokenizer"] = np.bytes_("none")


def evaluate(model, windows):
    loss, hits, targets = 0.0, 0, 0
    with torch.no_grad():
        for w in windows:
            logits = model(w[None]).logits[0, :-1]
            loss += float(torch.nn.functional.cross_entropy(logits, w[1:], reduction="sum"))
            hits += int((logits.argmax(-1) == w[1:]).sum())
            targets += len(w) - 1
    return loss / targets, hits / targets, targets


def compare_model(name, folder, expected, windows):
    model, info = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True
    )
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        report(name + " " + what, len(info[what]), 0)
    loss, accuracy, targets = evaluate(model.eval(), windows)
    report(name + " parameters", sum(p.numel() for p in model.parameters()), expected["parameters"])
    report(name + " targets", targets, expected["tokens"])
    report(name + " loss", loss, expected["loss"], 1e-5)
    report(name + " perplexity", math.exp(loss), expected["perplexity"], 1e-4)
    report(name + " accuracy", accuracy, expected["accuracy"], 1e-9)


def write_bare(model, out):
    dense = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    prefix = dense.base_model_prefix + "."
    os.makedirs(out)
    with open(os.path.join(model, "config.json")) as f:
        config = json.load(f)
    for other, key in (dense.config.attribute_map | SYNONYMS.get(config["model_type"], {})).items():
        if key in config:
            config[other] = config.pop(key)
    with open(os.path.join(out, "config.json"), "w") as f:
        json.dump(config, f)
    tensors = load_file(os.path.join(model, "model.safetensors"))
    bare = {name.removeprefix(prefix): t for name, t in tensors.items()}
    save_file(bare, os.path.join(out, "model.safetensors"), metadata={"format": "pt"})


def names_of(folder):
    """Keys of sizes in config.json, and whose children the tensors are."""
    with open(os.path.join(folder, "config.json")) as f:
        config = json.load(f)
    with safe_open(os.path.join(folder, "model.safetensors"), "np") as f:
        return set(config) & SIZES, {name.split(".")[0] for name in f.keys()}


def compare_names(folder, model):
    for what, got, want in zip(("keys of sizes", "tensors"), names_of(folder), names_of(model)):
        report(os.path.basename(folder) + " other names, " + what, len(got ^ want), 0)


def compare_shapes(folder, plan):
    with open(os.path.join(folder, "config.json")) as f:
        sizes = sizes_of(json.load(f))
    layers = [kept for kept in plan["layers"] if kept["kept"]]
    report("layers", sizes.layers, len(layers))
    for kept in layers:
        report("neurons of layer %d" % kept["layer"], sizes.mlp, len(kept["mlp"]))
        report("key/value heads", sizes.kv_heads, len(kept["attention"]))


def compare(model, run_dir, tokens, window):
    with open(os.path.join(run_dir, "eval.json")) as f:
        results = json.load(f)
    with open(os.path.join(run_dir, "plan.json")) as f:
        plan = json.load(f)
    with h5py.File(tokens) as f:
        ids = torch.tensor(f["ids"][:].astype(np.int64))
    windows = ids[: len(ids) // window * window].view(-1, window)
    compare_model("dense", model, results["dense"], windows)
    pruned = os.path.join(run_dir, "pruned")
    compare_model("pruned", pruned, results["pruned"], windows)
    compare_shapes(pruned, plan)
    compare_names(pruned, model)
    recovered = os.path.join(run_dir, "recovered")
    compare_model("recovered", recovered, results["recovered"], windows)
    compare_names(recovered, model)
    return failed


if __name__ == "__main__":
    if len(sys.argv) == 4 and sys.argv[1] == "tokens":
        sys.exit(write_tokens(sys.argv[2], int(sys.argv[3])))
    if len(sys.argv) == 4 and sys.argv[1] == "bare":
        sys.exit(write_bare(sys.argv[2], sys.argv[3]))
    if len(sys.argv) == 6 and sys.argv[1] == "compare":
        sys.exit(compare(*sys.argv[2:5], int(sys.argv[5])))
    sys.exit(__doc__)
