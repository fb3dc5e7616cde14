"""
The pair model of FlexOlmo in PyTorch, sharded by FSDP2. Only expert 1, its router row and its bias are trained.
Computes the same function, losses included, as src/training/pair.ts. Knows nothing about text and files except how to
read the pair's tensors.
"""

import torch
import torch.nn.functional as F
from torch import nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.utils.checkpoint import checkpoint

LM_Z_LOSS = 1e-5
ROUTER_Z_LOSS = 1e-3
# Maximum number of elements of the logits that one device holds at a time.
LOGITS_AT_ONCE = 1 << 26


def norm(x, gain, eps):
    """RMS norm over the last axis, computed in float32 for every dtype of x."""
    return F.rms_norm(x.float(), (x.shape[-1],), gain.float(), eps).to(x.dtype)


def rotary_tables(config, length, device):
    """Cosine and sine for every position and channel, (length, D) each."""
    size = config["hidden_size"] // config["num_attention_heads"]
    inverse = config["rope_theta"] ** -(torch.arange(0, size, 2, dtype=torch.float64) / size)
    angles = torch.outer(torch.arange(length, dtype=torch.float64), inverse)
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos().float().to(device), angles.sin().float().to(device)


def rotate(x, cos, sin):
    half = x.shape[-1] // 2
    turned = torch.cat([-x[..., half:], x[..., :half]], dim=-1)
    return (x.float() * cos + turned.float() * sin).to(x.dtype)


class Weight(nn.Module):
    """A parameter whose name ends in `.weight`, as in the checkpoint."""

    def __init__(self, *shape):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(shape))


class Attention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        width = config["hidden_size"]
        shared = width // config["num_attention_heads"] * config["num_key_value_heads"]
        self.q_proj, self.o_proj = Weight(width, width), Weight(width, width)
        self.k_proj, self.v_proj = Weight(shared, width), Weight(shared, width)
        self.q_norm, self.k_norm = Weight(width), Weight(shared)

    def forward(self, x, cos, sin):
        rows, length, width = x.shape
        eps = self.config["rms_norm_eps"]
        size = width // self.config["num_attention_heads"]

        def heads(y):
            return y.view(rows, length, -1, size).transpose(1, 2)

        q = rotate(heads(norm(F.linear(x, self.q_proj.weight), self.q_norm.weight, eps)), cos, sin)
        k = rotate(heads(norm(F.linear(x, self.k_proj.weight), self.k_norm.weight, eps)), cos, sin)
        v = heads(F.linear(x, self.v_proj.weight))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=q.shape[1] != k.shape[1])
        return F.linear(mixed.transpose(1, 2).reshape(rows, length, width), self.o_proj.weight)


class FeedForward(nn.Module):
    def __init__(self, config):
        super().__init__()
        width, inner = config["hidden_size"], config["intermediate_size"]
        self.gate_proj, self.up_proj = Weight(inner, width), Weight(inner, width)
        self.down_proj = Weight(width, inner)

    def forward(self, u):
        inner = F.silu(F.linear(u, self.gate_proj.weight)) * F.linear(u, self.up_proj.weight)
        return F.linear(inner, self.down_proj.weight)


class Router(nn.Module):
    """Computes logits (..., 2) in float32 from the frozen public row and the owner's row with its bias min(b, 0)."""

    def __init__(self, config):
        super().__init__()
        width = config["hidden_size"]
        self.public_row = nn.Parameter(torch.empty(1, width))
        self.own_row = nn.Parameter(torch.empty(1, width))
        self.own_bias = nn.Parameter(torch.empty(1))

    def forward(self, u):
        u = u.float()
        own = F.linear(u, self.own_row) + self.own_bias.clamp(max=0)
        return torch.cat([F.linear(u, self.public_row), own], dim=-1)


class Layer(nn.Module):
    def __init__(self, config, recompute):
        super().__init__()
        width = config["hidden_size"]
        self.eps, self.recompute = config["rms_norm_eps"], recompute
        self.self_attn = Attention(config)
        self.mlp = nn.Module()
        self.mlp.router = Router(config)
        self.mlp.experts = nn.ModuleList([FeedForward(config), FeedForward(config)])
        self.post_attention_layernorm, self.post_feedforward_layernorm = Weight(width), Weight(width)

    def forward(self, x, cos, sin):
        if self.recompute:
            return checkpoint(self.block, x, cos, sin, use_reentrant=False)
        return self.block(x, cos, sin)

    def block(self, x, cos, sin):
        """Returns x and the sum of squared log-sum-exps of the router's logits."""
        mixed = self.self_attn(x, cos, sin)
        u = x + norm(mixed, self.post_attention_layernorm.weight, self.eps)
        logits = self.mlp.router(u)
        share = F.softmax(logits, dim=-1).to(u.dtype)
        public, own = (expert(u) for expert in self.mlp.experts)
        y = public * share[..., :1] + own * share[..., 1:]
        z = torch.logsumexp(logits, dim=-1).square().sum()
        return u + norm(y, self.post_feedforward_layernorm.weight, self.eps), z


