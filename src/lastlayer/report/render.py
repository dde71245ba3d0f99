"""Turn `ReportData` into one HTML file that needs nothing else.

The security of the page does not rest on escaping alone: its Content-Security-Policy forbids every load
but data URIs and runs the one script and the one style sheet whose SHA-256 it names.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import math
import re
from collections.abc import Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any

from lastlayer._files import display_name
from lastlayer.evaluation.learning_curve import Place
from lastlayer.report import curves, figures, summary, thumbnails
from lastlayer.report.data import ReportData
from lastlayer.report.thumbnails import Key, Pixmap

if TYPE_CHECKING:
    from jinja2 import Environment, Template

MAX_BYTES = 4_800_000
LONGEST_NAME = 90
CARD_PICTURES = 4

_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ud800-\udfff\ufeff]")


def printable(text: str) -> str:
    r"""`text` as it can be shown on one line: controls, direction overrides and broken bytes as escapes.

    Text that is printable already, the result included, passes unchanged.

    >>> printable("a\nb"), printable("invoice\u202egpj.exe")
    ('a\\x0ab', 'invoice\\u202egpj.exe')
    """
    if not _UNPRINTABLE.search(text):
        return text
    return _UNPRINTABLE.sub(lambda m: f"\\u{ord(m[0]):04x}", display_name(text))


def short_name(text: str) -> str:
    """A name cut in the middle when it is long, so that the beginning and the extension stay."""
    text = printable(text)
    if len(text) <= LONGEST_NAME:
        return text
    return text[: LONGEST_NAME - 30] + "…" + text[-29:]


def render_report(
    data: ReportData, *, max_bytes: int = MAX_BYTES, encoded: Sequence[tuple[Key, Pixmap]] | None = None
) -> str:
    """The report as one HTML document: no network, no external font, script or style.

    Names of classes and files are escaped everywhere. Pictures are dropped, the least important first,
    until the UTF-8 document has at most `max_bytes`; the report then says how many are missing.

    Parameters
    ----------
    data : ReportData
    max_bytes : int
        Size to stay below. The text alone may exceed it when there are very many long names.
    encoded : sequence of (Key, Pixmap), optional
        The pictures of `data`, where they were encoded before (`thumbnails.pictures`, `stored.unpack_report`).

    Returns
    -------
    str
        Encodes to UTF-8 without surrogates.
    """
    gone = encoded is not None and not encoded
    encoded = thumbnails.pictures(data, max_bytes) if encoded is None else encoded
    template, parts = page_parts("report.html")
    total = sum(1 for _ in thumbnails.wanted(data))
    fixed = {**_context(data), **parts, "pictures_gone": gone and total > 0}
    keep = len(encoded)
    spare = max_bytes - sum(len(pixmap.uri) for _, pixmap in encoded)
    while keep and spare < 0:  # without drawing the page: it cannot fit
        keep -= 1
        spare += len(encoded[keep][1].uri)
    while True:
        shown = dict(encoded[:keep])
        html = template.render(**fixed, **_pictures(data, shown, total))
        excess = len(html.encode("utf-8")) - max_bytes
        if excess <= 0 or keep == 0:
            return html
        while keep and excess > 0:
            keep -= 1
            excess -= len(encoded[keep][1].uri)


def figure_files(data: ReportData) -> dict[str, bytes]:
    """Every figure as a file of its own, by file name: SVG that needs no style sheet, PNG for the confusion matrix."""
    macro: Any = vars(_environment().get_template("macros.html").make_module({"data": data}))["panel_svg"]
    style = _markup(_asset("figure.css"))
    named = [*_panels(data).values()]
    files = {f"{p.name}.svg": str(macro(p, style)).encode("utf-8") for part in named for p in part}
    evaluation = data.quoted
    if evaluation is not None and evaluation.n:
        files["confusion.png"] = figures.confusion_picture(evaluation)
    return files


def page_parts(name: str) -> tuple[Template, dict[str, Any]]:
    """A page template of this package, and the style, script and policy that every page shares."""
    style, script = _asset("report.css"), _asset("report.js")
    return _environment().get_template(name), {
        "style": _markup(style),
        "script": _markup(script),
        "policy": _policy(style, script),
    }


def _panels(data: ReportData) -> dict[str, tuple[figures.Panel, ...]]:
    """Every panel of the report, by the part that shows it."""
    curve = None if data.learning_curve is None else curves.learning_panel(data.learning_curve)
    coverage = None if data.abstaining is None else curves.coverage_panel(data.abstaining)
    calibration = () if data.calibration is None else curves.reliability_panels(data.calibration)
    return {
        "panels": figures.path_panels(data.path, data.chosen),
        "confidence_panels": (*calibration, *(() if coverage is None else (coverage,))),
        "learning_panels": () if curve is None else (curve,),
        "training_panels": () if data.training is None else curves.training_panels(data.training),
    }


def _context(data: ReportData) -> dict[str, Any]:
    """Everything the templates print, but the pictures."""
    evaluation = data.quoted if data.quoted is not None and data.quoted.n else None
    K = len(data.class_names)
    dense = K <= summary.DENSE_UP_TO
    panels = _panels(data)
    mistakes = tuple(data.mistakes[: thumbnails.MOST_MISTAKES])
    return {
        "data": data,
        "evaluation": evaluation,
        "sentence": summary.opening(data),
        "score_rows": summary.score_rows(data),
        "class_rows": summary.class_rows(evaluation) if evaluation else (),
        "top": evaluation.top_confusions(20) if evaluation else (),
        "weakest": summary.weakest(evaluation) if evaluation else None,
        "problems": summary.problem_rows(tuple(data.problems)),
        "alteration_texts": summary.ALTERATIONS,
        "heat_map": figures.heat_map(evaluation) if evaluation and not dense else None,
        "unbeaten": any(problem.code == "LL021" for problem in data.problems),
        "wide_names": max((len(short_name(name)) for name in data.class_names), default=0) > 4,
        **panels,
        "learning_panel": next(iter(panels["learning_panels"]), None),
        "beyond": _beyond(data),
        "has_unsure": bool(data.unsure or data.calibration or (data.abstaining and data.abstaining.n)),
        "nears": any(mistake.near for mistake in mistakes),
        "shown_classes": thumbnails.shown_classes(data),
        "mistakes": mistakes,
    }


def _beyond(data: ReportData) -> tuple[Place, ...]:
    """What the learning curve guesses at twice and four times the images."""
    curve = data.learning_curve
    if curve is None or not curve.law:
        return ()
    N = curve.points[-1].n
    return tuple(min(curve.law, key=lambda place: abs(math.log(place.n / (m * N)))) for m in (2, 4))


def _pictures(data: ReportData, shown: dict[Key, Pixmap], total: int) -> dict[str, Any]:
    """What of the page depends on the pictures kept."""
    groups: dict[tuple[int, int], int] = {}
    galleries = []
    for number, cell in enumerate(thumbnails.shown_cells(data)):
        kept = [
            (name, shown[Key("cell", number, place)])
            for place, (name, _) in enumerate(data.confusion_images[cell])
            if Key("cell", number, place) in shown
        ]
        if kept:
            groups[cell] = number
            galleries.append((number, cell, kept))
    evaluation = data.quoted
    dense = evaluation is not None and evaluation.n and len(data.class_names) <= summary.DENSE_UP_TO
    return {
        "picture": lambda kind, first, second=0: shown.get(Key(kind, first, second)),
        "card_pictures": lambda group: [
            pixmap for place in range(CARD_PICTURES) if (pixmap := shown.get(Key("cell", group, place))) is not None
        ],
        "groups": groups,
        "galleries": galleries,
        "table": summary.confusion_table(evaluation, groups) if evaluation is not None and dense else None,
        "left_out": total - len(shown),
        "pictures_total": total,
    }


def _policy(style: str, script: str) -> str:
    return (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def _asset(name: str) -> str:
    """A file of the templates folder; line ends as a browser sees them, or hashes would not fit."""
    folder = resources.files(__package__ or "lastlayer.report") / "templates"
    return (folder / name).read_text(encoding="utf-8").replace("\r\n", "\n")


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, FunctionLoader, StrictUndefined
    from markupsafe import Markup

    def finalize(value: Any) -> Any:
        """Every printed expression passes here: no text reaches the page unprintable."""
        return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        loader=FunctionLoader(_asset),
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "name": short_name,
        "ticks": _ticks,
        "share": lambda value: "n/a" if math.isnan(value) else f"{100 * value:.1f}%",
        "percent": summary.percent,
        "count": lambda value: f"{value:,}",
        "number": _number,
        "ln": lambda value: math.log(max(value, 1)),
        "general": lambda value: f"{value:.3g}",
        "block": _block,
    }
    return environment


def _number(value: float, digits: int = 3) -> str:
    return "n/a" if math.isnan(value) else f"{value:.{digits}f}"


def _block(text: str) -> Any:
    """Several lines of text, each made printable, as one escaped whole."""
    from markupsafe import escape

    return escape("\n".join(printable(line) for line in text.expandtabs(4).split("\n")))


def _ticks(text: str) -> Any:
    """A message in which `code` between backticks becomes a code element."""
    from markupsafe import Markup, escape

    parts = printable(text).split("`")
    if len(parts) % 2 == 0:
        return escape(printable(text))
    marked = (Markup("<code>{}</code>").format(part) if i % 2 else escape(part) for i, part in enumerate(parts))
    return Markup("").join(marked)


def _markup(text: str) -> Any:
    """An asset of this package, which is no user's text."""
    from markupsafe import Markup

    return Markup(text)
