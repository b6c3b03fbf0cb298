#!/usr/bin/env python3
"""A real, trained model: does the program see in it what transformers sees?

    interop_smollm2.py perplexity MODEL TOKENS.h5 WINDOW RUN_DIR
        compares the perplexity of as many windows as RUN_DIR/eval.json counts with that of its dense model
    interop_smollm2.py generate ESPALIER FOLDER...
        compares what the program and transformers go on with, always taking the likeliest token

Prints a PASS or FAIL line for each comparison; the exit code is 1 if any failed. Needs torch, transformers,
safetensors, h5py.
"""
import math
import os
import subprocess
import sys

import h5py
import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import interop_logits
from interop_logits import read_json, report

PROMPTS = ("The capital of France is", "Once upon a time there was a small", "def fibonacci(n):\n")
NEW_TOKENS = 24


def compare_perplexity(folder, tokens, window, run_dir):
    found = read_json(run_dir, "eval.json")["dense"]
    n = found["tokens"] // (window - 1) * window
    with h5py.File(tokens) as f:
        windows = torch.tensor(f["ids"][:n].astype(np.int64)).view(-1, window)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        losses = [float(model(w[None], labels=w[None]).loss) for w in windows]
    report("perplexity", math.exp(sum(losses) / len(losses)), found["perplexity"], 1e-4)
    report("parameters", sum(p.numel() for p in model.parameters()), found["parameters"])


def compare_generation(espalier, *folders):
    for folder in folders:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        tokenizer = AutoTokenizer.from_pretrained(folder)
        for prompt in PROMPTS:
            ids = tokenizer(prompt, return_tensors="pt")
            with torch.no_grad():
                out = model.generate(**ids, do_sample=False, max_new_tokens=NEW_TOKENS)
            wanted = tokenizer.decode(out[0], skip_special_tokens=True)
            settings = ["model=" + folder, "generate.prompt=" + prompt, "generate.tokens=%d" % NEW_TOKENS]
            command = [espalier, "generate", "-q"] + [word for s in settings for word in ("-s", s)]
            found = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
            good = found.strip() == wanted.strip()
            interop_logits.failed = interop_logits.failed or not good
            print("%s %s goes on: %r" % ("PASS" if good else "FAIL", os.path.basename(folder), found))
            if not good:
                print("     transformers: %r" % wanted)


if __name__ == "__main__":
    if len(sys.argv) == 6 and sys.argv[1] == "perplexity":
        compare_perplexity(sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5])
    elif len(sys.argv) > 3 and sys.argv[1] == "generate":
        compare_generation(*sys.argv[2:])
    else:
        sys.exit(__doc__)
    sys.exit(interop_logits.failed)
