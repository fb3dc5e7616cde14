"""
Reads the folder that `flexmesh train --export-pair` writes, and writes the same folder with trained tensors: expert 1,
its router rows and biases. Copies everything else byte for byte.
"""

import json
import os
import shutil
import struct
from pathlib import Path

import torch
from safetensors import safe_open

from pair_model import checkpoint_name

BIAS_FILE = "router_bias.safetensors"
INDEX_FILE = "model.safetensors.index.json"
WEIGHTS_FILE = "model.safetensors"
# Initial bias if the folder has none: slightly below zero, so that min(b, 0) has a gradient.
INITIAL_BIAS = -0.05
COPY_BYTES = 1 << 24


class PairDirectory:
    def __init__(self, path):
        self.path = Path(path)
        config = self.json("config.json")
        for name, expected in (("num_experts", 2), ("num_experts_per_tok", 2), ("model_type", "flex_olmo")):
            if config.get(name) != expected:
                raise SystemExit(
                    f"{self.path}/config.json: expected {name} {expected}, got {config.get(name)}; "
                    "export a pair with flexmesh train --export-pair"
                )
        rope = config.get("rope_parameters") or {}
        self.config = {
            name: config[name]
            for name in (
                "vocab_size",
                "hidden_size",
                "intermediate_size",
                "num_hidden_layers",
                "num_attention_heads",
            )
        }
        self.config["num_key_value_heads"] = config.get("num_key_value_heads") or config["num_attention_heads"]
        self.config["rope_theta"] = float(rope.get("rope_theta") or config.get("rope_theta") or 500000)
        self.config["rms_norm_eps"] = float(config.get("rms_norm_eps", 1e-6))
        self.context = config["max_position_embeddings"]
        index = self.path / INDEX_FILE
        self.files = sorted(set(self.json(INDEX_FILE)["weight_map"].values())) if index.exists() else [WEIGHTS_FILE]
        self.layouts = {name: read_layout(self.path / name) for name in self.files}
        self.home = {name: file for file, layout in self.layouts.items() for name in layout.tensors}
        self.has_bias = (self.path / BIAS_FILE).exists()
        self.open = {}

    def json(self, name):
        path = self.path / name
        if not path.exists():
            raise SystemExit(f"{path} does not exist; a pair is a folder that flexmesh train --export-pair writes")
        return json.loads(path.read_text(encoding="utf-8"))

    @property
    def tokenizer(self):
        return self.path / "tokenizer.json"

    def read(self, tensor, row, begin, end):
        """Rows `begin` to `end` of a tensor, or only `row` if it is given."""
        if tensor.endswith(".expert_bias") and not self.has_bias:
            return torch.tensor([INITIAL_BIAS])
        file = BIAS_FILE if tensor.endswith(".expert_bias") else self.home.get(tensor)
        if file is None:
            raise SystemExit(f"{self.path}: tensor {tensor} is missing")
        if file not in self.open:
            self.open[file] = safe_open(self.path / file, framework="pt")
        part = self.open[file].get_slice(tensor)
        return part[row : row + 1] if row is not None else part[begin:end]

    def write(self, out, trained):
        """
        Writes a folder like this one with trained tensors from `trained(name)`, float32: whole router rows [2, C] and
        biases [2]. Every process calls it, one of them with `out`. The folder appears complete or not at all.
        """
        target = None if out is None else Path(out)
        temporary = None if target is None else target.with_name(f".{target.name}.tmp")
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
        total = 0
        for file in self.files:
            total += self.write_file(file, None if temporary is None else temporary / file, trained)
        biases = [f"model.layers.{i}.mlp.expert_bias" for i in range(self.config["num_hidden_layers"])]
        layout = [(name, "F32", [2], None) for name in biases]
        write_tensors(None if temporary is None else temporary / BIAS_FILE, layout, None, trained)
        if temporary is None:
            return
        skip = {*self.files, BIAS_FILE, INDEX_FILE}
        for entry in sorted(self.path.iterdir()):
            if entry.is_file() and entry.name not in skip:
                shutil.copyfile(entry, temporary / entry.name)
        if (self.path / INDEX_FILE).exists():
            index = self.json(INDEX_FILE)
            index["metadata"] = {**index.get("metadata", {}), "total_size": total}
            (temporary / INDEX_FILE).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
        sync_folder(temporary)
        os.replace(temporary, target)
        sync_folder(target.parent)

    def write_file(self, file, path, trained):
        layout = [
            (name, "F32" if is_trained_tensor(name) else dtype, shape, None if is_trained_tensor(name) else span)
            for name, (dtype, shape, span) in self.layouts[file].tensors.items()
        ]
        return write_tensors(path, layout, self.path / file, trained)


class Layout:
    """Tensors of a safetensors file by name, in file order: dtype, shape, and span from the start of the file."""

    def __init__(self, tensors):
        self.tensors = tensors


def read_layout(path):
    if not path.exists():
        raise SystemExit(f"{path} does not exist")
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    entries = [
        (name, (value["dtype"], value["shape"], [8 + length + at for at in value["data_offsets"]]))
        for name, value in header.items()
        if name != "__metadata__"
    ]
    return Layout(dict(sorted(entries, key=lambda entry: entry[1][2][0])))


def is_trained_tensor(name):
    return ".mlp.experts.1." in name or name.endswith(".mlp.gate.weight")


SIZES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "BF16": 2, "F16": 2}


def write_tensors(path, layout, source, trained):
    """Writes tensors if `path` is given; those without a span come from `trained`. Returns their size in bytes."""
    # Wide elements first, so that every tensor is aligned.
    layout = sorted(layout, key=lambda entry: -SIZES[entry[1]])
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, dtype, shape, _ in layout:
        size = SIZES[dtype]
        for length in shape:
            size *= length
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file = None if path is None else open(path, "wb")
    original = None if path is None or source is None else open(source, "rb")
    if file is not None:
        file.write(struct.pack("<Q", len(text)) + text)
    for name, _, shape, span in layout:
        if span is None:
            # Every process takes part in gathering; one writes.
            values = trained(name)
            if file is not None:
                assert list(values.shape) == list(shape), (name, values.shape, shape)
                file.write(values.contiguous().numpy().tobytes())
        elif file is not None:
            original.seek(span[0])
            left = span[1] - span[0]
            while left > 0:
                left -= file.write(original.read(min(left, COPY_BYTES)))
    if file is not None:
        file.flush()
        os.fsync(file.fileno())
        file.close()
    return at


def gatherer(pair, directory):
    """Returns `trained(name)` for `PairDirectory.write`: whole tensors on the CPU, the frozen router row unchanged."""
    parts = {}
    for name, parameter in pair.trainables():
        tensor, row = checkpoint_name(name)
        parts[tensor] = (parameter, row)

    def trained(tensor):
        parameter, row = parts[tensor]
        values = parameter.full_tensor().detach().cpu()
        if row is None:
            return values
        if tensor.endswith(".expert_bias"):
            return torch.cat([torch.zeros(1), values])
        return torch.cat([directory.read(tensor, 0, 0, 1).float(), values])

    return trained


def sync_folder(path):
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
