#!/usr/bin/env python3
"""Does `espalier tokenize` give the ids that tokenizers and sentencepiece give?

    interop_tokenizers.py ESPALIER WORK

Trains byte-level BPEs with the patterns of LLaMA-3, GPT-2, Qwen3 and BLOOM, OPT's pair of files, BPEs with
byte fallback like those of LLaMA-2, Phi-3 and Gemma, and SentencePiece models (BPE and unigram, and as
ChatGLM-6B and ChatGLM2 use them) in folders below WORK, and compares the ids of documents that hold
what is awkward: blanks, line ends, digits, emoji, special tokens. The models below ../shared (or
ESPALIER_SHARED), where it is, are compared too, on the stories beside them. Prints a PASS or FAIL line for
each; the exit code is 1 if any failed. Needs tokenizers, sentencepiece, transformers, h5py.
"""
import json
import os
import random
import shutil
import subprocess
import sys

import h5py
import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers, processors, trainers
from transformers import GPT2Tokenizer

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN3 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
BLOOM = " ?[^(\\s|[.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c])]+"
AWKWARD = [
    "two  blanks\tand a tab\r\nthen\n\n\nlines  \n  ",
    "I'M sure we'll don't: 1234567 3.14 \u00bd \u2167 x--y!!!",
    "caf\u00e9 \u00fc\u00df \u6f22\u5b57 \u043a\u0438\u0440\u0438\u043b a\u00a0b\u2003c",
    "\U0001F600 \U0001F468\u200d\U0001F469\u200d\U0001F467 \U0001F1E9\U0001F1EA \u2764\ufe0f",
    "\n", "a", "ends with a blank ",
]
SPECIAL = ["<s>one</s> two<unk>three", "<|end|> <|begin|>x", " begins with a blank<s>"]
SPECIAL += ["a<|end|>\u00a0\n b", "(a|b), [c]! d\u2026 e\u3002f", "</s>\n\n\nx<pad> y"]
GLM = ["sop eop soporific", "x" + " " * 200 + "y\t\tz\n\n  q"]
FIRST_ID = 20000  # of the text pieces of ChatGLM-6B, after those of images


def made_up_text():
    """Lines of words from few syllables, so that there is something to merge."""
    rng = random.Random(1)
    syllables = [c + v + e for c in "bdgklmnprst" for v in "aeiou" for e in ("", "n", "r")]
    words = ["".join(rng.choices(syllables, k=rng.randint(1, 3))) for _ in range(400)]
    lines = (" ".join(rng.choices(words, k=rng.randint(3, 20))) for _ in range(1500))
    return [line.capitalize() + rng.choice([".", "!", "?", " 17.", ", 2024"]) for line in lines]


def write_json(path, value):
    with open(path, "w") as f:
        json.dump(value, f)


def save(tokenizer, folder, config):
    os.makedirs(folder, exist_ok=True)
    tokenizer.save(os.path.join(folder, "tokenizer.json"))
    write_json(os.path.join(folder, "tokenizer_config.json"), config)


def byte_level(folder, pre_tokenizer, lines, **options):
    t = Tokenizer(models.BPE(**options))
    t.pre_tokenizer = pre_tokenizer
    t.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    t.train_from_iterator(
        lines,
        trainers.BpeTrainer(
            vocab_size=800, special_tokens=["<|begin|>", "<|end|>"], initial_alphabet=alphabet
        ),
    )
    t.post_processor = processors.TemplateProcessing(
        single="<|begin|> $A", special_tokens=[("<|begin|>", t.token_to_id("<|begin|>"))]
    )
    save(t, folder, {})


def byte_fallback(folder, lines, normalizer, decoder, end, names, **options):
    """A BPE with byte fallback; end is an added token."""
    t = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    t.normalizer = normalizer
    special = ["<unk>", "<s>", "</s>"]
    bytes_ = ["<0x%02X>" % i for i in range(256)]
    t.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=900, special_tokens=special + bytes_))
    content = json.loads(t.to_str())
    content["added_tokens"] = content["added_tokens"][: len(special)]  # bytes are pieces
    t = Tokenizer.from_str(json.dumps(content))
    t.add_tokens([end])
    t.pre_tokenizer = options.get("pre_tokenizer")
    t.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), *decoder])
    save(t, folder, names)


