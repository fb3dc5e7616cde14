"""
Loads an export with transformers, for scripts/parity/upstream.ts. Reads one JSON object from standard input:
{"directory", "prompts": [text], "chats": [[message]], "tokens": number}. Prints one JSON object: {"transformers": version,
"answers": [{"prompt": [ids], "ids": [greedy ids without the end], "text": their text}]}, first of the prompts, then of
the chats. A prompt is tokenized after the end of text; a chat is rendered with the chat template of the export. Computes
in float32.
"""

import json
import sys

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
request = json.load(sys.stdin)
model = AutoModelForCausalLM.from_pretrained(request["directory"], dtype=torch.float32).eval()
tokenizer = AutoTokenizer.from_pretrained(request["directory"])
ends = model.generation_config.eos_token_id
ends = {ends} if isinstance(ends, int) else set(ends)


def ids_of(text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def answer(prompt):
    ids = torch.tensor([prompt])
    settings = {"do_sample": False, "max_new_tokens": request["tokens"]}
    out = model.generate(ids, attention_mask=torch.ones_like(ids), **settings)[0, len(prompt) :].tolist()
    tokens = out[:-1] if out[-1] in ends else out
    return {"prompt": prompt, "ids": tokens, "text": tokenizer.decode(tokens)}


prompts = [[tokenizer.eos_token_id, *ids_of(prompt)] for prompt in request["prompts"]]
for chat in request["chats"]:
    prompts.append(ids_of(tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)))
print(json.dumps({"transformers": transformers.__version__, "answers": [answer(prompt) for prompt in prompts]}))
