"""The stable table of problem codes, and `Problem`: one occurrence of a code with the files it names.

Codes are never reused. `lastlayer explain-code LL007` prints a row of this table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Code(NamedTuple):
    """One row of the table: what the code means and how to mend it."""

    meaning: str
    mend: str
    is_error: bool = False


CODES: dict[str, Code] = {
    "LL001": Code("No class folders, manifest or arrays found", "Point at the parent of the class folders, or give a manifest with the columns path,label", True),
    "LL002": Code("Hidden or empty folder ignored", "Fill or remove the folder named"),
    "LL003": Code("Unreadable files skipped", "Repair or delete them; `lastlayer check DATA --fix-list FILE` lists them"),
    "LL004": Code("Classes differ between splits", "Rename the folders; classes match by name"),
    "LL005": Code("Manifest row without file, or file without row", "Correct the path; it is relative to the manifest"),
    "LL006": Code("Identical images carry different labels", "Settle them in a labels.csv and give `train --labels labels.csv`"),
    "LL007": Code("Duplicates kept on one side of the split", "See the column dup_group of split.csv"),
    "LL008": Code("Given train and test share images", "Remove them from train, or let lastlayer split"),
    "LL009": Code("Class too small to split", "Add images or merge classes"),
    "LL010": Code("Class sizes differ by more than 10 to 1", "Read the balanced accuracy; try `--class-weight balanced`"),
    "LL011": Code("File names suggest groups", "`--group-by` with a column or a file name pattern keeps a group on one side"),
    "LL012": Code("Pickled or object content refused", "Save plain arrays, or use CIFAR's binary version", True),
    "LL013": Code("Near duplicates on several of the given sides", "Remove them from train, or let lastlayer split: scores of the other side are too good"),
    "LL014": Code("Near duplicates carry different labels", "Settle them in a labels.csv and give `train --labels labels.csv`"),
    "LL015": Code("A property of the files gives the class away", "Collect or save all classes in the same way; a classifier may learn the way instead of the class"),
    "LL016": Code("A region of the images gives the class away", "Look at it; crop or cover it, and collect all classes in the same way"),
    "LL020": Code("Test split scored more than once", "Choose on validation data; quote look #1 or collect new test data"),
    "LL021": Code("Score not separated from a baseline", "More data or another representation; claim nothing"),
    "LL022": Code("Class absent from a split", "Its scores print n/a; add examples"),
    "LL023": Code("Score is from data that chose the model", "Quote the test row"),
    "LL024": Code("Suspected label errors", "Edit labels.suspect.csv and give `train --labels`"),
    "LL030": Code("NaN or infinite numbers", "Repair or drop the rows listed", True),
    "LL031": Code("Rows aligned by position", "Give `--ids`"),
    "LL032": Code("The representation looks like logits or probabilities", "Pick the penultimate tensor, or give `--allow-logits`", True),
    "LL033": Code("Ids duplicated or unmatched", "Correct the ids listed", True),
    "LL034": Code("Few-shot: no validation data beyond the shots", "Nothing to mend; this states the budget"),
    "LL040": Code("Solver not converged; the gradient norm is given", "Raise `--max-iter`, standardise, or raise the regularisation"),
    "LL041": Code("Best C at the edge of its grid", "Widen `--C`"),
    "LL042": Code("Loss diverged; last good weights kept", "Lower the learning rate"),
    "LL043": Code("Every unit of a layer is dead; last good weights kept", "Lower the learning rate, or use leaky_relu"),
    "LL050": Code("Export parity failed (exit code 5)", "Raise `--tol` knowingly, or choose another format", True),
    "LL060": Code("An optional extra is missing", "pip install 'lastlayer[NAME]'", True),
    "LL061": Code("Non-local host without token", "Give `--token`, or stay on 127.0.0.1", True),
}  # fmt: skip


@dataclass(frozen=True)
class Problem:
    """One occurrence of a coded problem.

    Attributes
    ----------
    code : str
        ``LLnnn``, a key of `CODES`.
    message : str
        One line that names what was found, with counts.
    files : tuple of str
        The files or folders concerned (display names), all of them; printing caps them.
    details : tuple of str
        One entry per file saying why (same length as `files`), or empty.
    mend : str
        What to do; the code's own mend when not given.
    """

    code: str
    message: str
    files: tuple[str, ...] = ()
    details: tuple[str, ...] = ()
    mend: str = ""

    def __post_init__(self) -> None:
        if self.code not in CODES:
            raise KeyError(f"unknown problem code {self.code}")
        if not self.mend:
            object.__setattr__(self, "mend", CODES[self.code].mend)

    def line(self) -> str:
        """The one line that is printed: code, message, first files, mend."""
        shown = ", ".join(self.files[:3]) + (f" and {len(self.files) - 3} more" if len(self.files) > 3 else "")
        return f"{self.code} {self.message}" + (f": {shown}" if shown else "") + f"  → {self.mend}"