def metaspace_models(folder, lines):
    """LLaMA-2, Phi-3 and Gemma; what differs is where blanks go and what added tokens take with them."""
    blanks = normalizers.Replace(" ", "\u2581")
    before = normalizers.Sequence([normalizers.Prepend("\u2581"), blanks])
    strip = [decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    names = {"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": True, "add_eos_token": True}
    byte_fallback(folder["llama2"], lines, before, strip, AddedToken("<|end|>", normalized=True), names)
    end = AddedToken("<|end|>", normalized=False, rstrip=True)
    byte_fallback(folder["phi3"], lines, before, strip, end, names)
    split = pre_tokenizers.Split(" ", "merged_with_previous")
    end = AddedToken("\n\n", normalized=False)
    byte_fallback(folder["gemma"], lines, blanks, [decoders.Fuse()], end, names, pre_tokenizer=split)


def opt(folder, lines):
    """vocab.json and merges.txt without tokenizer.json, as published for OPT."""
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet, special = pre_tokenizers.ByteLevel.alphabet(), ["<s>", "<pad>", "</s>", "<unk>"]
    t.train_from_iterator(
        lines, trainers.BpeTrainer(vocab_size=800, special_tokens=special, initial_alphabet=alphabet)
    )
    os.makedirs(folder, exist_ok=True)
    t.model.save(folder)
    names = {"bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>", "pad_token": "<pad>"}
    rules = {"tokenizer_class": "GPT2Tokenizer", "add_bos_token": True, "add_prefix_space": False}
    write_json(os.path.join(folder, "tokenizer_config.json"), {**names, **rules})


def chatglm(folder, name, lines, symbols):
    sentencepiece_model(folder, "unigram", lines, name, user_defined_symbols=symbols, vocab_size=800)
    names = {"bos_token": "<sop>", "eos_token": "<eop>", "num_image_tokens": FIRST_ID} if symbols else {}
    write_json(
        os.path.join(folder, "tokenizer_config.json"), {**names, "tokenizer_class": "ChatGLMTokenizer"}
    )


def sentencepiece_model(folder, kind, lines, name="tokenizer", vocab_size=700, **options):
    os.makedirs(folder, exist_ok=True)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_prefix=os.path.join(folder, name),
        vocab_size=vocab_size,
        model_type=kind,
        byte_fallback=True,
        character_coverage=1.0,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        split_digits=True,
        minloglevel=2,
        **options,
    )


def blank(n):
    return "<|blank_%d|>" % n


def chatglm_reference(folder):
    """The published rules of the two ChatGLM classes over sentencepiece; None for another folder."""
    ice = os.path.join(folder, "ice_text.model")
    if os.path.exists(ice):
        sp = sentencepiece.SentencePieceProcessor(model_file=ice)

        def encode(text):
            text = text.replace("\n", "<n>").replace("\t", "<|tab|>")
            for n in range(80, 1, -1):
                text = text.replace(" " * n, blank(n))
            start = [sp.piece_to_id("[gMASK]"), sp.piece_to_id("<sop>")]
            return [FIRST_ID + i for i in start + sp.encode(text)]

        return encode
    config = os.path.join(folder, "tokenizer_config.json")
    if not os.path.exists(config) or "ChatGLM" not in open(config).read():
        return None
    sp = sentencepiece.SentencePieceProcessor(model_file=os.path.join(folder, "tokenizer.model"))
    return lambda text: [sp.vocab_size() + 1, sp.vocab_size() + 3] + sp.encode(text)


def reference(folder):
    """A function from a text to its ids, as the libraries say."""
    path = os.path.join(folder, "tokenizer.json")
    if chatglm_reference(folder):
        return chatglm_reference(folder)
    if os.path.exists(os.path.join(folder, "vocab.json")):
        t = GPT2Tokenizer.from_pretrained(folder)
        return lambda text: t(text).input_ids
    if not os.path.exists(path):
        sp = sentencepiece.SentencePieceProcessor(model_file=os.path.join(folder, "tokenizer.model"))
        return lambda text: [sp.bos_id()] + sp.encode(text)
    t = Tokenizer.from_file(path)
    t.no_truncation()
    with open(os.path.join(folder, "tokenizer_config.json")) as f:
        config = json.load(f)
    ends = t.post_processor is None  # then the rules are those of tokenizer_config.json
    before = [t.token_to_id(config["bos_token"])] if ends and config.get("add_bos_token") else []
    after = [t.token_to_id(config["eos_token"])] if ends and config.get("add_eos_token") else []
    return lambda text: before + t.encode(text).ids + after


