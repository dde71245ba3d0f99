"""Images a second of our training step against a bare PyTorch loop on the same model.

    python benchmarks/networks.py [--networks lenet5:modern convnet …] [--seconds 8] [--rounds 5] [--out JSON]

The bare loop is what one writes by hand: torch.nn modules, torch.optim, cross-entropy, uint8 batches drawn by index and
normalised. Ours adds the schedule, the checks of the loss and what each network's plan asks for; augmentation is timed
on its own. Contestants take turns on one machine, for so many rounds; medians, and the ratio's range over rounds.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))

from lastlayer.networks.architecture import Architecture
from lastlayer.networks.batches import Batches
from lastlayer.networks.forward import Model, choose_device, deterministic
from lastlayer.networks.layers import (
    Activation,
    AveragePool,
    BatchNorm,
    Convolution,
    Dropout,
    Flatten,
    Linear,
    MaxPool,
    Scale,
    Whitening,
)
from lastlayer.networks.plan import TrainingPlan
from lastlayer.networks.presets import parse
from lastlayer.networks.run import Run
from machine import describe

SHAPES = {
    "mlp:300": (28, 28, 1),
    "lenet5:modern": (28, 28, 1),
    "convnet": (32, 32, 3),
    "cuda-convnet:quick": (32, 32, 3),
}
FUNCTIONS = {
    "relu": torch.nn.ReLU,
    "gelu": torch.nn.GELU,
    "silu": torch.nn.SiLU,
    "tanh": torch.nn.Tanh,
    "sigmoid": torch.nn.Sigmoid,
}

CLOCK = time.perf_counter


class Times(torch.nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Any) -> Any:
        return x * self.factor


def module(layer: Any, shape: Sequence[int]) -> torch.nn.Module:
    """The torch.nn module of a layer."""
    nn = torch.nn
    if isinstance(layer, Convolution):
        return nn.Conv2d(
            shape[-1], layer.maps, layer.kernel, layer.stride, layer.padding, groups=layer.groups, bias=layer.bias
        )
    if isinstance(layer, Whitening):
        made = nn.Conv2d(shape[-1], 2 * layer.kernel**2 * shape[-1], layer.kernel)
        made.weight.requires_grad_(False)
        return made
    if isinstance(layer, Linear):
        return nn.Linear(shape[0], layer.units, bias=layer.bias)
    if isinstance(layer, MaxPool | AveragePool):
        kind = nn.MaxPool2d if isinstance(layer, MaxPool) else nn.AvgPool2d
        return kind(layer.kernel, layer.stride or layer.kernel, layer.padding, ceil_mode=layer.ceil)
    if isinstance(layer, BatchNorm):
        made = (nn.BatchNorm2d if len(shape) == 3 else nn.BatchNorm1d)(shape[-1], momentum=layer.momentum)
        made.weight.requires_grad_(layer.scale)
        return made
    if isinstance(layer, Dropout):
        return nn.Dropout(layer.p)
    if isinstance(layer, Flatten):
        return nn.Flatten()
    if isinstance(layer, Scale):
        return Times(layer.factor)
    if isinstance(layer, Activation):
        return FUNCTIONS[layer.name]()
    raise ValueError(f"no torch.nn module for {layer.describe()}")


def bare(architecture: Architecture, images: np.ndarray, y: np.ndarray, plan: TrainingPlan) -> Callable[[], int]:
    """One step of the loop one writes by hand."""
    layers = [module(layer, shape) for (_, layer), shape in zip(architecture.layers, architecture.shapes())]
    net = torch.nn.Sequential(*layers).to(memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(
        [one for one in net.parameters() if one.requires_grad],
        lr=1e-3,
        momentum=plan.momentum,
        nesterov=plan.nesterov,
        weight_decay=plan.weight_decay,
    )
    pixels, labels = torch.from_numpy(images), torch.from_numpy(y)
    mean, std = pixels.float().mean((0, 1, 2)), pixels.float().std((0, 1, 2))
    padding = architecture.input.padding
    generator = torch.Generator().manual_seed(0)
    order = iter(())

    def step() -> int:
        nonlocal order
        ids = next(order, None)
        if ids is None:
            order = iter(torch.randperm(len(labels), generator=generator).split(plan.batch_size))
            ids = next(order)
        x = ((pixels[ids].float() - mean) / std).permute(0, 3, 1, 2)
        if padding:
            x = torch.nn.functional.pad(x, (padding,) * 4)
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(net(x), labels[ids], label_smoothing=plan.label_smoothing)
        loss.backward()
        optimiser.step()
        return len(ids)

    return step


def ours(architecture: Architecture, images: np.ndarray, y: np.ndarray, plan: TrainingPlan) -> Callable[[], int]:
    """One step of `train_network`'s loop."""
    device = choose_device("cpu")
    model = Model(architecture, device)
    batches = Batches(images, y, plan.batch_size, plan.seed, device, plan.augmentation)
    run = Run(model, model.begin(images, plan.seed), batches, plan)
    run.set_epochs(1e6)

    def step() -> int:
        before = run.seen
        run.advance()
        return run.seen - before

    return step


