#!/usr/bin/env python3
"""Do transformers load the models of a run, and do they compute the same?

    interop_logits.py tokens OUT.h5 VOCAB      writes a token file of random documents
    interop_logits.py compare MODEL RUN_DIR TOKENS.h5 WINDOW

The second form loads MODEL and the folders pruned/ and recovered/ of RUN_DIR, evaluates them on the
windows of TOKENS.h5, and compares loss, perplexity, accuracy, parameters and the number of targets with
RUN_DIR/eval.json, and the shapes of pruned/ with RUN_DIR/plan.json. Prints a PASS or FAIL line for
each; the exit code is 1 if any failed. Needs torch, transformers, safetensors, h5py.
"""
import json
import math
import os
import sys

import h5py
import numpy as np
import torch
from transformers import AutoModelForCausalLM

from families.layout import sizes_of

DOCUMENTS, LENGTH = 24, 48
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


def compare_shapes(folder, plan):
    with open(os.path.join(folder, "config.json")) as f:
        sizes = sizes_of(json.load(f))
    for kept in plan["layers"]:
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
    compare_model("recovered", os.path.join(run_dir, "recovered"), results["recovered"], windows)
    return failed


if __name__ == "__main__":
    if len(sys.argv) == 4 and sys.argv[1] == "tokens":
        sys.exit(write_tokens(sys.argv[2], int(sys.argv[3])))
    if len(sys.argv) == 6 and sys.argv[1] == "compare":
        sys.exit(compare(*sys.argv[2:5], int(sys.argv[5])))
    sys.exit(__doc__)
