#!/usr/bin/env python3
"""Folders with code of their own: do results bring it along, and does it run?

    interop_remote.py write MODEL OUT
        copies a LLaMA's folder and adds the code that its config.json names
    interop_remote.py load FOLDER...
        loads folders by their code and compares logits with those of BUILD/tests/tool_logits

Prints a PASS or FAIL line for each comparison; the exit code is 1 if any failed. Needs torch, transformers,
safetensors, h5py.
"""
import json
import os
import shutil
import sys

import torch
from transformers import AutoModelForCausalLM

import interop_logits
from interop_logits import logits_of_tool, report, report_error

CODE = {
    "configuration_own.py": """from transformers import LlamaConfig


class OwnConfig(LlamaConfig):
    model_type = "llama"
""",
    "own_parts.py": """from transformers import LlamaForCausalLM


class Parent(LlamaForCausalLM):
    pass
""",
    "modeling_own.py": """from .configuration_own import OwnConfig
from .own_parts import Parent


class OwnForCausalLM(Parent):
    config_class = OwnConfig
""",
}


def write(model, out):
    shutil.copytree(model, out)
    for name, text in CODE.items():
        with open(os.path.join(out, name), "w") as f:
            f.write(text)
    path = os.path.join(out, "config.json")
    with open(path) as f:
        config = json.load(f)
    config["architectures"] = ["OwnForCausalLM"]
    config["auto_map"] = {
        "AutoConfig": "configuration_own.OwnConfig",
        "AutoModelForCausalLM": "modeling_own.OwnForCausalLM",
    }
    with open(path, "w") as f:
        json.dump(config, f)


def load(*folders):
    ids = torch.arange(2, 22)[None]
    for folder in folders:
        model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True, dtype=torch.float32)
        report("class of " + os.path.basename(folder), type(model).__name__, "OwnForCausalLM")
        with torch.no_grad():
            wanted = model.eval()(ids).logits
        error = (wanted - logits_of_tool(folder, ids)).abs().max() / wanted.abs().max()
        report_error("logits, error by the largest", float(error), 1e-4)
    return interop_logits.failed


if __name__ == "__main__":
    if len(sys.argv) == 4 and sys.argv[1] == "write":
        sys.exit(write(*sys.argv[2:]))
    if len(sys.argv) > 2 and sys.argv[1] == "load":
        sys.exit(load(*sys.argv[2:]))
    sys.exit(__doc__)
