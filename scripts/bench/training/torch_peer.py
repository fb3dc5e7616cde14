"""
The pair step of FlexOlmo in PyTorch: the peer that `npm run bench -- training` and `npm run bench -- sizes` measure,
eager or compiled. Reads the same weights and tokens as the engine under test, so that all must report the same loss.
If bench.json has "directory", the frozen weights are the bf16 tensors of that Hugging Face folder, as float32. If it
has "rank", expert 1 is the public FFN plus a difference of this rank, and shares the public products of its input.

Usage: torch_peer.py FOLDER eager|compile. Prints {"version", "compileMs"} when it is ready. Each line on standard
input is a number of steps, answered by one JSON line {"loss": of the first step, "ms": [of each step]}.
"""

import json
import pathlib
import struct
import sys
import time

import numpy
import torch
import torch.nn.functional as F

folder, mode = sys.argv[1:]
with open(f"{folder}/bench.json", encoding="utf-8") as file:
    setup = json.load(file)
torch.set_num_threads(setup["threads"])
torch.set_num_interop_threads(1)
raw = numpy.fromfile(f"{folder}/weights.f32", dtype="<f4")
tensors = {}
offset = 0
for name, shape in setup["tensors"]:
    size = int(numpy.prod(shape))
    tensors[name] = torch.from_numpy(raw[offset : offset + size].copy()).reshape(shape)
    offset += size


def load_folder(folder):
    """Adds the bf16 tensors of a folder under mixture names, one after the other."""
    for path in sorted(pathlib.Path(folder).glob("*.safetensors")):
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            for name, entry in header.items():
                begin, end = entry["data_offsets"]
                file.seek(8 + length + begin)
                halves = torch.frombuffer(bytearray(file.read(end - begin)), dtype=torch.bfloat16)
                mixture = name.replace(".mlp.", ".mlp.experts.0.")
                tensors[mixture] = halves.float().reshape(entry["shape"])


if "directory" in setup:
    load_folder(setup["directory"])
rank = setup.get("rank", 0)
ids = torch.tensor(setup["ids"]).reshape(setup["B"], setup["T"])
labels = torch.tensor(setup["labels"])
config, B, T = setup["config"], setup["B"], setup["T"]
L, H, C = config["numHiddenLayers"], config["numAttentionHeads"], config["hiddenSize"]
D = C // H
EPS = config["rmsNormEps"]

inverse = config["ropeTheta"] ** -(torch.arange(0, D, 2, dtype=torch.float64) / D)
angles = torch.outer(torch.arange(T, dtype=torch.float64), inverse)
angles = torch.cat([angles, angles], dim=-1)
COS, SIN = angles.cos().float(), angles.sin().float()

trainable = {name: value.requires_grad_() for name, value in tensors.items() if name in setup["trainable"]}
optimizer = torch.optim.AdamW(
    trainable.values(), lr=setup["learningRate"], betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0, fused=True
)


def norm(x, weight):
    return F.rms_norm(x, (x.shape[-1],), weight, EPS)


def rotate(x):
    half = D // 2
    return x * COS + torch.cat([-x[..., half:], x[..., :half]], dim=-1) * SIN


def heads(x):
    return x.view(B, T, H, D).transpose(1, 2)


def feed_forward(u, layer, expert):
    prefix = f"model.layers.{layer}.mlp.experts.{expert}."
    gate = F.silu(F.linear(u, tensors[f"{prefix}gate_proj.weight"]))
    return F.linear(gate * F.linear(u, tensors[f"{prefix}up_proj.weight"]), tensors[f"{prefix}down_proj.weight"])


def low_rank(u, layer, projection, scale):
    """The difference of expert 1 from the public FFN, times u."""
    prefix = f"model.layers.{layer}.mlp.experts.1.{projection}.lora_"
    return F.linear(F.linear(u, tensors[f"{prefix}A.weight"]), tensors[f"{prefix}B.weight"]) * scale


def both_experts(u, layer):
    """Outputs of the public FFN and of a low-rank expert 1, which share the public products of u."""
    prefix = f"model.layers.{layer}.mlp.experts.0."
    down = tensors[f"{prefix}down_proj.weight"]
    into, back = 2 * (C / rank) ** 0.5, 2 * (down.shape[1] / rank) ** 0.5
    gate = F.linear(u, tensors[f"{prefix}gate_proj.weight"])
    up = F.linear(u, tensors[f"{prefix}up_proj.weight"])
    inner = F.silu(gate + low_rank(u, layer, "gate_proj", into)) * (up + low_rank(u, layer, "up_proj", into))
    return F.linear(F.silu(gate) * up, down), F.linear(inner, down) + low_rank(inner, layer, "down_proj", back)


def loss_terms():
    x = F.embedding(ids, tensors["model.embed_tokens.weight"])
    router_z = 0.0
    for layer in range(L):
        p = f"model.layers.{layer}."
        query = norm(F.linear(x, tensors[f"{p}self_attn.q_proj.weight"]), tensors[f"{p}self_attn.q_norm.weight"])
        key = norm(F.linear(x, tensors[f"{p}self_attn.k_proj.weight"]), tensors[f"{p}self_attn.k_norm.weight"])
        value = F.linear(x, tensors[f"{p}self_attn.v_proj.weight"])
        mixed = F.scaled_dot_product_attention(rotate(heads(query)), rotate(heads(key)), heads(value), is_causal=True)
        mixed = F.linear(mixed.transpose(1, 2).reshape(B, T, C), tensors[f"{p}self_attn.o_proj.weight"])
        u = x + norm(mixed, tensors[f"{p}post_attention_layernorm.weight"])
        row = F.linear(u, tensors[f"{p}mlp.gate.weight"]) + tensors[f"{p}mlp.expert_bias"].clamp(max=0)
        logits = torch.cat([torch.zeros_like(row), row], dim=-1)
        router_z = router_z + torch.logsumexp(logits, -1).square().sum()
        share = F.softmax(logits, dim=-1)
        public, own = both_experts(u, layer) if rank else (feed_forward(u, layer, 0), feed_forward(u, layer, 1))
        y = public * share[..., :1] + own * share[..., 1:]
        x = u + norm(y, tensors[f"{p}post_feedforward_layernorm.weight"])
    scores = F.linear(norm(x, tensors["model.norm.weight"]), tensors["lm_head.weight"]).view(B * T, -1)
    cross_entropy = F.cross_entropy(scores, labels)
    lm_z = torch.logsumexp(scores, -1).square().mean() * 1e-5
    return cross_entropy + lm_z + router_z / (B * T) * 1e-3 / L


objective = torch.compile(loss_terms) if mode == "compile" else loss_terms


def step():
    optimizer.zero_grad(set_to_none=True)
    loss = objective()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(trainable.values(), 1.0)
    optimizer.step()
    return loss.item()


start = time.perf_counter()
if mode == "compile":
    objective().backward()
compile_ms = (time.perf_counter() - start) * 1000
print(json.dumps({"version": torch.__version__, "compileMs": compile_ms}), flush=True)

for line in sys.stdin:
    times = []
    first = None
    for _ in range(int(line)):
        start = time.perf_counter()
        loss = step()
        times.append((time.perf_counter() - start) * 1000)
        first = loss if first is None else first
    print(json.dumps({"loss": first, "ms": times}), flush=True)
