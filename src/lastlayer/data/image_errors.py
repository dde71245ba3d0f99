"""The outcomes of reading an image: reasons to refuse it, kinds of alteration, and the one error type.

A file is *accepted* (its pixels are used as they are), *altered* (used, but not as stored; every kind is
named in `ALTERATIONS` and counted in the output) or *refused* (an `ImageReadError` with a reason of
`REFUSALS`). Nothing is changed in silence.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from lastlayer._arrays import InputError
from lastlayer._files import display_name

READ_FORMATS = "JPEG, PNG, WebP, BMP, GIF and TIFF"

ALTERATIONS: dict[str, str] = {
    "rotated": "turned as its EXIF orientation says",
    "exif": "EXIF data broken or orientation out of 1..8: shown as stored",
    "alpha": "transparent pixels composited on the background",
    "depth16": "more than 8 bits a sample: the high byte was kept",
    "looks-12-bit": "16-bit file whose largest value is below 4096: it will look nearly black",
    "cmyk": "CMYK converted without its ICC profile",
    "animated": "several frames or pages: the first one was used",
    "extension": "the file name's extension is missing or belongs to another format",
}


class Refusal(NamedTuple):
    """What a reason means, and what to do about it."""

    meaning: str
    mend: str


REFUSALS: dict[str, Refusal] = {
    "empty": Refusal("shorter than any image header", "Delete it, or copy it again from its source"),
    "truncated": Refusal("the file ends before the picture does", "Copy or download it again"),
    "corrupt": Refusal("damaged", "Copy or download it again"),
    "not-an-image": Refusal("no image by its content", "Delete it, or open it with a text editor to see what it is"),
    "format": Refusal("a format that is not read", f"Convert it to JPEG or PNG; {READ_FORMATS} are read"),
    "too-large": Refusal("larger than the limit", "Shrink the picture, or raise max_pixels"),
    "depth32": Refusal("32-bit integers have no agreed white", "Export it as 8-bit with a range you choose"),
    "float": Refusal("floating-point pixels have no agreed white", "Export it as 8-bit with a range you choose"),
    "signed": Refusal("signed pixels have no agreed black", "Export it as 8-bit with a range you choose"),
    "colour-mode": Refusal("not gray, RGB, palette or CMYK", "Convert it to RGB or gray"),
    "link": Refusal("a link that leads nowhere or to itself", "Mend or delete the link"),
    "not-a-file": Refusal("a folder, pipe, socket or device", "Delete it, or move it out of the data"),
    "permission": Refusal("no permission to read it", "Grant read permission, for example with chmod +r"),
    "vanished": Refusal("not there (any more)", "Check the path, and that nothing removes files during the run"),
    "unreadable": Refusal("the system could not read it", "Check the disk or the network drive"),
    "crashed": Refusal("the decoder died on it, twice", "Delete it, or save it again with an image editor"),
    "too-slow": Refusal("decoding took longer than the limit", "Save it again with an image editor"),
}  # fmt: skip


class ImageReadError(InputError):
    """One image file that cannot be used; code LL003. Nothing else leaves the reader.

    Parameters
    ----------
    path : str
        The file, as given.
    reason : str
        A key of `REFUSALS`, such as ``"truncated"``.
    detail : str, optional
        What exactly was found; the reason's own meaning when empty.
    mend : str, optional
        What to do; the reason's own mend when empty.
    """

    def __init__(self, path: str, reason: str, detail: str = "", mend: str = "") -> None:
        self.path = path
        self.reason = reason
        self.detail = detail or REFUSALS[reason].meaning
        super().__init__(f"{display_name(path)}: {reason}, {self.detail}", mend or REFUSALS[reason].mend, "LL003")

    @property
    def advice(self) -> str:
        """What was found and what to do about it, in one line."""
        return f"{self.detail}. {self.mend}"

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.path, self.reason, self.detail, self.mend))


class Unusable(Exception):
    """Raised inside the readers, which do not know the file's name; `decode_image` adds it."""

    def __init__(self, reason: str, detail: str = "", mend: str = "") -> None:
        super().__init__(reason, detail, mend)
        self.reason, self.detail, self.mend = reason, detail, mend
