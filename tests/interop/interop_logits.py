#!/usr/bin/env python3
"""Do other programs load the models of a run, and do they compute the same?

    interop_logits.py tokens OUT.h5 VOCAB [GMASK SOP WINDOW]
        writes a token file of random documents; with the ids GMASK and SOP they stand side by side in
        each WINDOW tokens
    interop_logits.py bare MODEL OUT
        copies a model folder, its tensors under the names of the base model alone, its sizes under the
        synonyms that a class knows
    interop_logits.py compare TOKENS.h5 WINDOW MODEL RUN_DIR...
        loads MODEL and the folders pruned/ and recovered/ of each RUN_DIR, evaluates them on the windows
        of TOKENS.h5, and compares logits with those of BUILD/tests/tool_logits, loss, perplexity,
        accuracy, parameters and the number of targets with RUN_DIR/eval.json, and the shapes of pruned/
        with RUN_DIR/plan.json; names of tensors and keys of config.json must be those of MODEL

The other program is transformers, or the plain forward pass in float64 of families/plain.py where it does not
have the family. Prints a PASS or FAIL line for each comparison; the exit code is 1 if any failed. Needs
torch, transformers, safetensors, h5py.
"""
import json
import math
import os
import subprocess
import sys
import tempfile

import h5py
import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from families.layout import is_tied, layer_sizes, layout_of, sizes_of
from families.plain import plain_forward
from families.values import load_reference

DOCUMENTS, LENGTH = 24, 48
SYNONYMS = {"bloom": {"n_embed": "hidden_size"}}  # beside the attribute_map of its class
SIZES = {"hidden_size", "n_embed", "n_layer", "num_hidden_layers", "num_layers", "n_head"}
SIZES |= {"num_attention_heads", "ffn_dim", "intermediate_size"}
failed = False


def report(what, got, want, allowed=0.0):
    global failed
    good = got == want if allowed == 0 else abs(got - want) <= allowed * abs(want)
    failed = failed or not good
    numbers = "%s %s: %s, Espalier %s" if isinstance(got, str) else "%s %s: %.9g, Espalier %.9g"
    print(numbers % ("PASS" if good else "FAIL", what, got, want))


def report_error(what, error, allowed):
    global failed
    good = error <= allowed
    failed = failed or not good
    print("%s %s: %.3g (allowed %.3g)" % ("PASS" if good else "FAIL", what, error, allowed))


def write_tokens(path, vocab, prompt=None):
    rng = np.random.default_rng(0)
    ids = rng.integers(0, vocab, DOCUMENTS * LENGTH, dtype=np.int32)
    if prompt:
        gmask, sop, window = prompt
        ids[np.isin(ids, (gmask, sop))] = 0
        for i, at in enumerate(range(0, len(ids), window)):
            ids[at + i % (window - 4) + 1 :][:2] = gmask, sop
    write_ids(path, ids.reshape(DOCUMENTS, LENGTH))


def ids_file(documents):
    """A text file of one document a line, open until it is no longer needed."""
    f = tempfile.NamedTemporaryFile("w", suffix=".txt")
    f.writelines(" ".join(map(str, ids.tolist())) + "\n" for ids in documents)
    f.flush()
    return f


def tool(name, *arguments):
    command = [os.path.join(os.environ["BUILD"], "tests", name), *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout


def write_ids(path, documents):
    """Token files are sealed, so the program's own writer makes them."""
    with ids_file(documents) as f:
        tool("tool_tokens", f.name, path)


def read_json(*path):
    with open(os.path.join(*path)) as f:
        return json.load(f)


def load(name, folder):
    """(parameters, logits of the ids of a window)"""
    config = read_json(folder, "config.json")
    if plain_forward(config):
        _, p, forward = load_reference(folder)
        return sum(t.numel() for t in p.values()), forward
    model, info = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True
    )
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        report(name + " " + what, len(info[what]), 0)
    model.eval()
    return sum(p.numel() for p in model.parameters()), lambda ids: model(ids[None]).logits[0]


