"""Tokens per second of LoRA steps, torch + PEFT and espalier in turn, on the same model, text and shapes.

    python tests/bench/bench_peft.py MODEL TEXT [--bf16] [--threads 2] [--rounds 3]

MODEL: a folder of a Hugging Face model that both load; TEXT: a plain text. A step is 4 windows of 256 tokens,
rank 8 on all projections of a block, dropout 0.05, AdamW, gradients clipped. Each round times both; the
medians and the median ratio are printed. Needs torch, transformers and peft; the program is $ESPALIER, or
build/espalier.
"""
import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time

BATCH, LENGTH, STEPS = 4, 256, 3
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class Peft:
    """The model with adapters, and one step of training after the other."""

    def __init__(self, args):
        import torch
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM, AutoTokenizer

        torch.set_num_threads(args.threads)
        torch.manual_seed(0)
        dtype = torch.bfloat16 if args.bf16 else torch.float32
        model = AutoModelForCausalLM.from_pretrained(args.model, dtype=dtype)
        lora = LoraConfig(r=8, lora_alpha=16, lora_dropout=0.05, target_modules=TARGETS, task_type="CAUSAL_LM")
        self.model = get_peft_model(model, lora)
        self.model.train()
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=1e-4)
        self.clip = lambda: torch.nn.utils.clip_grad_norm_(trained, 1.0)
        with open(args.text, encoding="utf-8") as text:
            ids = AutoTokenizer.from_pretrained(args.model)(text.read(200000))["input_ids"]
        self.windows = torch.tensor(ids[: len(ids) // LENGTH * LENGTH]).view(-1, LENGTH)
        self.step(0)  # allocations of the first one

    def step(self, i):
        ids = self.windows[i * BATCH : (i + 1) * BATCH]
        self.optimizer.zero_grad()
        self.model(input_ids=ids, labels=ids).loss.backward()
        self.clip()
        self.optimizer.step()

    def tokens_per_second(self):
        began = time.perf_counter()
        for i in range(STEPS):
            self.step(1 + i)
        return STEPS * BATCH * LENGTH / (time.perf_counter() - began)


def espalier(args, memory_limit="0"):
    """Of a training that ends after so many steps, as its log says."""
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "model": args.model, "run_dir": f"{folder}/run", "parallel.threads": args.threads,
            "precision": "bf16" if args.bf16 else "f32", "memory_limit": memory_limit,
            "recover.corpus": args.text, "recover.cut": "windows", "recover.cutoff": LENGTH,
            "recover.batch": BATCH, "recover.micro_batch": BATCH, "recover.steps": STEPS,
            "recover.warmup": 0.1, "recover.validation": 0,
        }
        words = [word for path, value in settings.items() for word in ("-s", f"{path}={value}")]
        program = os.environ.get("ESPALIER", "build/espalier")
        subprocess.run([program, "recover", *words, "-q"], check=True)
        with open(f"{folder}/run/events.jsonl", encoding="utf-8") as log:
            events = [json.loads(line) for line in log]
    return next(e["tokens_per_second"] for e in events if "tokens_per_second" in e)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("text")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--recompute", help="a memory_limit: a third column, with fewer layers kept")
    args = parser.parse_args()
    peft, rows = Peft(args), []
    for _ in range(args.rounds):
        row = [peft.tokens_per_second(), espalier(args)]
        rows.append(row + ([espalier(args, args.recompute)] if args.recompute else []))
        print("  ".join(f"{speed:8.1f}" for speed in rows[-1]), flush=True)
    names = ["torch + PEFT", "espalier", f"espalier, memory_limit = {args.recompute}"]
    for i, name in enumerate(names[: len(rows[0])]):
        ratio = statistics.median(row[i] / row[0] for row in rows)
        print(f"{name}: {statistics.median(row[i] for row in rows):.0f} tokens/s, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
