"""Which images are in which batch: a function of (seed, epoch, number of the batch), on any machine."""

from __future__ import annotations

from typing import Any, final

import numpy as np

from lastlayer._arrays import Array, IntArray
from lastlayer.networks.augment import Augmenter, parse_augmentation

ORDERS, SAMPLES = 21, 22
"""Numbers that keep the streams of random numbers apart; see `augment` for others."""
RESIDENT_SHARE = 0.25
"""Images are kept on a GPU when they take no more than this share of its free memory."""


@final
class Batches:
    """The training images in batches, augmented, on the device.

    A last batch of fewer than half the usual rows is left out of its epoch; which images these are changes with the
    order.

    Parameters
    ----------
    images : array (N, H, W, C)
        uint8, or float32 as they are.
    y : array of int (N,)
    batch_size : int
    seed : int
    device : torch.device
    augmentation : str
    """

    def __init__(self, images: Array, y: IntArray, batch_size: int, seed: int, device: Any, augmentation: str) -> None:
        self.images, self.y, self.seed, self.device = images, y, seed, device
        self.size = min(batch_size, len(y))
        self.augment = Augmenter(parse_augmentation(augmentation), len(y), seed)
        whole, rest = divmod(len(y), self.size)
        self.per_epoch = whole + (2 * rest >= self.size)
        self.epoch, self.order = -1, np.empty(0, np.int64)
        self.resident = _resident(images, device)

    def ids(self, epoch: int, index: int) -> IntArray:
        """Rows of batch `index` of an epoch."""
        if epoch != self.epoch:
            self.epoch = epoch
            self.order = np.random.default_rng([self.seed, ORDERS, epoch]).permutation(len(self.y))
        return self.order[index * self.size : (index + 1) * self.size]

    def get(self, epoch: int, index: int) -> tuple[Any, Any]:
        """Images (B, H, W, C), uint8 or float32, and labels int64 (B,): tensors on the device."""
        import torch

        ids = self.ids(epoch, index)
        y = torch.from_numpy(self.y[ids].astype(np.int64)).to(self.device)
        if self.resident is None:
            images = torch.from_numpy(self.images[ids]).to(self.device)
        else:
            images = self.resident[torch.from_numpy(ids).to(self.device)]
        return self.augment(images, ids, epoch, index), y

    def sample(self, count: int) -> IntArray:
        """Rows of a fixed sample, in order."""
        rng = np.random.default_rng([self.seed, SAMPLES])
        return np.sort(rng.choice(len(self.y), min(count, len(self.y)), replace=False))


def _resident(images: Array, device: Any) -> Any:
    """All images on a GPU that has room for them, else None."""
    if device.type != "cuda":
        return None
    import torch

    free, _ = torch.cuda.mem_get_info(device)
    if images.nbytes > RESIDENT_SHARE * free:
        return None
    return torch.from_numpy(np.array(images)).to(device)  # a copy: the array may be read-only
