"""
Encodes difficult text with variants of a tokenizer (normalizers, pre-tokenizers, every option of added tokens) in
Hugging Face's library. Special tokens are encoded as characters, and also as tokens where this makes a difference.
Usage: tokenizer_variants.py TOKENIZER OUT [RANDOM SEED]; TOKENIZER is test/fixtures/tokenizer/dolma2-kind.json. Without
RANDOM it writes the strings that the tests use; with it, that many random strings for each variant.
"""

import copy
import itertools
import json
import pathlib
import random
import sys
import unicodedata

from tokenizers import Tokenizer

CONTRACTIONS = "'s|'t|'re|'ve|'m|'ll|'d"
TAIL = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
UPPER, LOWER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
PATTERNS = {
    "qwen2": rf"(?i:{CONTRACTIONS})|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{TAIL}",
    "cl100k": r"(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$"
    r"|\s*[\r\n]|\s+(?!\S)|\s",
    "o200k": rf"[^\r\n\p{{L}}\p{{N}}]?[{UPPER}]*[{LOWER}]+(?i:{CONTRACTIONS})?|[^\r\n\p{{L}}\p{{N}}]?[{UPPER}]+[{LOWER}]*"
    rf"(?i:{CONTRACTIONS})?|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "kimi": rf"[\p{{Han}}]+|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{TAIL}",
    "deepseek": r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "lines": r"^\s*\w+|.$|[[:alpha:]]{2}|\x41|\u0042|[^\S\r\n]+",
    "atomic": r"(?>a+b|\w+)\d{,2}|\H",
    "classes": r"[\d\-x]+|\S+?e|(?<=a)\p{^Lu}",
    "scripts": r"(?:\p{Greek}|[\p{Cyrillic}_])+|[\u4e00-\u9fff]+|\W",
}
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
WORDS = BYTES | {"add_prefix_space": True, "use_regex": True}
SPELLINGS = ["<a>", "word", "  ", "e\u0301", "<|x|>", "|x", "\n", "AB", "ab", "\u2167", "<a", "a>", "<|x|><|x|>", "\u3000"]
HARD = [
    "I'll SAY it'S HE'ſ they'VE n't 12345 ٣٤٥ Ⅷ ½ 1,234.5\n\n  end.\r\n\r\n \t x\n",
    "a\u00a0b\u1680c\u2003d\u2028e\u2029f\u202fg\u205fh\u3000i\u0085j\ufeffk\u200bl\u180em\u2060n\x1co\x0bp\x00 \u0085 \ufeff ",
    "e\u0301\u0323 \u00c5\u212b a\u0345\u0334 \u1100\u1161\u11a8 \uac01 \ufb01 \u2460 \uff76\uff9e \u03a3\u0391\u03a3 \u0130 \u1e9e \u07fd\u0301 \U00010f46\u0323",
    "<a>word  word. e\u0301<|x|><|x|> |x\n\n\nABab\u2167<a a>\u3000<|x|>  \u3000 <|endoftext|>\n<a>",
    "👩‍👩‍👧 🏳️‍🌈 漢字かな 한국어 ไทย हिन्दी \U0001d400\U00020000 \ud7ff\ue000\ufffd\U0010ffff",
    "x" * 9 + " " * 17 + "ab" * 5 + "!" * 7 + "\n" * 5 + "1" * 7,
    "a" + "\u0301\u0316\u0345" * 22,
]


def split(pattern, behavior="Isolated", invert=False):
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": invert}


def before_bytes(*steps, last=BYTES):
    return {"type": "Sequence", "pretokenizers": [*steps, last]}


