"""What can be wrong with a model file."""

from __future__ import annotations

from typing import final

from lastlayer._arrays import InputError

OTHER = "Give the model.safetensors of a run of lastlayer"
DAMAGED = "The file is damaged: copy it again from where it was made, or train again"


@final
class ModelFileError(InputError):
    """A model file cannot be read or written; the sentence says what is wrong with it and what to do."""


@final
class Refusal(Exception):
    """A short fact and its mend, on the way to the public door, which adds the file's name.

    Parameters
    ----------
    fact : str
        What is wrong, with "it" for the file.
    mend : str
        What to do about it.
    """

    def __init__(self, fact: str, mend: str = DAMAGED) -> None:
        super().__init__(fact)
        self.fact, self.mend = fact, mend
