"""Scores a running node with lm-evaluation-harness through its completions, and compares with the node's own evaluation.

Usage: FLEXMESH_HOME=... OPENAI_BASE_URL=... OPENAI_API_KEY=... python scripts/conformance/lm_evaluation_harness.py
Run it in the root of the repository, with the node's home folder in FLEXMESH_HOME. Needs lm-eval[api] and transformers.
The texts are local. Exits with 1 if a log-likelihood differs by more than 0.001 nats.
"""

import csv
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile

# The data and the tokenizer are local: nothing is asked of the hub.
os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1")

import lm_eval  # noqa: E402
import transformers  # noqa: E402

TOLERANCE = 1e-3
MODEL_FOLDER = pathlib.Path("models/small")
END_OF_TEXT = "<|endoftext|>"
# The node does not score less text than this. Shorter texts are repeated, each copy as a document of its own.
LEAST_BYTES = 1000
# In characters. Such a text is shorter than a window of the evaluation (128 tokens), so both give every token the same context.
EXCERPT = 150
EXCERPTS_PER_FOLDER = 16
TEXTS = [
    "The cell membrane separates the interior of a cell from the outside environment. It consists of lipids and proteins.",
    "Article 1. The court hears the parties before it decides, unless the law provides otherwise. Costs follow the event.",
    "Theorem. Every finite group of prime order is cyclic. Proof. Let g be an element other than the identity element.",
    "Wörter mit Umlauten, naïve Akzente, and an emoji \U0001f642 are several tokens for one character.",
]
QUESTIONS = [
    {"context": "Water boils at a hundred", "choices": [" degrees", " courts"], "answer": 0},
    {"context": "The opposite of yes is", "choices": [" the", " no"], "answer": 1},
    {"context": "The employer pays the employee", "choices": [" a wage every month", " of the of"], "answer": 0},
]


def documents(path):
    text = path.read_text("utf-8")
    if path.suffix == ".jsonl":
        return [json.loads(line)["text"] for line in text.splitlines()]
    if path.suffix == ".csv":
        return [row["text"] for row in csv.DictReader(text.splitlines(keepends=True))]
    return [text]


def excerpts():
    """The beginnings of some of the documents of each institution in examples/."""
    for folder in sorted(pathlib.Path("examples").glob("*/text")):
        found = [text for path in sorted(folder.iterdir()) for text in documents(path)]
        yield from (text[:EXCERPT].strip() for text in found[:EXCERPTS_PER_FOLDER])


def tokenizer(folder):
    """The tokenizer of the public model, as transformers loads it."""
    pathlib.Path(folder, "tokenizer.json").write_bytes((MODEL_FOLDER / "tokenizer.json").read_bytes())
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END_OF_TEXT}
    pathlib.Path(folder, "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def tasks(folder, texts):
    def local(name, rows):
        files = {"test": write_rows(pathlib.Path(folder, f"{name}.jsonl"), rows)}
        return {"task": name, "dataset_path": "json", "dataset_kwargs": {"data_files": files}, "test_split": "test"}

    # A rolling likelihood is conditioned on the end of text, as in the node's evaluation. A context is not, so it says so.
    return [
        {
            **local("texts", [{"text": text} for text in texts]),
            "output_type": "loglikelihood_rolling",
            "doc_to_text": "",
            "doc_to_target": "{{text}}",
            "metric_list": [{"metric": "bits_per_byte", "aggregation": "bits_per_byte", "higher_is_better": False}],
        },
        {
            **local("questions", QUESTIONS),
            "output_type": "multiple_choice",
            "doc_to_text": END_OF_TEXT + "{{context}}",
            "doc_to_choice": "{{choices}}",
            "doc_to_target": "{{answer}}",
            "target_delimiter": "",
            "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        },
        {
            **local("answers", [{"text": text[:40]} for text in texts[:4]]),
            "output_type": "generate_until",
            "doc_to_text": "{{text}}",
            "doc_to_target": "",
            "generation_kwargs": {"until": [".", "\n"], "max_gen_toks": 24},
            "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
        },
    ]


def own_likelihoods(folder, texts):
    """Log-likelihoods of whole texts in nats, by `flexmesh evaluate`, which reports the bits per byte of each domain."""
    found = {}
    domains_at_once = 64
    for start in range(0, len(texts), domains_at_once):
        data = []
        for index, text in enumerate(texts[start : start + domains_at_once]):
            copies = math.ceil(LEAST_BYTES / len(text.encode()))
            path = write_rows(pathlib.Path(folder, f"own-{index}.jsonl"), [{"text": text}] * copies)
            data += ["--data", f"{index}={path}"]
        command = ["npx", "tsx", "src/main.ts", "evaluate", "--home", os.environ["FLEXMESH_HOME"], "--json", *data]
        run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        domains = {domain["name"]: domain for domain in json.loads(run.stdout.splitlines()[-1])["domains"]}
        for index, text in enumerate(texts[start : start + domains_at_once]):
            bits = domains[str(index)]["bitsPerByte"]["composed"] * len(text.encode())
            found[text] = -bits * math.log(2)
    return found


def main():
    texts = TEXTS + list(excerpts())
    with tempfile.TemporaryDirectory() as folder:
        results = lm_eval.simple_evaluate(
            model="local-completions",
            model_args={
                "model": "flexmesh",
                "base_url": f"{os.environ['OPENAI_BASE_URL']}/completions",
                "tokenizer_backend": "huggingface",
                "tokenizer": tokenizer(folder),
                "max_length": 512,
                "batch_size": 4,
                "timeout": 600,
            },
            tasks=tasks(folder, texts),
            bootstrap_iters=0,
            log_samples=True,
        )
        pairs = [(question["context"], choice) for question in QUESTIONS for choice in question["choices"]]
        wholes = [context + choice for context, choice in pairs]
        contexts = [question["context"] for question in QUESTIONS]
        own = own_likelihoods(folder, texts + contexts + wholes)

    samples = results["samples"]
    harness = {sample["doc"]["text"]: sample["filtered_resps"][0] for sample in samples["texts"]}
    rows = [(text, likelihood, own[text]) for text, likelihood in harness.items()]
    for sample in samples["questions"]:
        context = sample["doc"]["context"]
        for choice, (likelihood, _) in zip(sample["doc"]["choices"], sample["filtered_resps"]):
            rows.append((context + choice, likelihood, own[context + choice] - own[context]))
    differences = [abs(theirs - ours) for _, theirs, ours in rows]
    for text, theirs, ours in rows:
        print(f"{theirs:12.5f} {ours:12.5f} {abs(theirs - ours):.1e}  {text[:60]!r}")
    versions = f"lm-eval {lm_eval.__version__}, transformers {transformers.__version__}"
    generated = sum(len(sample["filtered_resps"][0]) > 0 for sample in samples["answers"])
    print(f"{versions}: {len(samples['texts'])} texts, {len(pairs)} choices, {generated} answers")
    print(f"largest difference {max(differences):.1e} nats; bound {TOLERANCE}")
    return 0 if max(differences) <= TOLERANCE and len(rows) == len(texts) + len(pairs) else 1


sys.exit(main())
