#!/usr/bin/env python3
"""Float64 values of a small random model of each family, for the golden tests.

    interop_families.py write tests/golden FAMILY...
        writes FAMILY/config.json, model.safetensors, tokens.txt, golden.h5; for chatglm a tokenizer, too
    interop_families.py check tests/golden
        computes golden.h5 again from each model there and compares

The forward pass is that of transformers where it has the family, else the plain one of families/plain.py,
which is compared with those of relatives; what belongs to which group says families/layout.py. The
golden.h5 of qwen2 was written by another program, and is checked too. Prints a PASS or FAIL line for
each comparison; the exit code is 1 if any failed. Needs torch, transformers, safetensors,
sentencepiece, protobuf, h5py.
"""
import os
import sys

import h5py
import numpy as np

from families.models import write_model
from families.relatives import comparisons
from families.values import golden_values

TOLERANCE = 1e-9  # relative to the largest number of a dataset, or of all norms of gradients


def write_values(path, values):
    with h5py.File(path, "w", libver=("v108", "v110")) as f:  # small datasets stay small
        f.attrs["loss"] = values["loss"]
        for name in sorted(values.keys() - {"loss"}):
            f[name] = values[name]


def read_values(path):
    values = {}
    with h5py.File(path) as f:
        f.visititems(lambda name, x: values.update({name: x[()]}) if isinstance(x, h5py.Dataset) else None)
        values["loss"] = f.attrs["loss"]
    return values


def scales(values):
    """The largest number of each dataset. Norms of gradients share theirs: that of a bias of the keys is zero in
    exact arithmetic, as softmax does not see what it adds to all scores of a query, so it has rounding alone."""
    largest = {name: np.abs(np.asarray(x)).max() for name, x in values.items()}
    norms = max((x for name, x in largest.items() if name.startswith("grad_norms/")), default=0)
    return {name: norms if name.startswith("grad_norms/") else x for name, x in largest.items()}


def differences(found, wanted):
    """Names of the datasets that are not the same."""
    scale = scales(wanted)
    bad = sorted(found.keys() ^ wanted.keys())
    for name in sorted(found.keys() & wanted.keys()):
        a, b = np.asarray(found[name]), np.asarray(wanted[name])
        if a.shape != b.shape or np.abs(a - b).max() > TOLERANCE * scale[name]:
            bad.append(name)
    return bad


def write(folder, names):
    for name in names:
        at = os.path.join(folder, name)
        write_model(at, name)
        values = golden_values(at)
        write_values(os.path.join(at, "golden.h5"), values)
        print("%s: loss %.6f, largest logit %.3f" % (name, values["loss"], np.abs(values["logits"]).max()))


def check(folder):
    found = [name for name in sorted(os.listdir(folder)) if os.path.isdir(os.path.join(folder, name))]
    failed = False
    for name in found:
        at = os.path.join(folder, name)
        bad = differences(golden_values(at), read_values(os.path.join(at, "golden.h5")))
        failed = failed or bool(bad)
        print("%s %s: %s" % ("FAIL" if bad else "PASS", at, ", ".join(bad[:5]) or "same values"))
    for what, same in comparisons(folder):
        failed = failed or not same
        print("%s %s" % ("PASS" if same else "FAIL", what))
    return failed


if __name__ == "__main__":
    if len(sys.argv) > 3 and sys.argv[1] == "write":
        sys.exit(write(sys.argv[2], sys.argv[3:]))
    if len(sys.argv) == 3 and sys.argv[1] == "check":
        sys.exit(check(sys.argv[2]))
    sys.exit(__doc__)
