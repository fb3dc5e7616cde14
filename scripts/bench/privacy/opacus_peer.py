"""
The pair step of FlexOlmo with DP-SGD by Opacus: the peer that `npm run bench -- privacy` measures. Gradients of every
row of the batch are clipped together over everything that is trained, summed, and get noise. Reads the same weights and
tokens as the engine under test, so that both must report the same loss.

Usage: opacus_peer.py FOLDER. Prints {"version", "compileMs"} when it is ready. Each line on standard input is a number of
steps, answered by one JSON line {"loss": of the first step, "ms": [of each step]}.
"""

import json
import sys
import time
import warnings

import numpy
import opacus
import torch
import torch.nn.functional as F
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from torch import nn

warnings.filterwarnings("ignore")
(folder,) = sys.argv[1:]
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
config, B, T = setup["config"], setup["B"], setup["T"]
ids = torch.tensor(setup["ids"]).reshape(B, T)
labels = torch.tensor(setup["labels"]).reshape(B, T)
L, H, C = config["numHiddenLayers"], config["numAttentionHeads"], config["hiddenSize"]
D = C // H
EPS = config["rmsNormEps"]
inverse = config["ropeTheta"] ** -(torch.arange(0, D, 2, dtype=torch.float64) / D)
angles = torch.outer(torch.arange(T, dtype=torch.float64), inverse)
angles = torch.cat([angles, angles], dim=-1)
COS, SIN = angles.cos().float(), angles.sin().float()


def norm(x, weight):
    return F.rms_norm(x, (x.shape[-1],), weight, EPS)


def rotate(x):
    half = D // 2
    return x * COS + torch.cat([-x[..., half:], x[..., :half]], dim=-1) * SIN


def heads(x):
    return x.view(-1, T, H, D).transpose(1, 2)


def linear(weight, bias=None):
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.weight = nn.Parameter(weight)
    if bias is not None:
        layer.bias = nn.Parameter(bias)
    return layer


class Expert(nn.Module):
    """What is trained in one layer. The bias stays below 0 here, where min(bias, 0) is the bias itself."""

    def __init__(self, layer):
        super().__init__()
        prefix = f"model.layers.{layer}.mlp."
        self.gate = linear(tensors[f"{prefix}experts.1.gate_proj.weight"])
        self.up = linear(tensors[f"{prefix}experts.1.up_proj.weight"])
        self.down = linear(tensors[f"{prefix}experts.1.down_proj.weight"])
        self.row = linear(tensors[f"{prefix}gate.weight"], tensors[f"{prefix}expert_bias"])

    def forward(self, u):
        return self.row(u), self.down(F.silu(self.gate(u)) * self.up(u))


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.experts = nn.ModuleList(Expert(layer) for layer in range(L))

    def forward(self, rows):
        x = F.embedding(rows, tensors["model.embed_tokens.weight"])
        router_z = 0.0
        for layer, expert in enumerate(self.experts):
            p = f"model.layers.{layer}."
            query = norm(F.linear(x, tensors[f"{p}self_attn.q_proj.weight"]), tensors[f"{p}self_attn.q_norm.weight"])
            key = norm(F.linear(x, tensors[f"{p}self_attn.k_proj.weight"]), tensors[f"{p}self_attn.k_norm.weight"])
            value = F.linear(x, tensors[f"{p}self_attn.v_proj.weight"])
            query, key = rotate(heads(query)), rotate(heads(key))
            mixed = F.scaled_dot_product_attention(query, key, heads(value), is_causal=True)
            mixed = F.linear(mixed.transpose(1, 2).reshape(-1, T, C), tensors[f"{p}self_attn.o_proj.weight"])
            u = x + norm(mixed, tensors[f"{p}post_attention_layernorm.weight"])
            row, own = expert(u)
            logits = torch.cat([torch.zeros_like(row), row], dim=-1)
            router_z = router_z + torch.logsumexp(logits, -1).square().mean()
            share = F.softmax(logits, dim=-1)
            public = f"{p}mlp.experts.0."
            gate = F.silu(F.linear(u, tensors[f"{public}gate_proj.weight"]))
            up = F.linear(u, tensors[f"{public}up_proj.weight"])
            y = F.linear(gate * up, tensors[f"{public}down_proj.weight"]) * share[..., :1] + own * share[..., 1:]
            x = u + norm(y, tensors[f"{p}post_feedforward_layernorm.weight"])
        return F.linear(norm(x, tensors["model.norm.weight"]), tensors["lm_head.weight"]), router_z


pair = GradSampleModule(Pair())
optimizer = DPOptimizer(
    torch.optim.AdamW(pair.parameters(), lr=setup["learningRate"], betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0),
    noise_multiplier=1.0,
    max_grad_norm=1.0,
    expected_batch_size=B,
)


def step():
    optimizer.zero_grad(set_to_none=True)
    scores, router_z = pair(ids)
    cross_entropy = F.cross_entropy(scores.reshape(B * T, -1), labels.reshape(-1))
    lm_z = torch.logsumexp(scores, -1).square().mean() * 1e-5
    (cross_entropy + lm_z + router_z * 1e-3 / L).backward()
    optimizer.step()
    return cross_entropy.item()


print(json.dumps({"version": f"Opacus {opacus.__version__}, PyTorch {torch.__version__}", "compileMs": 0}), flush=True)

for line in sys.stdin:
    times = []
    first = None
    for _ in range(int(line)):
        start = time.perf_counter()
        loss = step()
        times.append((time.perf_counter() - start) * 1000)
        first = loss if first is None else first
    print(json.dumps({"loss": first, "ms": times}), flush=True)
