#!/usr/bin/env python3
"""Does the program give the ids, and show the text, that tokenizers, transformers and sentencepiece give?

    interop_tokenizers.py ESPALIER TOOL WORK [FOLDER...]

TOOL is tool_tokenizer. Trains byte-level BPEs with the pipelines of LLaMA-3, GPT-2, Qwen3, DeepSeek, SmolLM2 and
BLOOM, OPT's pair of files, BPEs with byte fallback like those of LLaMA-2, Mistral, Phi-3 and Gemma, one for each
other normalizer and pre-tokenizer, and SentencePiece models (BPE and unigram, with the classes that
transformers has for them, and as ChatGLM-6B and ChatGLM2 use them) in folders below WORK, and compares ids
and decoded text of documents that hold what is awkward: blanks, line ends, digits, marks, emoji, special
tokens. The models below ../shared (or ESPALIER_SHARED), where it is, and the FOLDERs, which have a
tokenizer.json, are compared too. Prints a PASS or FAIL line for each; the exit code is 1 if any failed.
Needs tokenizers, sentencepiece, transformers, h5py.
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
from transformers import AutoTokenizer, GPT2Tokenizer

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN3 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
BLOOM = " ?[^(\\s|[.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c])]+"
DEEPSEEK = [
    r"\p{N}{1,3}",
    "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
    "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
]
DEEPSEEK_LLM = [
    "[\r\n]", "\\s?[A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u0400-\u0481]+",
    "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+", "\\s+$",
    "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+",
]
AWKWARD = [
    "two  blanks\tand a tab\r\nthen\n\n\nlines  \n  ",
    "I'M sure we'll don't: 1234567 3.14 \u00bd \u2167 x--y!!!",
    "caf\u00e9 \u00fc\u00df \u6f22\u5b57 \u043a\u0438\u0440\u0438\u043b a\u00a0b\u2003c",
    "cafe\u0301 o\u0308\u0323 \u1112\u1161\u11ab\u1100\u1173\u11af \u0301x A\u030a \u212b \ufb01 \ucc44\u11a7",
    "\U0001F600 \U0001F468\u200d\U0001F469\u200d\U0001F467 \U0001F1E9\U0001F1EA \u2764\ufe0f",
    "12\u0663\u0664 \u096a\u096b3 \u00b2\u2460 1,000.00 0x1F 3\u2044\u2084",
    "\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627, \u200fabc\u200e \u0939\u093f\u0928\u094d\u0926\u0940 \u0e44\u0e17\u0e22",
    "\u0378 \U000e0fff \ue000 \ufffd \u180e \u200b\u2028\u2029 \x00\x01\x0b\x0c\x7f\x85 \ufeff",
    "\u0130I\u0131 \u03a3\u03c2 \u017f's 'S 'LL \u1e9e", "\u2581 \u2581x\u2581\u2581", "f(x)[i] += \"a\\n\"; // _b_ #1",
    "\n", "a", " ", "   ", "", " a", "a ", "\n\na\n", "\r\n\r\n\tx\t", "ends with a blank ", "a" * 20000,
    "word " * 4000, " " * 3000 + "x", "\n" * 3000,
]
SPECIAL = ["<s>one</s> two<unk>three", "<|end|> <|begin|>x", " begins with a blank<s>"]
SPECIAL += ["a<|end|>\u00a0\n b", "(a|b), [c]! d\u2026 e\u3002f", "</s>\n\n\nx<pad> y"]
SPECIAL += ["x <s> y </s>\tz", "hi</s>\n\nbye<|end|>", "<s><s></s>", "user: a</s>USER: b <|end|>c", "<s>", " </s> "]
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


def byte_level(folder, pre_tokenizer, lines, normalizer=None, **options):
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
    t.normalizer = normalizer
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
    first = pre_tokenizers.Metaspace("\u2581", "first", False)
    end = AddedToken("<|end|>", normalized=False, lstrip=True, single_word=True)
    byte_fallback(folder["mistral3"], lines, None, strip, end, names, pre_tokenizer=first)


def single_steps():
    """Every other normalizer and pre-tokenizer by name."""
    n, p = normalizers, pre_tokenizers
    steps = {"nfd": n.NFD(), "nfkc": n.NFKC(), "nfkd": n.NFKD(), "lowercase": n.Lowercase(), "nmt": n.Nmt()}
    steps["accents"] = n.Sequence([n.NFD(), n.StripAccents()])
    steps.update(strip=n.Strip(), prepend=n.Prepend("x"), replace=n.Replace(Regex(r"\s+|[^\w\s]"), "_"))
    steps.update(bert=n.BertNormalizer(), digits=p.Digits(False), words=p.Whitespace())
    steps.update(blanks=p.WhitespaceSplit(), bert_split=p.BertPreTokenizer(), comma=p.CharDelimiterSplit(","))
    steps.update(fixed=p.FixedLength(3), empty=p.Split(Regex(r"(?=(\d{3})+(?!\d))"), "isolated"))
    for behavior in ("removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"):
        steps["punctuation " + behavior] = p.Punctuation(behavior)
        steps["split " + behavior] = p.Split(Regex(r"\s|\p{Han}"), behavior)
        steps["inverted " + behavior] = p.Split("a", behavior, invert=True)
    return steps


def make_single_steps(work, lines):
    """Folders with one step each, by name."""
    decoder, end = [decoders.Fuse()], AddedToken("<|end|>", normalized=True)
    folders = {}
    for name, step in single_steps().items():
        folders[name] = os.path.join(work, name)
        is_normalizer = isinstance(step, normalizers.Normalizer)
        before = {} if is_normalizer else {"pre_tokenizer": step}
        byte_fallback(folders[name], lines, step if is_normalizer else None, decoder, end, {}, **before)
    return folders


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


CLASSES = {  # model_type, tokenizer_config.json
    "no class": ("llama", {}),
    "LlamaTokenizer": ("llama", {"tokenizer_class": "LlamaTokenizer"}),
    "legacy": ("llama", {"tokenizer_class": "LlamaTokenizer", "legacy": True, "add_bos_token": True}),
    "not legacy": ("llama", {"tokenizer_class": "LlamaTokenizerFast", "legacy": False, "add_eos_token": True}),
    "no prefix": ("llama", {"tokenizer_class": "LlamaTokenizer", "add_prefix_space": False}),
    "CodeLlama": ("llama", {"tokenizer_class": "CodeLlamaTokenizer"}),
    "Mistral": ("mistral", {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True}),
    "Mistral, not legacy": ("mistral", {"tokenizer_class": "LlamaTokenizer", "legacy": False}),
    "Phi-3": ("phi3", {"tokenizer_class": "LlamaTokenizer", "legacy": False, "add_bos_token": True}),
}


def make_classes(work, model):
    """A folder for each class, by name."""
    folders = {}
    for name, (model_type, config) in CLASSES.items():
        folders[name] = folder = os.path.join(work, "class " + name)
        os.makedirs(folder, exist_ok=True)
        shutil.copy(model, os.path.join(folder, "tokenizer.model"))
        write_json(os.path.join(folder, "config.json"), {"model_type": model_type})
        write_json(os.path.join(folder, "tokenizer_config.json"), config)
    return folders


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
    """A function from a text to its ids and the text to show for them, None: not known."""
    path = os.path.join(folder, "tokenizer.json")
    if chatglm_reference(folder):
        glm = chatglm_reference(folder)
        return lambda text: (glm(text), None)
    if os.path.exists(os.path.join(folder, "vocab.json")) and "qwen2" not in folder:
        t = GPT2Tokenizer.from_pretrained(folder)
        return lambda text: shown(t(text).input_ids, t)
    if os.path.exists(os.path.join(folder, "config.json")) and not os.path.exists(path):
        t = AutoTokenizer.from_pretrained(folder)
        return lambda text: shown(t(text).input_ids, t)
    if not os.path.exists(path):
        sp = sentencepiece.SentencePieceProcessor(model_file=os.path.join(folder, "tokenizer.model"))
        return lambda text: (sp.encode(text), None)
    t = Tokenizer.from_file(path)
    t.no_truncation()
    added = json.loads(t.to_str())["added_tokens"]
    # the library does not know a special token again when its normalizer has changed it
    seen = t.normalizer and any(a["special"] and a["normalized"] for a in added)
    config_path = os.path.join(folder, "tokenizer_config.json")
    config = json.load(open(config_path)) if os.path.exists(config_path) else {}
    # without a template the rules are those of tokenizer_config.json
    ends = not t.encode("").ids
    before = [t.token_to_id(config["bos_token"])] if ends and config.get("add_bos_token") else []
    after = [t.token_to_id(config["eos_token"])] if ends and config.get("add_eos_token") else []
    return lambda text: shown(before + t.encode(text).ids + after, None if seen else t)


def shown(ids, tokenizer):
    return ids, tokenizer and tokenizer.decode(ids, skip_special_tokens=True)


def tokens_of(espalier, work, folder, documents):
    """Ids of documents that are not empty by `espalier tokenize`."""
    corpus, output = os.path.join(work, "corpus.jsonl"), os.path.join(work, "tokens.h5")
    with open(corpus, "w") as f:
        f.writelines(json.dumps({"text": d}) + "\n" for d in documents)
    if os.path.exists(output):
        os.remove(output)
    settings = ["model=" + folder, "tokenize.corpus=" + corpus, "tokenize.output=" + output]
    command = [espalier, "tokenize", "-q"] + [word for s in settings for word in ("-s", s)]
    subprocess.run(command, check=True)
    with h5py.File(output) as f:
        ids, start = f["ids"][:].tolist(), f["start"][:].tolist()
    return [ids[a:b] for a, b in zip(start, start[1:])]


def compare(tool, name, folder, documents):
    """Whether all documents have the same ids and text; prints the first that has not."""
    lines = "\n".join(json.dumps(d) for d in documents)
    done = subprocess.run([tool, folder], input=lines, capture_output=True, text=True)
    if done.returncode != 0:
        print("FAIL %s: %s" % (name, done.stderr.strip()))
        return False
    results = [json.loads(line) for line in done.stdout.splitlines()]
    if len(results) != len(documents):
        print("FAIL %s: %d documents of %d" % (name, len(results), len(documents)))
        return False
    encode, n_ids = reference(folder), 0
    for document, result in zip(documents, results):
        ids, text = encode(document)
        got = result.get("ids", result.get("error"))
        if got != ids:
            print("FAIL %s: %r: Espalier %s, reference %s" % (name, document[:60], got[:20], ids[:20]))
            return False
        if text is not None and result["text"] != text:
            print("FAIL %s: shows %r, reference %r" % (name, result["text"][:60], text[:60]))
            return False
        n_ids += len(ids)
    print("PASS %s: %d ids of %d documents" % (name, n_ids, len(documents)))
    return True


def compare_command(espalier, work, folder, documents):
    """Does the command give what the reference gives?"""
    encode = reference(folder)
    good = tokens_of(espalier, work, folder, documents) == [encode(d)[0] for d in documents]
    print("%s espalier tokenize" % ("PASS" if good else "FAIL"))
    return good


def compare_made(espalier, tool, work):
    lines = made_up_text()
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    patterns = {"llama3": [LLAMA3], "qwen3": [QWEN3], "bloom": [BLOOM], "deepseek": DEEPSEEK}
    patterns["deepseek-llm"] = DEEPSEEK_LLM
    names = [*patterns, "gpt2", "smollm2", "llama2", "phi3", "gemma", "mistral3", "opt", "bpe", "unigram", "glm", "glm2"]
    folder = {n: os.path.join(work, n) for n in names}
    symbols = ["<n>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>", "<|tab|>", *map(blank, range(2, 81))]
    options = {"llama3": {"ignore_merges": True}, "qwen3": {"normalizer": normalizers.NFC()}}

    for name, parts in patterns.items():
        split = [pre_tokenizers.Split(Regex(part), "isolated") for part in parts]
        split += [pre_tokenizers.Digits(True)] if name == "deepseek-llm" else []
        pipeline = pre_tokenizers.Sequence([*split, to_bytes])
        byte_level(folder[name], pipeline, lines, **options.get(name, {}))
    gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
    byte_level(folder["gpt2"], gpt2, lines)
    byte_level(folder["smollm2"], pre_tokenizers.Sequence([pre_tokenizers.Digits(True), gpt2]), lines)
    metaspace_models(folder, lines)
    opt(folder["opt"], lines)
    sentencepiece_model(folder["bpe"], "bpe", lines)
    sentencepiece_model(folder["unigram"], "unigram", lines)
    chatglm(folder["glm"], "ice_text", lines, symbols)
    chatglm(folder["glm2"], "tokenizer", lines, [])
    folder["qwen2 pair"] = os.path.join(work, "qwen2 pair")
    pair = Tokenizer.from_file(os.path.join(folder["qwen3"], "tokenizer.json"))
    os.makedirs(folder["qwen2 pair"], exist_ok=True)
    pair.model.save(folder["qwen2 pair"])
    write_json(os.path.join(folder["qwen2 pair"], "config.json"), {"model_type": "qwen2"})
    names = {"eos_token": "<|end|>", "pad_token": "<|end|>", "unk_token": "<|end|>"}
    config = {"tokenizer_class": "Qwen2Tokenizer", **names}
    write_json(os.path.join(folder["qwen2 pair"], "tokenizer_config.json"), config)
    classes = make_classes(work, os.path.join(folder["bpe"], "tokenizer.model"))
    good = compare_command(espalier, work, folder["llama2"], lines)
    for name, place in {**folder, **make_single_steps(work, lines), **classes}.items():
        alone = name in ("bpe", "unigram", "glm", "glm2")  # sentencepiece does not look for special tokens
        documents = lines[:300] + AWKWARD + (GLM if alone else SPECIAL)
        good = compare(tool, name, place, documents) and good
    return good


def compare_shared(tool, work, shared):
    with open(os.path.join(shared, "text", "stories-valid.jsonl")) as f:
        stories = [json.loads(line)["text"] for line in f]
    alone = os.path.join(work, "stories260K.model")
    os.makedirs(alone, exist_ok=True)
    shutil.copy(os.path.join(shared, "models", "stories260K", "tokenizer.model"), alone)
    plain = [d for d in AWKWARD if "\u2581" not in d]  # which SentencePiece folds as if it were a blank
    good = compare(tool, "stories260K, tokenizer.model", alone, stories + plain)
    for name in ("stories260K", "tinystories656k-bf16"):
        folder = os.path.join(shared, "models", name)
        good = compare(tool, name, folder, stories + AWKWARD + SPECIAL) and good
    return good


def main(espalier, tool, work, *folders):
    shared = os.environ.get("ESPALIER_SHARED", os.path.join("..", "shared"))
    os.makedirs(work, exist_ok=True)
    good = compare_made(espalier, tool, work)
    if os.path.isdir(shared):
        good = compare_shared(tool, work, shared) and good
    else:
        print("skipped: %s is not here" % shared)
    for folder in folders:
        good = compare(tool, folder, folder, made_up_text()[:300] + AWKWARD + SPECIAL) and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]) if len(sys.argv) > 3 else __doc__)