def rate(step: Callable[[], int], seconds: float) -> float:
    """Images a second."""
    done, begin = 0, CLOCK()
    while CLOCK() - begin < seconds:
        done += step()
    return done / (CLOCK() - begin)


def measure(text: str, seconds: float, rounds: int, batch_size: int | None) -> dict[str, Any]:
    """All contestants on one network, in turns."""
    preset, shape = parse(text), SHAPES.get(text, (32, 32, 3))
    rng = np.random.default_rng(0)
    images, y = rng.integers(0, 256, (8192, *shape), dtype=np.uint8), rng.integers(0, 10, 8192)
    fields = {**preset.defaults, "rate": 1e-3, "schedule": "constant", "augmentation": "", "device": "cpu"}
    fields |= {"batch_size": batch_size} if batch_size else {}
    plan = TrainingPlan(**fields)
    architecture = preset.architecture(shape, 10)
    augmented = TrainingPlan(**{**fields, "augmentation": preset.defaults.get("augmentation", "") or "shift=2"})
    contestants = {
        "bare": bare(architecture, images, y, plan),
        "ours": ours(architecture, images, y, plan),
        "augmented": ours(architecture, images, y, augmented),
    }
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    with deterministic(choose_device("cpu")):
        for name in ("ours", "augmented"):
            rate(contestants[name], 0.3)  # the first steps choose kernels
    rate(contestants["bare"], 0.3)
    for turn in range(rounds):
        for name in sorted(contestants, reverse=bool(turn % 2)):
            if name == "bare":
                rates[name].append(rate(contestants[name], seconds))
            else:
                with deterministic(choose_device("cpu")):
                    rates[name].append(rate(contestants[name], seconds))
    ratios = [a / b for a, b in zip(rates["ours"], rates["bare"])]
    return {
        "network": preset.name,
        "batch": plan.batch_size,
        **{name: float(np.median(values)) for name, values in rates.items()},
        "ratio": float(np.median(ratios)),
        "ratio_range": [min(ratios), max(ratios)],
        "augmentation": augmented.augmentation,
        "rounds": rates,
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    lines = [f"{'network':20} {'batch':>5} {'bare/s':>8} {'ours/s':>8} {'ratio':>6} {'range':>11} {'augmented/s':>12}"]
    for row in rows:
        low, high = row["ratio_range"]
        lines.append(
            f"{row['network']:20} {row['batch']:5d} {row['bare']:8.0f} {row['ours']:8.0f} {row['ratio']:6.2f} "
            f"{low:5.2f}-{high:4.2f} {row['augmented']:12.0f}"
        )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    global CLOCK
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(SHAPES))
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, help="instead of the plan's")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--cpu", action="store_true", help="seconds of the processor: for one thread on a busy machine")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(argv)
    if given.threads:
        torch.set_num_threads(given.threads)
    if given.cpu:
        CLOCK = time.process_time
    rows = []
    for text in given.networks:
        rows.append(measure(text, given.seconds, given.rounds, given.batch))
        print(table(rows[-1:]).splitlines()[-1], file=sys.stderr, flush=True)
    machine = f"{describe()}, PyTorch {torch.__version__}, {torch.get_num_threads()} threads"
    print(f"{machine}\n\n{table(rows)}")
    if given.out:
        given.out.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
