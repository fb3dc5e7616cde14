"""
Prepares and samples text and tokens as the node does: the same files give the same token files, and the same seed
gives the same rows in every step (src/data/corpus.ts, src/data/token-file.ts).
"""

import gzip
import hashlib
import json
import os
import time
from pathlib import Path

import numpy as np

END_OF_TEXT = "<|endoftext|>"
HELD_OUT_SHARE = 0.05
# Minimum length of a single document for cutting off a part that is held out.
MIN_SPLIT_CHARACTERS = 400
# A long plain text is cut at line ends into documents of about this many characters.
PIECE_CHARACTERS = 2**20
# Text is encoded in pieces of about this many characters, cut where no pre-token is split.
ENCODED_CHARACTERS = 4096
KINDS = (".txt", ".md", ".jsonl", ".jsonl.gz")


class TokenFile:
    """Token ids in a .npy file, or raw, little-endian, `width` bytes each."""

    def __init__(self, path, width):
        path = Path(path)
        if path.suffix == ".npy":
            self.ids = np.load(path, mmap_mode="r")
            if self.ids.ndim != 1 or self.ids.dtype.kind not in "ui":
                found = f"{self.ids.dtype} {self.ids.shape}"
                raise SystemExit(f"{path}: expected a one-dimensional array of integers, got {found}")
        else:
            self.ids = np.memmap(path, dtype="<u2" if width == 2 else "<u4", mode="r")
        self.path = path

    def sampler(self, length, seed):
        """Returns a function from an index to a row of `length` ids; pure, so that training resumes exactly."""
        room = max(1, len(self.ids) - length + 1)

        def row(index):
            start = int(uniform(seed, index) * room)
            ids = np.asarray(self.ids[start : start + length], dtype=np.int64)
            return ids if len(ids) == length else np.resize(ids, length)

        return row


def uniform(seed, index):
    """A number in [0, 1) from two integers, in 32-bit arithmetic."""
    word = 0xFFFFFFFF
    x = ((seed ^ 0x9E3779B9) * 0x85EBCA6B + (index + 1) * 0xC2B2AE35) & word
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & word
    x = ((x ^ (x >> 15)) * 0x846CA68B) & word
    return (x ^ (x >> 16)) / 2**32


def step_rows(own, public, step, rows, replay_share):
    """The rows of one step, public text first."""
    shared = int(rows * replay_share + 0.5)
    return [(public if b < shared else own)(step * rows + b) for b in range(rows)]


def open_tokens(paths, tokenizer_file, vocabulary, prepared, first_process):
    """
    Opens the tokens to train on: a folder that a node prepared, a token file, or text. The first process prepares
    text into the folder `prepared` once, while the others wait for the last file in it.
    """
    width = 2 if vocabulary <= 65536 else 4
    first = Path(paths[0])
    if len(paths) == 1 and (first / "corpus.json").exists():
        return TokenFile(first / "train.tokens", json.loads((first / "corpus.json").read_text())["width"])
    if len(paths) == 1 and first.suffix in (".npy", ".bin", ".tokens"):
        return TokenFile(first, width)
    done = prepared / "train.tokens"
    if first_process and not done.exists():
        prepare(paths, tokenizer_file, width, prepared)
    while not done.exists():
        time.sleep(1)
    return TokenFile(prepared / "train.tokens", width)


def prepare(paths, tokenizer_file, width, out):
    """Writes train.tokens and held-out.tokens. Drops exact duplicates and splits by document hash."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    end = tokenizer.token_to_id(END_OF_TEXT)
    if end is None:
        raise SystemExit(f"{tokenizer_file}: expected a token {END_OF_TEXT}")
    out.mkdir(parents=True, exist_ok=True)
    seen = set()
    counts = {"train": 0, "held-out": 0}
    files = {side: open(out / f"{side}.tokens.tmp", "wb") for side in counts}

    def write(side, text):
        ids = [end]
        for piece in pieces(text):
            ids += tokenizer.encode(piece, add_special_tokens=False).ids
        files[side].write(np.array(ids, dtype="<u2" if width == 2 else "<u4").tobytes())
        counts[side] += 1

    waiting = None
    for text in documents(paths):
        digest = hashlib.sha256(text.encode()).digest()
        if digest[:16] in seen:
            continue
        seen.add(digest[:16])
        if int.from_bytes(digest[16:20], "big") < HELD_OUT_SHARE * 2**32:
            write("held-out", text)
            continue
        # Delays the latest training document, which is held out if no hash selects any.
        if waiting is not None:
            write("train", waiting)
        waiting = text
    if waiting is not None:
        lone = counts["held-out"] == 0 and counts["train"] == 0
        before, last = cut_lone(waiting) if lone else (None, waiting)
        if before is not None:
            write("train", before)
        write("train" if counts["held-out"] > 0 else "held-out", last)
    for file in files.values():
        file.flush()
        os.fsync(file.fileno())
        file.close()
    if counts["train"] == 0:
        raise SystemExit(f"{', '.join(map(str, paths))}: too little text; add documents")
    for side in ("held-out", "train"):
        os.replace(out / f"{side}.tokens.tmp", out / f"{side}.tokens")


def cut_lone(text):
    if len(text) < MIN_SPLIT_CHARACTERS:
        return None, text
    target = int(len(text) * 0.8)
    line = text.rfind("\n", 0, target + 1)
    cut = line + 1 if line > len(text) / 2 else target
    return text[:cut], text[cut:]


def pieces(text):
    """Pieces that end directly before a newline followed by a non-space, which no pre-token spans."""
    start = 0
    while len(text) - start > ENCODED_CHARACTERS:
        at = start + ENCODED_CHARACTERS
        while at + 2 < len(text) and (text[at].isspace() or text[at + 1] != "\n" or text[at + 2].isspace()):
            at += 1
        if at + 2 >= len(text):
            break
        yield text[start : at + 1]
        start = at + 1
    if start < len(text):
        yield text[start:]


def documents(paths):
    for path in paths:
        for file in files_below(Path(path)):
            for text in read(file):
                if text.strip():
                    yield text


def files_below(path):
    if not path.is_dir():
        if not path.name.endswith(KINDS):
            raise SystemExit(f"{path}: this kind of file is not read; give {', '.join(KINDS)}")
        yield path
        return
    for child in sorted(path.iterdir(), key=lambda entry: entry.name.encode("utf-16-be")):
        if child.is_dir():
            yield from files_below(child)
        elif child.name.endswith(KINDS):
            yield child


def read(path):
    if path.name.endswith((".jsonl", ".jsonl.gz")):
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8", newline="\n") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    value = json.loads(line)
                    if not isinstance(value, dict) or not isinstance(value.get("text"), str):
                        raise SystemExit(f'{path} line {number}: expected a field "text" that holds a string')
                    yield value["text"]
        return
    with open(path, encoding="utf-8-sig", newline="") as file:
        rest = file.read()
    while len(rest) > PIECE_CHARACTERS:
        line = rest.rfind("\n", 0, PIECE_CHARACTERS + 1)
        cut = line + 1 if line > 0 else PIECE_CHARACTERS
        yield rest[:cut]
        rest = rest[cut:]
    if rest:
        yield rest
