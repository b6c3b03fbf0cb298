"""Asks lm-evaluation-harness the questions that espalier was asked, on the same model folder and the same files, and
compares every log-probability, every choice and every grade.

    interop_lm_eval.py ESPALIER MODEL WORK [NAME=FILE ...]

Small files in the published forms of all data sets are made in WORK; NAME=FILE are files of {query, choices, gold}.
ESPALIER_LIMIT questions are asked of each (default 100).
"""

import csv
import json
import logging
import os
import subprocess
import sys

espalier, model, work = sys.argv[1:4]
more = [a.split("=", 1) for a in sys.argv[4:]]
limit = int(os.environ.get("ESPALIER_LIMIT", "100"))
os.makedirs(work, exist_ok=True)
os.environ.update(HF_HOME=os.path.join(work, "hf"), HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

import datasets  # noqa: E402
import lm_eval  # noqa: E402
from lm_eval.models.huggingface import HFLM  # noqa: E402
from lm_eval.tasks import TaskManager  # noqa: E402

logging.disable(logging.WARNING)
datasets.disable_progress_bars()

# ---- files in the forms in which data sets are published --------------------------------------------------------

THINGS = ["a lamp", "the river", "an old clock", "caf\u00e9 noir", "two  pears", "a [red] kite", "the Sun"]
PLACES = ["the kitchen", "a boat on the lake", "\u00c9vreux", "the shed", "a box", "their garden", "school"]


def lines(name, rows):
    path = os.path.join(work, name)
    with open(path, "w", encoding="utf-8") as f:
        for row in rows:
            f.write(json.dumps(row, ensure_ascii=len(name) % 2 == 0) + "\n")
    return path


def table(name, rows):
    path = os.path.join(work, name)
    with open(path, "w", encoding="utf-8", newline="") as f:
        csv.writer(f).writerows(rows)
    return path


def pairs():
    return [(i, t, p) for i, t in enumerate(THINGS) for p in PLACES[i % 3 : i % 3 + 3]]


def letters(n, numbers):
    return ["1", "2", "3", "4"][:n] if numbers else ["A", "B", "C", "D"][:n]


def boolq():
    rows = [{"question": f"is {t} in {p}", "passage": f"{t} was put into {p}. ", "idx": i, "label": i % 2} for i, t, p in pairs()]
    return rows, [{**r, "label": bool(r["label"])} for r in rows]


def piqa():
    rows = [{"goal": f"Put {t} into {p}", "sol1": f"Lift {t}, then walk.", "sol2": f"Eat {p} ", "label": i % 2} for i, t, p in pairs()]
    return rows, [{k: v for k, v in r.items() if k != "label"} for r in rows]


def hellaswag():
    rows = [
        {
            "ind": i,
            "activity_label": "Carrying things",
            "ctx_a": f" [header] How to carry {t} [title] Start  early. [step] Open {p}.",
            "ctx_b": "then THE man" if i % 2 else "",
            "endings": [f"lifts {t}. [substeps] It is heavy.", f"is in {p} [title] again", "  sings", "[x] waits]"],
            "label": str(i % 4),
        }
        for i, t, p in pairs()
    ]
    return rows, [{**r, "label": int(r["label"])} for r in rows]


def winogrande():
    rows = [
        {"sentence": f"Ann put {t} into {p} since _ was empty _.", "option1": t, "option2": p, "answer": "12"[i % 2]}
        for i, t, p in pairs()
    ]
    return rows, rows


def arc(numbers):
    hub, nested = [], []
    for i, t, p in pairs():
        texts, keys = [t, p, "none of these", f"{t} and {p}"][: 3 + i % 2], letters(3 + i % 2, numbers)
        stem = f"Which is larger, {t} or {p}?"
        hub.append({"id": str(i), "question": stem, "choices": {"text": texts, "label": keys}, "answerKey": keys[i % 3]})
        both = [{"text": x, "label": k} for x, k in zip(texts, keys)]
        nested.append({"id": str(i), "question": {"stem": stem, "choices": both}, "answerKey": keys[i % 3]})
    return hub, nested


def openbookqa():
    hub, nested = arc(False)
    hub = [{"id": r["id"], "question_stem": r["question"], "choices": r["choices"], "answerKey": r["answerKey"]} for r in hub]
    return hub, nested


def mmlu():
    rows = [
        {"question": f" What holds {t}? ", "subject": "anatomy", "choices": [t, p, "1, 2", 'a "quote"'], "answer": i % 4}
        for i, t, p in pairs()
    ]
    return rows, [[r["question"], *r["choices"], "ABCD"[r["answer"]]] for r in rows]


CONFIGS = {
    "boolq": "super_glue/boolq/default.yaml",
    "piqa": "piqa/piqa.yaml",
    "hellaswag": "hellaswag/hellaswag.yaml",
    "winogrande": "winogrande/default.yaml",
    "arc_easy": "arc/arc_easy.yaml",
    "arc_challenge": "arc/arc_challenge.yaml",
    "openbookqa": "openbookqa/openbookqa.yaml",
    "mmlu": "mmlu/default/mmlu_anatomy.yaml",
}


def write_forms():
    """{result name: (our kind, our file, configuration of the harness, file in the hub's form)}"""
    forms = {}
    made = {
        "boolq": boolq(),
        "piqa": piqa(),
        "hellaswag": hellaswag(),
        "winogrande": winogrande(),
        "arc_easy": arc(False),
        "arc_challenge": arc(True),
        "openbookqa": openbookqa(),
    }
    for kind, (hub, other) in made.items():
        path = lines(f"{kind}-hub.jsonl", hub)
        forms[kind] = (kind, path, CONFIGS[kind], path)
        forms[kind + "-published"] = (kind, lines(f"{kind}.jsonl", other), CONFIGS[kind], path)
    labels = os.path.join(work, "piqa-labels.lst")
    with open(labels, "w", encoding="utf-8") as f:
        f.write("".join(f"{r['label']}\n" for r in made["piqa"][0]))
    hub, rows = mmlu()
    path = lines("mmlu-hub.jsonl", hub)
    forms["mmlu"] = ("mmlu", path, CONFIGS["mmlu"], path)
    forms["mmlu-published"] = ("mmlu", table("anatomy_test.csv", rows), CONFIGS["mmlu"], path)
    return forms


# ---- both programs ------------------------------------------------------------------------------------------------

METRICS = ["acc", "acc_norm", "acc_bytes"]


def ask_espalier(forms, run, shots):
    tasks = ",".join(f"{name}:{kind}={path}" for name, (kind, path, _, _) in forms.items())
    settings = [f"model={model}", f"run_dir={run}", f"eval.tasks={tasks}", f"eval.limit={limit}", f"eval.shots={shots}"]
    if shots:
        settings.append("eval.examples=" + ",".join(f"{name}={f[1]}" for name, f in forms.items()))
    command = [espalier, "eval", "-q"]
    for s in settings:
        command += ["-s", s]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=3600)
    with open(os.path.join(run, "eval.json"), encoding="utf-8") as f:
        grades = json.load(f)["dense"]["tasks"]
    answers = {}
    with open(os.path.join(run, "eval_questions.jsonl"), encoding="utf-8") as f:
        for line in f:
            a = json.loads(line)
            answers.setdefault(a["task"], []).append(a)
    return grades, answers


