"""The model file's container: a strict subset of safetensors, one JSON header, a digest over every byte.

``docs/model-file.md`` describes the format for readers in other languages. In short::

    8 bytes      length n of the header, little-endian
    n bytes      canonical JSON, padded with spaces to a multiple of 8
                   {"__metadata__": {"lastlayer": HEADER, "sha256": DIGEST}, TENSOR: {...}, ...}
    the rest     the tensors, largest items first, then by name, without gaps

The digest is the SHA-256 of the whole file with the 64 characters of the digest itself set to ``0``. One
content has one file, to the byte: what is not in canonical form is refused, so a changed byte is always
noticed. The digest finds damage, not forgery. Nothing in a file is ever executed.

Any reader of safetensors opens these files; this one opens nothing else, with NumPy, `json` and `hashlib`.

    errors.py      ModelFileError
    canonical.py   JSON with one text per value
    layout.py      which tensors are possible and where each lies; the limits
    writing.py     header and tensors -> file
    reading.py     file -> header and tensors, or one clear refusal
"""

from lastlayer.artifacts.errors import ModelFileError
from lastlayer.artifacts.layout import DTYPES, FORMAT_VERSION, MAX_FILE, MAX_HEADER, MAX_RANK, MAX_TENSORS
from lastlayer.artifacts.reading import decode_artifact, read_artifact
from lastlayer.artifacts.writing import Artifact, encode_artifact, write_artifact

__all__ = [
    "DTYPES",
    "FORMAT_VERSION",
    "MAX_FILE",
    "MAX_HEADER",
    "MAX_RANK",
    "MAX_TENSORS",
    "Artifact",
    "ModelFileError",
    "decode_artifact",
    "encode_artifact",
    "read_artifact",
    "write_artifact",
]
