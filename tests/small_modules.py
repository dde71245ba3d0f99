"""Small PyTorch networks, made by factories as a user's own package would have them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

SIDE = 6


class Net(nn.Module):
    """Convolution, mean over places, class scores; `form` says what is returned."""

    def __init__(self, width: int = 5, form: str = "logits") -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3)
        self.unused = nn.Linear(2, 2)  # defined last of all, never run
        self.head = nn.Linear(width, 4)
        self.form = form

    def forward(self, x: torch.Tensor) -> Any:
        maps = torch.relu(self.conv(x))
        z = self.head(maps.mean(dim=(2, 3)))
        if self.form == "mapping":
            return {"hidden": maps, "logits": z}
        if self.form == "maps":
            return maps
        return z.softmax(1) if self.form == "probabilities" else z


class Tokens(nn.Module):
    """A transformer's form: (N, T, D) at its end, and no class scores."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(3 * SIDE, 7)
        self.norm = nn.LayerNorm(7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.embed(x.transpose(1, 2).flatten(2)))


def squeezed() -> nn.Module:
    """Class scores by a 1x1 convolution, averaged over places."""
    maps = [nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Conv2d(5, 10, 1), nn.ReLU()]
    return nn.Sequential(*maps, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def make(width: int = 5, form: str = "logits") -> nn.Module:
    return Net(width, form)


def tokens() -> nn.Module:
    return Tokens()


def fails(**arguments: Any) -> nn.Module:
    raise RuntimeError(f"cannot make it with {sorted(arguments)}")


def no_module() -> str:
    return "a network"


not_callable = 3
