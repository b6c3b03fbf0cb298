#!/usr/bin/env python3
"""Does PEFT read what Espalier wrote, and does it compute the same?

    interop_peft.py BASE ADAPTER MERGED [IDS.txt LOSS]

BASE     model folder that was recovered with LoRA
ADAPTER  the adapter folder Espalier wrote
MERGED   the merged model folder Espalier wrote
IDS.txt  samples of token ids, one a line; without it some ids are made up
LOSS     mean next-token cross-entropy over IDS.txt that Espalier reports for MERGED

Prints a PASS or FAIL line for each comparison; the exit code is 1 if any failed.
Needs torch, transformers, peft and safetensors.
"""
import glob
import os
import sys

import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

failed = False


def report(what, error, allowed):
    global failed
    good = error <= allowed
    failed = failed or not good
    print("%s %s: %.3g (allowed %.3g)" % ("PASS" if good else "FAIL", what, error, allowed))


def tensors(folder):
    out = {}
    for path in glob.glob(os.path.join(folder, "*.safetensors")):
        out.update(load_file(path))
    return out


def read_samples(path, vocab):
    if path is None:
        torch.manual_seed(0)
        return [torch.randint(vocab, (1, n)) for n in (1, 7, 24)]
    with open(path) as f:
        return [torch.tensor([[int(x) for x in line.split()]]) for line in f if line.strip()]


def compare_weights(base, adapter, merged, scale, modules, prefix):
    """Every merged weight is the base's plus scale B A, rounded to the base's type; F32 sums of products
    may round a few times more. Files may leave out the base model's prefix, adapters do not."""
    worst, adapted = 0.0, 0
    for name, w in base.items():
        module = name if name in modules else prefix + "." + name
        key = "base_model.model." + module.removesuffix(".weight")
        got, want = merged[name], w.double()
        if key + ".lora_A.weight" in adapter:
            a, b = (adapter[key + ".lora_%s.weight" % x].double() for x in "AB")
            want = want + scale * (b @ a)
            adapted += 1
        if got.dtype != w.dtype:
            report("type of " + name, 1, 0)
        unit = torch.finfo(w.dtype).eps * want.abs().max()
        worst = max(worst, float((got.double() - want).abs().max() / unit))
    report("matrices without their pair or place", abs(2 * adapted - len(adapter)), 0)
    report("merged weights, in units in the last place of the largest", worst, 4)


def main(base_dir, adapter_dir, merged_dir, ids=None, loss=None):
    base = tensors(base_dir)
    dense = AutoModelForCausalLM.from_pretrained(base_dir, dtype=torch.float32).eval()
    samples = read_samples(ids, dense.config.vocab_size)
    modules = set(dense.state_dict())
    with torch.no_grad():
        plain = [dense(s).logits for s in samples]
        peft = PeftModel.from_pretrained(dense, adapter_dir).eval()
        config = peft.peft_config["default"]
        scale = config.lora_alpha / config.r
        prefix = dense.base_model_prefix
        compare_weights(base, tensors(adapter_dir), tensors(merged_dir), scale, modules, prefix)
        with_adapter = [peft(s).logits for s in samples]
        model = AutoModelForCausalLM.from_pretrained(merged_dir, dtype=torch.float32).eval()
        merged = [model(s).logits for s in samples]
    largest = max(float(x.abs().max()) for x in with_adapter)
    moved = max(float((x - y).abs().max()) for x, y in zip(plain, with_adapter))
    error = max(float((x - y).abs().max()) for x, y in zip(with_adapter, merged))
    is_f32 = all(w.dtype == torch.float32 for w in base.values())
    report("adapter without effect", moved == 0, 0)
    report("logits, PEFT against merged", error / largest, 1e-4 if is_f32 else 3e-2)
    if loss is not None:
        nll = [
            torch.nn.functional.cross_entropy(x[0, :-1], s[0, 1:], reduction="sum")
            for x, s in zip(merged, samples)
        ]
        mean = float(sum(nll)) / sum(s.shape[1] - 1 for s in samples)
        report("loss, transformers against Espalier", abs(mean - float(loss)) / mean, 1e-4)
    return failed


if __name__ == "__main__":
    if len(sys.argv) not in (4, 6):
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