def logits_of_tool(folder, windows):
    with ids_file(windows) as f:
        raw = tool("tool_logits", folder, f.name)
    return torch.tensor(np.frombuffer(raw, dtype=np.float32)).view(len(windows), windows.shape[1], -1)


def evaluate(logits, windows):
    targets = windows[:, 1:].flatten()
    rows = logits[:, :-1].flatten(0, 1)
    loss = torch.nn.functional.cross_entropy(rows, targets)
    return float(loss), float((rows.argmax(-1) == targets).double().mean()), len(targets)


def compare_model(name, folder, expected, windows):
    parameters, forward = load(name, folder)
    with torch.no_grad():
        logits = torch.stack([forward(w) for w in windows])
    error = (logits - logits_of_tool(folder, windows)).abs().max() / logits.abs().max()
    report_error(name + " logits, error by the largest", float(error), 1e-4)
    loss, accuracy, targets = evaluate(logits, windows)
    report(name + " parameters", parameters, expected["parameters"])
    report(name + " targets", targets, expected["tokens"])
    report(name + " loss", loss, expected["loss"], 1e-5)
    report(name + " perplexity", math.exp(loss), expected["perplexity"], 1e-4)
    report(name + " accuracy", accuracy, expected["accuracy"], 1e-9)


def write_bare(model, out):
    dense = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    prefix = dense.base_model_prefix + "."
    os.makedirs(out)
    config = read_json(model, "config.json")
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
    config = read_json(folder, "config.json")
    with safe_open(os.path.join(folder, "model.safetensors"), "np") as f:
        tensors = {name.split(".")[0] for name in f.keys()}
    if is_tied(config):  # results have it once
        tensors.discard(layout_of(config).head.split(".")[0])
    return set(config) & SIZES, tensors


def compare_names(folder, model):
    for what, got, want in zip(("keys of sizes", "tensors"), names_of(folder), names_of(model)):
        report(os.path.basename(folder) + " other names, " + what, len(got ^ want), 0)


def compare_shapes(folder, plan):
    config = read_json(folder, "config.json")
    layers = [kept for kept in plan["layers"] if kept["kept"]]
    report("layers", sizes_of(config).layers, len(layers))
    for i, kept in enumerate(layers):
        sizes = layer_sizes(config, i)
        report("neurons of layer %d" % kept["layer"], sizes.mlp, len(kept["mlp"]))
        report("key/value heads", sizes.kv_heads, len(kept["attention"]))
        if "query" in kept:
            report("query heads", sizes.heads, len(kept["query"]))
        report("hidden channels", sizes.hidden, len(plan["hidden"]))


def compare(tokens, window, model, *run_dirs):
    with h5py.File(tokens) as f:
        ids = torch.tensor(f["ids"][:].astype(np.int64))
    expected = read_json(run_dirs[0], "eval.json")["dense"]
    windows = ids[: len(ids) // window * window].view(-1, window)[: expected["tokens"] // (window - 1)]
    compare_model("dense", model, expected, windows)
    for run_dir in run_dirs:
        print(os.path.relpath(run_dir, os.path.join(run_dir, "..", "..")))
        results = read_json(run_dir, "eval.json")
        compare_shapes(os.path.join(run_dir, "pruned"), read_json(run_dir, "plan.json"))
        for name in ("pruned", "recovered"):
            compare_model(name, os.path.join(run_dir, name), results[name], windows)
            compare_names(os.path.join(run_dir, name), model)
    return failed


if __name__ == "__main__":
    if len(sys.argv) in (4, 7) and sys.argv[1] == "tokens":
        sys.exit(write_tokens(sys.argv[2], int(sys.argv[3]), [int(x) for x in sys.argv[4:]]))
    if len(sys.argv) == 4 and sys.argv[1] == "bare":
        sys.exit(write_bare(sys.argv[2], sys.argv[3]))
    if len(sys.argv) > 5 and sys.argv[1] == "compare":
        sys.exit(compare(sys.argv[2], int(sys.argv[3]), *sys.argv[4:]))
    sys.exit(__doc__)
