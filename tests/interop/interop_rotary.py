#!/usr/bin/env python3
"""Do rotary positions of all kinds turn as in transformers, at any length?

    interop_rotary.py OUT
        writes small random models below OUT, as config.json spells a scaling in older and in newer folders

For each, samples on both sides of the border go through the program in one batch (BUILD/tests/tool_logits)
and through transformers one by one, in float64; and prompts are continued over the border by both
(BUILD/tests/tool_generate). ChatGLM2, which transformers does not have, is compared with families/plain.py.
Prints a PASS or FAIL line for each; the exit code is 1 if any failed. Needs torch, transformers,
safetensors.
"""
import os
import subprocess
import sys

import numpy as np
import torch

from families.models import CONFIGS, LLAMA, VOCAB, write_weights
from families.values import AllDouble, load_reference

BORDER, REACH, GENERATED = 8, 40, 20
LENGTHS = (23, BORDER, 3, BORDER + 1, 40, 12, BORDER)
LISTS = dict(short_factor=[1.0, 1.1, 1.2, 1.3], long_factor=[1.2, 1.9, 4.0, 9.0])
LLAMA3 = dict(rope_type="llama3", low_freq_factor=1.0, high_freq_factor=4.0)
ORIGINAL = dict(original_max_position_embeddings=BORDER)
YARN = dict(factor=5.0, **ORIGINAL)
TOLERANCE = 2e-5  # float32 against float64, of the largest logit


def llama(model_type="llama", **more):
    return LLAMA | dict(model_type=model_type, max_position_embeddings=REACH) | more


def phi(**more):
    return CONFIGS["phi4"] | dict(max_position_embeddings=REACH, partial_rotary_factor=1.0) | more


def old(**scaling):
    return dict(rope_scaling=scaling)


def new(**scaling):
    return dict(rope_parameters=dict(rope_theta=20000.0) | scaling)


def without(config, *keys):
    return {key: v for key, v in config.items() if key not in keys}


GROWING = dict(max_position_embeddings=BORDER)
CASES = {
    "default": llama(**new(rope_type="default")),
    "linear": llama(**old(type="linear", factor=5.0), **GROWING),
    "llama3": llama(**old(factor=4.0, **LLAMA3, **ORIGINAL)),
    "llama3 of all positions": llama(**old(factor=4.0, **LLAMA3)),
    "yarn of all positions": llama("qwen2", **old(type="yarn", factor=5.0), **GROWING),
    "longrope of all positions": llama(**old(rope_type="longrope", **LISTS)),
    "llama3 new": without(llama(**new(factor=4.0, **LLAMA3, **ORIGINAL)), "rope_theta"),
    "yarn of a qwen2": llama("qwen2", **old(type="yarn", **YARN), **GROWING),
    "yarn of a qwen3 new": without(llama("qwen3", head_dim=8, **new(rope_type="yarn", **YARN)), "rope_theta"),
    "yarn whole": llama("mistral", **old(rope_type="yarn", truncate=False, beta_fast=2.0, beta_slow=0.5, **YARN)),
    "yarn mscale": llama(**old(rope_type="yarn", mscale=0.7, mscale_all_dim=1.0, **YARN)),
    "yarn attention_factor": llama(**old(rope_type="yarn", attention_factor=1.3, **YARN)),
    "dynamic": llama(**old(type="dynamic", factor=5.0), **GROWING),
    "dynamic new": without(llama("qwen2", **new(rope_type="dynamic", factor=5.0), **GROWING), "rope_theta"),
    "longrope of a llama": llama(**old(rope_type="longrope", **LISTS, **ORIGINAL)),
    "longrope factor": llama(**old(rope_type="longrope", factor=3.0, **LISTS, **ORIGINAL)),
    "longrope": phi(**old(type="longrope", **LISTS)),
    "longrope attention_factor": phi(**old(type="longrope", attention_factor=1.3, **LISTS)),
    "yarn of a phi3": phi(**old(type="yarn", **LISTS)),
    "longrope new": without(
        phi(**new(rope_type="longrope", partial_rotary_factor=1.0, **LISTS)),
        "rope_theta",
        "rope_scaling",
        "partial_rotary_factor",
    ),
    "longrope partial": CONFIGS["phi4"] | dict(max_position_embeddings=REACH),
    "partial": phi(partial_rotary_factor=0.5, rope_scaling=None),
    "default border of a phi3": without(phi(**old(type="longrope", **LISTS)), "original_max_position_embeddings"),
    "rope_ratio": CONFIGS["chatglm2"] | dict(rope_ratio=8),
    "rope_ratio of positions": CONFIGS["chatglm2"] | dict(rope_ratio=8),
}
POSITIONS = "seq_idx = torch.arange(seq_len) / self.rope_ratio\n"
failed = False


def report(what, good, words):
    global failed
    failed = failed or not good
    print("%s %s: %s" % ("PASS" if good else "FAIL", what, words))


def tool(name, folder, samples, *more):
    path = os.path.join(folder, "ids.txt")
    with open(path, "w") as f:
        f.writelines(" ".join(map(str, sample)) + "\n" for sample in samples)
    command = [os.path.join(os.environ["BUILD"], "tests", name), folder, path, *more]
    return subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout


def fresh(folder):
    """The forward pass of a model that has seen nothing: dynamic remembers how long a sample was."""
    return load_reference(folder)[2]


def compare_logits(name, folder, samples):
    raw = tool("tool_logits", folder, samples)
    found = np.frombuffer(raw, dtype=np.float32).reshape(-1, VOCAB)
    with torch.no_grad():
        wanted = torch.cat([fresh(folder)(torch.tensor(s)) for s in samples]).numpy()
    error = np.abs(found - wanted).max() / np.abs(wanted).max()
    report(name + " logits", error <= TOLERANCE, "error %.3g by the largest" % error)


def greedy(folder, prompt):
    """What transformers generates; in float64, of a model that has seen nothing."""
    from transformers import AutoModelForCausalLM

    with AllDouble(), torch.no_grad():
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float64, attn_implementation="eager"
        ).eval()
        model.generation_config.eos_token_id = None
        ids = torch.tensor([prompt])
        out = model.generate(ids, max_new_tokens=GENERATED, do_sample=False, pad_token_id=2)
    return out[0, len(prompt) :].tolist()


def compare_texts(name, folder, prompts):
    lines = tool("tool_generate", folder, prompts, str(GENERATED)).decode().splitlines()
    found = [list(map(int, line.split())) for line in lines]
    wanted = [greedy(folder, prompt) for prompt in prompts]
    report(name + " generates", found == wanted, "%d x %d tokens" % (len(prompts), GENERATED))


def compare(name, out):
    rng = np.random.default_rng(list(name.encode()))
    folder = os.path.join(out, name.replace(" ", "-"))
    config = CASES[name] | dict(torch_dtype="float32")
    write_weights(folder, config, rng)
    if name.endswith("of positions"):
        with open(os.path.join(folder, "modeling_chatglm.py"), "w") as f:
            f.write(POSITIONS)
    compare_logits(name, folder, [rng.integers(4, 74, n).tolist() for n in LENGTHS])
    if config["model_type"] != "chatglm":
        compare_texts(name, folder, [rng.integers(4, 74, n).tolist() for n in (2, 5, BORDER, BORDER + 1)])


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    for case in CASES:
        compare(case, sys.argv[1])
    sys.exit(failed)