class Pair(nn.Module):
    """Parameters have their names in the checkpoint, except those of `Router`, which share one tensor there."""

    def __init__(self, config, recompute=False):
        super().__init__()
        self.config = config
        width, vocabulary = config["hidden_size"], config["vocab_size"]
        self.model = nn.Module()
        self.model.embed_tokens = Weight(vocabulary, width)
        self.model.layers = nn.ModuleList(
            Layer(config, recompute) for _ in range(config["num_hidden_layers"])
        )
        self.model.norm = Weight(width)
        self.lm_head = Weight(vocabulary, width)

    def forward(self, ids, labels, tokens):
        """
        Terms of the loss over these rows, each a sum divided by `tokens`, the label tokens of the whole step:
        cross-entropy, LM z-loss, router z-loss. ids and labels (rows, length).
        """
        cos, sin = rotary_tables(self.config, ids.shape[1], ids.device)
        x = F.embedding(ids, self.model.embed_tokens.weight)
        router_z = 0.0
        for layer in self.model.layers:
            x, z = layer(x, cos, sin)
            router_z = router_z + z
        hidden = norm(x, self.model.norm.weight, self.config["rms_norm_eps"]).flatten(0, 1)
        ce, lm_z = 0.0, 0.0
        at_once = max(1, LOGITS_AT_ONCE // self.config["vocab_size"])
        for h, target in zip(hidden.split(at_once), labels.flatten().split(at_once)):
            part = checkpoint(self.head_sums, h, target, use_reentrant=False)
            ce, lm_z = ce + part[0], lm_z + part[1]
        layers = self.config["num_hidden_layers"]
        return ce / tokens, lm_z * LM_Z_LOSS / tokens, router_z * ROUTER_Z_LOSS / layers / tokens

    def head_sums(self, hidden, labels):
        logits = F.linear(hidden, self.lm_head.weight).float()
        return F.cross_entropy(logits, labels, reduction="sum"), torch.logsumexp(logits, -1).square().sum()

    def trainables(self):
        """Name and parameter of everything trained, in the order of layers."""
        return [(name, p) for name, p in self.named_parameters() if is_trained(name)]


def is_trained(name):
    return ".mlp.experts.1." in name or name.endswith((".mlp.router.own_row", ".mlp.router.own_bias"))


def checkpoint_name(name):
    """The checkpoint tensor of a parameter, and its row there, or None for the whole tensor."""
    prefix, _, part = name.rpartition(".router.")
    if part == "own_bias":
        return f"{prefix}.expert_bias", 1
    if prefix:
        return f"{prefix}.gate.weight", 0 if part == "public_row" else 1
    return name, None


def sharded_pair(config, device, compute, recompute, mesh):
    """
    A sharded pair without values. Trained parameters are float32. If `compute` is bfloat16, the others are stored and
    products are computed in bfloat16, except in the router, which is float32.
    """
    with torch.device("meta"):
        pair = Pair(config, recompute)
    for name, parameter in pair.named_parameters():
        parameter.requires_grad_(is_trained(name))
        if compute == torch.bfloat16 and not is_trained(name) and ".router." not in name:
            parameter.data = parameter.data.to(compute)
    # Inputs are not cast, since rotary tables are always float32.
    policy = MixedPrecisionPolicy(param_dtype=compute, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for layer in pair.model.layers:
        # Separate groups, since a group has one dtype, and frozen parameters have no gradients to send.
        fully_shard(layer.mlp.router, mesh=mesh)
        fully_shard(layer.mlp.experts[1], mesh=mesh, mp_policy=policy)
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(pair, mesh=mesh, mp_policy=policy)
    pair.to_empty(device=device)
    return pair


def load_parameters(pair, read, rank, world):
    """Fills the shard of every rank; `read(tensor, row, begin, end)` returns rows of a checkpoint tensor."""
    with torch.no_grad():
        for name, parameter in pair.named_parameters():
            tensor, row = checkpoint_name(name)
            local = parameter.to_local()
            # Shards are those of torch.chunk.
            size = -(-parameter.shape[0] // world)
            begin = min(rank * size, parameter.shape[0])
            if local.numel() > 0:
                local.copy_(read(tensor, row, begin, begin + local.shape[0]).reshape(local.shape))
