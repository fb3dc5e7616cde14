"""
Trains an owner's expert on a cluster: reads the folder that `flexmesh train --export-pair` wrote, trains expert 1
with its router rows and biases on the owner's text and replayed public text, and writes a folder for
`flexmesh import-expert`. Losses, schedule and, for the same seed, the rows of every step are those of
`flexmesh train`. After an interruption, the same command resumes from the last checkpoint.

Usage: torchrun --nproc-per-node GPUS train_pair.py PAIR --out OUT --data PATH... --replay PATH... [options]

On several machines all folders must be shared; torchrun's --nnodes and --rdzv-endpoint connect them.
"""

import argparse
import json
import math
import os
import shutil
import signal
import time
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.device_mesh import init_device_mesh

from corpus import open_tokens, step_rows
from pair_directory import PairDirectory, gatherer, sync_folder
from pair_model import load_parameters, sharded_pair

BETAS = (0.9, 0.95)
EPSILON = 1e-8
MAX_GRAD_NORM = 1.0
FINAL_SHARE = 0.1
# Peak learning rate and the width at which it was chosen, as in src/training/schedule.ts.
PEAK = 5e-3
PEAK_WIDTH = 192
# Exit code after an interruption that lost nothing; any other failure exits with 1.
INTERRUPTED = 3


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("pair", help="folder written by flexmesh train --export-pair")
    parser.add_argument("--out", required=True, help="new folder for the trained pair; OUT.work holds checkpoints")
    forms = "a folder that a node prepared, one token file (.npy, raw .bin or .tokens), or .txt, .md, .jsonl"
    parser.add_argument("--data", nargs="+", required=True, help=f"the owner's text: {forms}")
    parser.add_argument("--replay", nargs="+", help="public text, in the same forms")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rows", type=int, default=8, help="rows of a step, in all processes together")
    parser.add_argument("--micro-rows", type=int, help="rows that a process computes at a time (default: all)")
    parser.add_argument("--length", type=int, default=128, help="tokens of a row")
    parser.add_argument("--replay-share", type=float, default=0.25, help="share of rows that are public text")
    parser.add_argument("--learning-rate", type=float, help="peak (default: that of flexmesh train at this width)")
    parser.add_argument("--warmup", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--checkpoint-every", type=int, default=50)
    dtypes = ["float32", "bfloat16"]
    parser.add_argument("--dtype", choices=dtypes, default="float32", help="dtype of frozen tensors and of products")
    parser.add_argument("--recompute", action="store_true", help="compute activations twice to save memory")
    parser.add_argument("--json", action="store_true", help="print one JSON object for each step")
    args = parser.parse_args()
    if args.replay is None and args.replay_share > 0:
        parser.error("give public text with --replay, or --replay-share 0")
    return args


def learning_rate(args, step):
    if step < args.warmup:
        return args.learning_rate * (step + 1) / args.warmup
    progress = min(1, (step - args.warmup) / max(1, args.steps - args.warmup))
    return args.learning_rate * (FINAL_SHARE + (1 - FINAL_SHARE) * 0.5 * (1 + math.cos(math.pi * progress)))


class Checkpoints:
    """Sharded checkpoints in OUT.work. Each is written completely or not at all; only the newest is kept."""

    def __init__(self, folder, settings, rank):
        self.folder, self.settings, self.rank = folder, settings, rank

    def state(self, pair, optimizer):
        state = {}
        for name, parameter in pair.trainables():
            moments = optimizer.state[parameter]
            state[f"p.{name}"] = parameter.data
            state[f"m.{name}"], state[f"v.{name}"] = moments["exp_avg"], moments["exp_avg_sq"]
        return state

    def load(self, pair, optimizer):
        """Loads the newest checkpoint, if any. Returns the number of completed steps."""
        found = sorted(self.folder.glob("step-*/settings.json"))
        if not found:
            return 0
        saved = json.loads(found[-1].read_text())
        if saved["settings"] != self.settings:
            changed = [key for key, value in self.settings.items() if saved["settings"].get(key) != value]
            raise SystemExit(
                f"{self.folder} was started with other {', '.join(changed)}; choose another --out, or remove the folder"
            )
        dcp.load(self.state(pair, optimizer), checkpoint_id=found[-1].parent)
        for _, parameter in pair.trainables():
            optimizer.state[parameter]["step"].fill_(saved["step"])
        return saved["step"]

    def save(self, pair, optimizer, step):
        target = self.folder / f"step-{step:08d}"
        temporary = self.folder / ".saving"
        if self.rank == 0:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
        dist.barrier()
        dcp.save(self.state(pair, optimizer), checkpoint_id=temporary)
        if self.rank == 0:
            with open(temporary / "settings.json", "w", encoding="utf-8") as file:
                json.dump({"step": step, "settings": self.settings}, file)
                file.flush()
                os.fsync(file.fileno())
            sync_folder(temporary)
            shutil.rmtree(target, ignore_errors=True)
            os.replace(temporary, target)
            sync_folder(self.folder)
            for old in self.folder.glob("step-*"):
                if old != target:
                    shutil.rmtree(old)
        dist.barrier()


def new_optimizer(pair, args):
    """AdamW with moments allocated from the start, so that a checkpoint can be loaded into them."""
    parameters = [parameter for _, parameter in pair.trainables()]
    optimizer = torch.optim.AdamW(parameters, lr=args.learning_rate, betas=BETAS, eps=EPSILON, weight_decay=0.0)
    for parameter in parameters:
        optimizer.state[parameter] = {
            "step": torch.tensor(0.0),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }
    return optimizer


def train_step(pair, optimizer, rows, args, rate, rank, world, device):
    """Runs one step. Returns its cross-entropy and the norm of its gradient before clipping."""
    own = rows[rank * args.rows // world : (rank + 1) * args.rows // world]
    micro = args.micro_rows or len(own)
    parts = [own[at : at + micro] for at in range(0, len(own), micro)]
    tokens = args.rows * args.length
    cross_entropy = torch.zeros((), device=device)
    optimizer.zero_grad(set_to_none=True)
    for i, part in enumerate(parts):
        batch = torch.stack([torch.from_numpy(row) for row in part]).to(device)
        pair.set_requires_gradient_sync(i == len(parts) - 1)
        ce, lm_z, router_z = pair(batch[:, :-1], batch[:, 1:], tokens)
        # FSDP averages gradients over processes, while each loss is a share of the whole step's.
        ((ce + lm_z + router_z) * world).backward()
        cross_entropy += ce.detach()
    norm = torch.nn.utils.clip_grad_norm_([p for _, p in pair.trainables()], MAX_GRAD_NORM)
    optimizer.param_groups[0]["lr"] = rate
    optimizer.step()
    dist.all_reduce(cross_entropy)
    return cross_entropy.item(), (norm.full_tensor() if hasattr(norm, "full_tensor") else norm).item()


def main():
    args = arguments()
    cuda = torch.cuda.is_available()
    dist.init_process_group("nccl" if cuda else "gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)

    def say(line):
        if rank == 0:
            print(line, flush=True)

    if args.rows % world != 0:
        raise SystemExit(f"--rows: expected a multiple of {world} processes, got {args.rows}")
    if Path(args.out).exists():
        raise SystemExit(f"{args.out} exists; choose another --out, or remove it")
    directory = PairDirectory(args.pair)
    if args.length > directory.context:
        raise SystemExit(f"--length: expected at most {directory.context}, the model's context, got {args.length}")
    work = Path(f"{args.out}.work")
    work.mkdir(parents=True, exist_ok=True)

    def tokens(paths, name):
        vocabulary = directory.config["vocab_size"]
        return open_tokens(paths, directory.tokenizer, vocabulary, work / name, rank == 0)

    own = tokens(args.data, "data")
    public = own if args.replay is None else tokens(args.replay, "replay")
    rows_of = [file.sampler(args.length + 1, args.seed + i) for i, file in enumerate((own, public))]

    if args.learning_rate is None:
        args.learning_rate = PEAK * min(1, PEAK_WIDTH / directory.config["hidden_size"])
    mesh = init_device_mesh(device.type, (world,))
    pair = sharded_pair(directory.config, device, getattr(torch, args.dtype), args.recompute, mesh)
    load_parameters(pair, directory.read, rank, world)
    optimizer = new_optimizer(pair, args)
    names = ("steps", "rows", "length", "replay_share", "learning_rate", "warmup", "seed", "dtype")
    settings = {name: getattr(args, name) for name in names} | {"tokens": [len(own.ids), len(public.ids)]}
    checkpoints = Checkpoints(work, settings, rank)
    done = checkpoints.load(pair, optimizer)
    count = sum(parameter.numel() for parameter in pair.parameters()) / 1e6
    trained = sum(parameter.numel() for _, parameter in pair.trainables()) / 1e6
    resumed = f"; resumes after step {done}" if done > 0 else ""
    machine = f"{world} x {device.type}"
    say(f"training {trained:.1f} of {count:.1f} million parameters on {machine}, {len(own.ids)} tokens{resumed}")

    stop = torch.zeros((), device=device)
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: stop.fill_(1))
    speed = None
    for step in range(done, args.steps):
        started = time.perf_counter()
        rows = step_rows(*rows_of, step, args.rows, args.replay_share)
        rate = learning_rate(args, step)
        loss, norm = train_step(pair, optimizer, rows, args, rate, rank, world, device)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise SystemExit(f"step {step + 1}: the loss is {loss}, its gradient {norm}; lower --learning-rate")
        now = args.rows * args.length / (time.perf_counter() - started)
        speed = now if speed is None else speed + 0.1 * (now - speed)
        left = (args.steps - step - 1) * args.rows * args.length / speed
        if args.json:
            report = {"step": step + 1, "loss": loss, "gradNorm": norm, "learningRate": rate, "tokensPerSecond": speed}
            say(json.dumps(report))
        elif (step + 1) % 10 == 0 or step + 1 == args.steps:
            progress = f"step {step + 1}/{args.steps}  loss {loss:.4f}  gradient {norm:.3f}"
            say(f"{progress}  {speed:.0f} tokens/s  {left:.0f} s left")
        # All processes stop if any was told to.
        stopping = stop.clone()
        dist.all_reduce(stopping)
        if (step + 1) % args.checkpoint_every == 0 or step + 1 == args.steps or stopping > 0:
            checkpoints.save(pair, optimizer, step + 1)
        if stopping > 0 and step + 1 < args.steps:
            say(f"interrupted after step {step + 1}; run the same command to resume")
            dist.destroy_process_group()
            raise SystemExit(INTERRUPTED)
    directory.write(args.out if rank == 0 else None, gatherer(pair, directory))
    say(f"written: {args.out}; next: flexmesh import-expert {args.out} --name NAME")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
