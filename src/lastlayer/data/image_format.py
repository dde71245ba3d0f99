"""What every image becomes before φ sees it: size, channels, fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from lastlayer._arrays import InputError

MAX_PIXELS = 25_000_000
_LONGEST_SIDE = 16_384


@dataclass(frozen=True)
class ImageFormat:
    """What every image becomes before φ sees it.

    Parameters
    ----------
    height, width : int
        Size in pixels, 1..16384.
    channels : int
        1 (gray, ITU-R 601 luma of RGB) or 3 (RGB; gray is repeated).
    fit : str
        ``"crop"``: the largest centred part of the right shape; ``"stretch"``: all of the picture.
    max_pixels : int
        Files with more pixels are refused before they are decoded.
    background : int
        Gray level 0..255 put under transparent pixels.

    Raises
    ------
    InputError
        When a value is out of its range; names the value.
    """

    height: int
    width: int
    channels: int
    fit: str = "crop"
    max_pixels: int = MAX_PIXELS
    background: int = 255

    def __post_init__(self) -> None:
        for name, low, high in (
            ("height", 1, _LONGEST_SIDE),
            ("width", 1, _LONGEST_SIDE),
            ("channels", 1, 3),
            ("max_pixels", 1, 2**31 - 1),
            ("background", 0, 255),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise InputError(f"image format: {name} is {value!r}; a whole number {low}..{high} is needed")
        if self.channels == 2:
            raise InputError("image format: channels is 2; 1 (gray) or 3 (RGB) is needed")
        if self.fit not in ("crop", "stretch"):
            raise InputError(f"image format: fit is {self.fit!r}; 'crop' or 'stretch' is needed")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ImageFormat:
        """Inverse of `to_dict`; refuses missing, unknown and impossible values.

        >>> ImageFormat.from_dict(ImageFormat(28, 28, 1).to_dict())
        ImageFormat(height=28, width=28, channels=1, fit='crop', max_pixels=25000000, background=255)
        """
        if not isinstance(values, Mapping):
            raise InputError(f"image format: {type(values).__name__} given, a mapping is needed")
        known = cls.__dataclass_fields__
        unknown = sorted(str(name) for name in values if name not in known)
        missing = [name for name in ("height", "width", "channels") if name not in values]
        if unknown or missing:
            raise InputError(f"image format: unknown {unknown}, missing {missing}")
        return cls(**values)
