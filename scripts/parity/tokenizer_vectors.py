"""
Trains a small tokenizer of the dolma2 kind (GPT-4's pre-tokenizer, byte-level BPE, added tokens beyond the
vocabulary) on the sample text, and encodes difficult text with it in the tokenizers library.
Usage: tokenizer_vectors.py EXAMPLES OUT; writes OUT/dolma2-kind.json and OUT/cases.json.
"""

import json
import pathlib
import sys

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

VOCABULARY = 500
GPT4 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PARTS = [
    "I'll say it's HE'S they'VE 12345 1,234.5\n",
    "end.\nnext\n\n\nthird line;\r\n  indented\tword   \n",
    "Ünïcode — “quotes” … 漢字かな 🙂👩‍👩‍👧 a\u0301\n",
    "    def f(x):\n        return {x: [1, 2, 333333]}\n\n",
    "trailing spaces   \n\n   \nmail |||EMAIL_ADDRESS||| or <|fim_prefix|> here\n",
    "x\n.\ny!\n?\nz\n",
]

LINES = "end.\nnext!\n"

examples, out = (pathlib.Path(argument) for argument in sys.argv[1:3])
texts = [path.read_text() for path in sorted((examples / "archive" / "text").glob("*.md"))[:20]]
tokenizer = Tokenizer(models.BPE())
tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
    [
        pre_tokenizers.Split(Regex(GPT4), behavior="removed", invert=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
)
tokenizer.decoder = decoders.ByteLevel()
trainer = trainers.BpeTrainer(
    vocab_size=VOCABULARY, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
)
# LINES make punctuation and the newline after it one token.
tokenizer.train_from_iterator([*texts, LINES * 500], trainer)
tokenizer.add_special_tokens([AddedToken(name, special=True) for name in ("<|endoftext|>", "<|fim_prefix|>")])
tokenizer.add_tokens([AddedToken("|||EMAIL_ADDRESS|||", normalized=False, special=False)])
tokenizer.add_special_tokens([AddedToken("<|pad|>", special=True)])

long = "".join(PARTS[i % len(PARTS)] for i in range(150))
cases = [{"text": text, "ids": tokenizer.encode(text).ids} for text in PARTS]
cases.append({"repeat": PARTS, "times": 25, "ids": tokenizer.encode(long).ids})
cases.append({"repeat": [LINES], "times": 900, "ids": tokenizer.encode(LINES * 900).ids})
out.mkdir(parents=True, exist_ok=True)
tokenizer.save(str(out / "dolma2-kind.json"), pretty=False)
(out / "cases.json").write_text(json.dumps(cases, ensure_ascii=False, separators=(",", ":")) + "\n")