def compare(espalier, work, name, folder, documents):
    """Whether all documents have the same ids; prints the first that has not."""
    corpus, output = os.path.join(work, "corpus.jsonl"), os.path.join(work, "tokens.h5")
    with open(corpus, "w") as f:
        f.writelines(json.dumps({"text": d}) + "\n" for d in documents)
    settings = ["model=" + folder, "tokenize.corpus=" + corpus, "tokenize.output=" + output]
    command = [espalier, "tokenize", "-q"] + [word for s in settings for word in ("-s", s)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        print("FAIL %s: %s" % (name, done.stderr.strip()))
        return False
    encode, n_ids = reference(folder), 0
    with h5py.File(output) as f:
        ids, start = f["ids"][:].tolist(), f["start"][:].tolist()
    if len(start) != len(documents) + 1:
        print("FAIL %s: %d documents of %d" % (name, len(start) - 1, len(documents)))
        return False
    for i, document in enumerate(documents):
        got, want = ids[start[i] : start[i + 1]], encode(document)
        if got != want:
            print("FAIL %s: %r: Espalier %s, reference %s" % (name, document[:60], got[:20], want[:20]))
            return False
        n_ids += len(got)
    print("PASS %s: %d ids of %d documents" % (name, n_ids, len(documents)))
    return True


def compare_made(espalier, work):
    lines = made_up_text()
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    patterns = {"llama3": LLAMA3, "qwen3": QWEN3, "bloom": BLOOM}
    names = [*patterns, "gpt2", "llama2", "phi3", "gemma", "opt", "bpe", "unigram", "glm", "glm2"]
    folder = {n: os.path.join(work, n) for n in names}
    symbols = ["<n>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>", "<|tab|>", *map(blank, range(2, 81))]

    for name, pattern in patterns.items():
        split = pre_tokenizers.Split(Regex(pattern), "isolated")
        options = {"ignore_merges": True} if name == "llama3" else {}
        byte_level(folder[name], pre_tokenizers.Sequence([split, to_bytes]), lines, **options)
    byte_level(folder["gpt2"], pre_tokenizers.ByteLevel(add_prefix_space=False), lines)
    metaspace_models(folder, lines)
    opt(folder["opt"], lines)
    sentencepiece_model(folder["bpe"], "bpe", lines)
    sentencepiece_model(folder["unigram"], "unigram", lines)
    chatglm(folder["glm"], "ice_text", lines, symbols)
    chatglm(folder["glm2"], "tokenizer", lines, [])
    good = True
    for name in folder:  # sentencepiece itself does not look for special tokens
        alone = name in ("bpe", "unigram", "glm", "glm2")
        documents = lines + AWKWARD + (GLM if alone else SPECIAL)
        good = compare(espalier, work, name, folder[name], documents) and good
    return good


def compare_shared(espalier, work, shared):
    with open(os.path.join(shared, "text", "stories-valid.jsonl")) as f:
        stories = [json.loads(line)["text"] for line in f]
    alone = os.path.join(work, "stories260K.model")
    os.makedirs(alone, exist_ok=True)
    shutil.copy(os.path.join(shared, "models", "stories260K", "tokenizer.model"), alone)
    good = compare(espalier, work, "stories260K, tokenizer.model", alone, stories + AWKWARD)
    for name in ("stories260K", "tinystories656k-bf16"):
        folder = os.path.join(shared, "models", name)
        good = compare(espalier, work, name, folder, stories + AWKWARD + SPECIAL) and good
    return good


def main(espalier, work):
    shared = os.environ.get("ESPALIER_SHARED", os.path.join("..", "shared"))
    os.makedirs(work, exist_ok=True)
    good = compare_made(espalier, work)
    if os.path.isdir(shared):
        good = compare_shared(espalier, work, shared) and good
    else:
        print("skipped: %s is not here" % shared)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]) if len(sys.argv) == 3 else __doc__)
