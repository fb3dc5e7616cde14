"""
Prefill and greedy decoding of FlexOlmoForCausalLM in transformers: the peer that `npm run bench -- inference` and
`npm run bench -- sizes` measure. Decodes in a loop of its own under inference_mode with a key-value cache, since generate() adds
work to every token. Uses the fastest experts implementation, chosen separately for prefill and for decoding.

Usage: transformers_peer.py FOLDER THREADS DTYPE, with DTYPE float32 or bfloat16. The first line of output is {"transformers": version, "torch": version}.
Each line {"prompt": [ids], "newTokens": n} on standard input is answered by one line
{"ids": [..], "prefillMs": x, "decodeMs": y}, with y for one token.
"""

import json
import sys
import time

import torch
import transformers
from transformers import FlexOlmoForCausalLM

# batched_mm copies the weights of the chosen experts for every token, which takes minutes for a prompt on model L.
TO_READ = ("eager", "grouped_mm")
TO_DECODE = ("eager", "grouped_mm", "batched_mm")
TRIAL_TOKENS = 16
TRIALS = 2

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
torch.set_num_threads(int(sys.argv[2]))
torch.set_num_interop_threads(1)
model = FlexOlmoForCausalLM.from_pretrained(sys.argv[1], dtype=getattr(torch, sys.argv[3]))
model.eval()


def run(prompt, new_tokens, prefill, decode):
    model.set_experts_implementation(prefill)
    start = time.perf_counter()
    out = model(input_ids=torch.tensor([prompt]), use_cache=True, logits_to_keep=1)
    ids = [int(out.logits[0, -1].argmax())]
    first = time.perf_counter()
    model.set_experts_implementation(decode)
    begun = time.perf_counter()
    for _ in range(new_tokens - 1):
        out = model(input_ids=torch.tensor([ids[-1:]]), past_key_values=out.past_key_values, use_cache=True)
        ids.append(int(out.logits[0, -1].argmax()))
    decode_ms = (time.perf_counter() - begun) * 1000 / max(1, new_tokens - 1)
    return {"ids": ids, "prefillMs": (first - start) * 1000, "decodeMs": decode_ms}


def fastest(prompt):
    """The fastest implementation for each phase, by the shortest of a few runs."""

    def least(phase, names, run_with):
        return min((min(run_with(name)[phase] for _ in range(TRIALS)), name) for name in names)[1]

    read = least("prefillMs", TO_READ, lambda name: run(prompt, 1, name, name))
    decode = least("decodeMs", TO_DECODE, lambda name: run(prompt, TRIAL_TOKENS, read, name))
    return read, decode


def answer():
    chosen = None
    for line in sys.stdin:
        request = json.loads(line)
        if chosen is None:
            chosen = fastest(request["prompt"])
        result = run(request["prompt"], request["newTokens"], *chosen)
        result["experts"] = {"prefill": chosen[0], "decode": chosen[1]}
        print(json.dumps(result), flush=True)


with torch.inference_mode():
    print(json.dumps({"transformers": transformers.__version__, "torch": torch.__version__}), flush=True)
    answer()