def config_of(name, kind, task, path, shots):
    """The harness' own task with its file replaced, or one of {query, choices, gold}."""
    files = {split: path for split in ("train", "validation", "test", "dev")}
    config = {
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": files},
        "metric_list": [{"metric": m, "aggregation": "mean", "higher_is_better": True} for m in METRICS],
        "num_fewshot": shots,
        "fewshot_config": {"sampler": "first_n", "split": "train"},
    }
    if task:
        return {"include": os.path.join(os.path.dirname(lm_eval.__file__), "tasks", task), "task": name, **config}
    return {
        "task": name,
        "output_type": "multiple_choice",
        "test_split": "test",
        "training_split": "train",
        "doc_to_text": "{{query}}\nAnswer:" if kind == "question" else "{{query}}",
        "doc_to_choice": "choices",
        "doc_to_target": "gold",
        **config,
    }


def ask_harness(lm, manager, form, name, shots):
    kind, _, task, path = form
    config = os.path.join(work, f"{name}.yaml")
    with open(config, "w", encoding="utf-8") as f:
        json.dump(config_of(name, kind, task, path, shots), f)  # which is YAML as well
    out = lm_eval.evaluate(lm, manager.load([config]), limit=limit, log_samples=True)
    return out["results"][name], sorted(out["samples"][name], key=lambda s: s["doc_id"])


# ---- comparison ---------------------------------------------------------------------------------------------------


def compare(name, grades, answers, theirs, samples):
    """The largest distance of two log-probabilities."""
    worst, near = 0.0, 0
    assert len(answers) == len(samples) == grades["questions"], f"{name}: {len(answers)} and {len(samples)} questions"
    for a, s in zip(answers, samples):
        wanted = [float(r[0]) for r in s["filtered_resps"]]
        assert len(wanted) == len(a["logprob"]), f"{name} {a['question']}: {len(wanted)} choices"
        # the harness sums in float32: of a choice of a hundred tokens the last digits are its own
        worst = max(worst, *(abs(x - y) / max(1, abs(y) / 100) for x, y in zip(wanted, a["logprob"])))
        for m in METRICS:
            if int(s[m]) != (a[m] == a["gold"]):
                near += 1
    assert worst < 1e-3, f"{name}: log-probabilities differ by {worst}"
    assert near == 0, f"{name}: {near} answers are graded otherwise"
    for m in METRICS:
        for field in (m, m + "_stderr"):
            wanted = theirs[f"{field},none"]
            assert abs(wanted - grades[field]) < 1e-12, f"{name}: {field}: {grades[field]}, they have {wanted}"
    return worst


def main():
    lm = HFLM(pretrained=model, device="cpu", dtype="float32", batch_size=4)
    manager = TaskManager()
    forms = write_forms()
    forms.update({name: ("question", path, None, path) for name, path in more})
    known, worst = {}, 0.0
    for shots in (0, 2):
        chosen = forms if shots == 0 else {n: f for n, f in forms.items() if f[2]}
        grades, answers = ask_espalier(chosen, os.path.join(work, f"run{shots}"), shots)
        for name, form in chosen.items():
            asked = (form[2], form[3], shots)
            if asked not in known:
                known[asked] = ask_harness(lm, manager, form, name, shots)
            far = compare(name, grades[name], answers[name], *known[asked])
            worst = max(worst, far)
            if not form[2]:
                g = grades[name]
                print(f"{name}: acc {g['acc']:.4f}, acc_norm {g['acc_norm']:.4f} of {g['questions']}, log-probabilities within {far:.1e}")
    print(f"{len(known)} tasks: all answers, log-probabilities within {worst:.1e}")


main()