def variants(base):
    """Yields a name and the members of the file that differ from the base."""
    yield "base", {}
    for form in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase"):
        yield form, {"normalizer": {"type": form}}
    strip = {"type": "Strip", "strip_left": True, "strip_right": True}
    yield "strip", {"normalizer": {"type": "Sequence", "normalizers": [strip, {"type": "NFC"}]}}
    replace = [
        {"type": "Replace", "pattern": {"Regex": r"\s{2,}"}, "content": " $1 "},
        {"type": "Replace", "pattern": {"String": "e."}, "content": "E"},
        {"type": "Prepend", "prepend": "_"},
    ]
    yield "replace", {"normalizer": {"type": "Sequence", "normalizers": replace}}
    for name, pattern in PATTERNS.items():
        yield name, {"pre_tokenizer": before_bytes(split(pattern))}
    for behavior in ("Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"):
        for invert in (False, True):
            yield f"{behavior} {invert}", {"pre_tokenizer": before_bytes(split(r"\s+|\p{P}", behavior, invert))}
    digits = {"type": "Digits", "individual_digits": True}, {"type": "Punctuation", "behavior": "Isolated"}
    yield "digits", {"pre_tokenizer": before_bytes(*digits, last=WORDS)}
    runs = {"type": "Digits", "individual_digits": False}, {"type": "Punctuation", "behavior": "Contiguous"}
    yield "runs", {"pre_tokenizer": before_bytes(*runs, last=BYTES | {"use_regex": True})}
    yield "ignore_merges", {"model": base["model"] | {"ignore_merges": True}}
    # Each variant has eight tokens; together they have every combination of the five options.
    names = ("lstrip", "rstrip", "single_word", "normalized", "special")
    options = [dict(zip(names, values)) for values in itertools.product((False, True), repeat=5)]
    choice = random.Random(7)
    for i in range(16):
        normalizer = choice.choice([None, {"type": "NFC"}, {"type": "Lowercase"}, {"type": "NFKC"}, {"type": "NFD"}])
        size = len(base["model"]["vocab"])
        tokens = [
            {"id": size + j, "content": content} | options[(8 * i + j) % 32]
            for j, content in enumerate(choice.sample(SPELLINGS, 8))
        ]
        end = dict.fromkeys(names, False) | {"id": size + 8, "content": "<|endoftext|>", "special": True}
        yield f"added tokens {i}", {
            "normalizer": normalizer,
            "added_tokens": [*tokens, end],
            "pre_tokenizer": choice.choice([base["pre_tokenizer"], WORDS]),
        }


def random_text(choice, words=[], marks=[], spaces=[]):
    if not words:
        assigned = [c for c in map(chr, range(0x110000)) if unicodedata.category(c) not in ("Cn", "Co", "Cs")]
        marks += [c for c in assigned if unicodedata.category(c).startswith("M")]
        spaces += [c for c in assigned if c.isspace() or unicodedata.category(c) in ("Zs", "Zl", "Zp", "Cc", "Cf")]
        words += assigned

    def atom():
        kind = choice.randrange(10)
        if kind < 2:
            return choice.choice(spaces) * choice.choice([1, 1, 2, 3])
        if kind < 4:
            return choice.choice(words)
        if kind < 5:
            return choice.choice("ea가ᄀΩſ") + "".join(choice.choice(marks) for _ in range(choice.randrange(1, 4)))
        if kind < 8:
            return choice.choice([*SPELLINGS, "<|endoftext|>"])
        text = choice.choice(HARD)
        start = choice.randrange(len(text))
        return text[start : start + choice.randrange(1, 20)]

    text = "".join(atom() for _ in range(choice.choice([1, 2, 4, 8, 16])))
    return text + "a" + "".join(choice.choice(marks) for _ in range(200)) if choice.random() < 0.002 else text


def encoded(tokenizer, text):
    """The text, its tokens, and its tokens if names of special tokens count; None if the library fails."""
    try:
        tokenizer.encode_special_tokens = True
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        tokenizer.encode_special_tokens = False
        control = tokenizer.encode(text, add_special_tokens=False).ids
    except BaseException:  # A failure in Rust ("bad split") is not an Exception.
        return None
    return [text, ids] if control == ids else [text, ids, control]


base = json.loads(pathlib.Path(sys.argv[1]).read_text())
choice = random.Random(int(sys.argv[4]) if len(sys.argv) > 4 else 0)
lines = []
for name, changes in variants(base):
    tokenizer = Tokenizer.from_str(json.dumps(copy.deepcopy(base) | changes))
    texts = [random_text(choice) for _ in range(int(sys.argv[3]))] if len(sys.argv) > 3 else HARD
    rows = [row for row in (encoded(tokenizer, text) for text in texts) if row is not None]
    if "model" in changes:
        changes = {"ignore_merges": True}
    line = {"name": name, "changes": changes, "cases": rows}
    lines.append(json.dumps(line, ensure_ascii=False, separators=(",", ":")))
pathlib.Path(sys.argv[2]).write_text("[\n" + ",\n".join(lines) + "\n]\n")
