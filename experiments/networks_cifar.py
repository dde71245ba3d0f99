"""Networks on CIFAR-10, each by its preset's own recipe, and the linear classifier that is trained beside every one.

    python experiments/networks_cifar.py DATA [--rows quick 18pct convnet] [--runs DIR] [--out JSON] [--quick]

DATA is a folder with train/CLASS/* and test/CLASS/*; CIFAR-10 recompressed as JPEG is to be called CIFAR-10-JPEG. A
tenth of the training images, for ``convnet`` a twentieth, is drawn as validation images: they choose the epoch, the
last layer and λ. Nothing is chosen on test images, which `lastlayer.train` scores once at the end of a run. The table
is that of `networks_mnist`.

* ``quick``: cuda-convnet's network that reaches 26% error in 80 s on a graphics card of its time (Krizhevsky 2012).
* ``18pct``: cuda-convnet's network of 18% error without augmentation.
* ``convnet``: a small modern network, about 20 minutes on two cores; scores averaged over image and mirror image.
* ``convnet-60``: maps 64-256-256 in bfloat16, less than an hour on two cores with units for it; scores averaged over
  shifts by a pixel as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import networks_mnist

ROWS: dict[str, dict[str, Any]] = {
    "quick": {"phi": "cuda-convnet:quick"},
    "18pct": {"phi": "cuda-convnet:18pct", "precision": "bfloat16"},
    "convnet": {"phi": "convnet", "epochs": 6.6, "views": "flip", "val": 0.05},
    "convnet-60": {
        "phi": "convnet:widths=64-256-256",
        "epochs": 24.0,
        "precision": "bfloat16",
        "views": "flip,shift=1",
        "val": 0.05,
    },
}
QUICK: dict[str, dict[str, Any]] = {
    "mlp": {"phi": "mlp:16", "epochs": 2.0},
    "quick": {"phi": "cuda-convnet:quick", "epochs": 2.0},
}


def main(argv: Sequence[str] | None = None) -> None:
    networks_mnist.run_rows(__doc__, ROWS, QUICK, argv)


if __name__ == "__main__":
    main()
