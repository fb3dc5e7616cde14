"""
A minimal OpenAI-compatible server around transformers, which upstream.ts puts behind a node in place of a cluster's
server. Decodes greedily, one request at a time. Usage: openai_server.py EXPORT; prints its port when it is ready.
"""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

import torch
import transformers
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
export = sys.argv[1]
model = AutoModelForCausalLM.from_pretrained(export, dtype=torch.float32)
tokenizer = Tokenizer.from_file(f"{export}/tokenizer.json")
with open(f"{export}/composition.json", encoding="utf-8") as file:
    name = json.load(file)["composition"]
ends = model.generation_config.eos_token_id
ends = {ends} if isinstance(ends, int) else set(ends)


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path != "/v1/completions" or request["model"] != name:
            self.send_error(404)
            return
        if self.headers["authorization"] != f"Bearer {os.environ['UPSTREAM_KEY']}":
            self.send_error(401)
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        answer, text, reason = [], "", "length"
        for token in self.tokens(request["prompt"], request["max_tokens"]):
            if token in ends:
                reason = "stop"
                break
            answer.append(token)
            whole = tokenizer.decode(answer)
            if not whole.endswith("\ufffd"):
                self.event({"choices": [{"index": 0, "text": whole[len(text) :], "finish_reason": None}]})
                text = whole
        self.event({"choices": [{"index": 0, "text": "", "finish_reason": reason}]})
        self.event({"choices": [], "usage": {"completion_tokens": len(answer)}})
        self.wfile.write(b"data: [DONE]\n\n")

    @torch.inference_mode()
    def tokens(self, ids, count):
        prompt = torch.tensor([ids])
        settings = {"do_sample": False, "max_new_tokens": count}
        out = model.generate(prompt, attention_mask=torch.ones_like(prompt), **settings)
        return out[0, len(ids) :].tolist()

    def event(self, value):
        self.wfile.write(f"data: {json.dumps({'model': name, **value})}\n\n".encode())
        self.wfile.flush()

    def log_message(self, *_):
        pass


server = HTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
