"""
Makes and runs model folders with transformers, for scripts/parity/check.ts. The first line of output is
{"transformers": version, "torch": version}. Then each JSON line on standard input is answered by one JSON line:
{"do": "make", "dir", "config", "dense", "dtype", "seed", "shard"} saves a random model by save_pretrained; answer {}.
{"do": "run", "dir", "prompt", "newTokens"} computes in float32; answer {"logits": [T * V floats], "ids": [greedy]}.
{"do": "follow", "dir", "prompt", "ids", "dtype"} reads the prompt and ids in dtype; answer {"gaps": for each id how far its
logit is below the largest one}. All gaps are 0 if ids is the greedy continuation.
"""

import json
import sys

import torch
import transformers
from transformers import AutoModelForCausalLM, FlexOlmoConfig, FlexOlmoForCausalLM, Olmo2Config, Olmo2ForCausalLM

SPREAD = 0.35

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
torch.set_num_threads(1)


def make(request):
    torch.manual_seed(request["seed"])
    kinds = (Olmo2Config, Olmo2ForCausalLM) if request["dense"] else (FlexOlmoConfig, FlexOlmoForCausalLM)
    model = kinds[1](kinds[0](**request["config"]))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.uniform_(-SPREAD, SPREAD)
            if "norm" in name:
                parameter.add_(1)
    model.to(getattr(torch, request["dtype"])).save_pretrained(request["dir"], max_shard_size=request["shard"])
    return {}


def run(request):
    model = AutoModelForCausalLM.from_pretrained(request["dir"], dtype=torch.float32).eval()
    prompt = torch.tensor([request["prompt"]])
    out = model(input_ids=prompt, use_cache=True)
    logits = out.logits[0].flatten().tolist()
    ids = [int(out.logits[0, -1].argmax())]
    while len(ids) < request["newTokens"]:
        out = model(input_ids=torch.tensor([ids[-1:]]), past_key_values=out.past_key_values, use_cache=True)
        ids.append(int(out.logits[0, -1].argmax()))
    return {"logits": logits, "ids": ids}


def follow(request):
    model = AutoModelForCausalLM.from_pretrained(request["dir"], dtype=getattr(torch, request["dtype"])).eval()
    ids = torch.tensor(request["ids"])
    read = torch.tensor([request["prompt"] + request["ids"][:-1]])
    logits = model(input_ids=read).logits[0, len(request["prompt"]) - 1 :].float()
    largest = logits.max(dim=1).values
    gaps = largest - logits.gather(1, ids[:, None])[:, 0]
    return {"gaps": gaps.tolist()}


with torch.inference_mode(False), torch.no_grad():
    print(json.dumps({"transformers": transformers.__version__, "torch": torch.__version__}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps({"make": make, "run": run, "follow": follow}[request["do"]](request)), flush=True)
