"""Explanations as files: one self-contained HTML page an image, the templates of a model as PNG files and one page."""

from __future__ import annotations

import base64
import functools
import hashlib
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lastlayer import _files
from lastlayer._arrays import Float64, UInt8
from lastlayer.evaluation.explanations_names import feature_name
from lastlayer.model import Model
from lastlayer.pipeline.explaining_results import Explanation, Related
from lastlayer.report.render import printable, short_name
from lastlayer.report.thumbnails import Pixmap, encode, weights_picture
from lastlayer.representations.glyphs import diverging

if TYPE_CHECKING:
    from jinja2 import Environment

MAX_BYTES = 950_000
LARGEST = 8
"""Weights of a class that are listed."""
_PICTURE, _SIDE = 240, 320
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST = 100


@dataclass(frozen=True)
class _Shown:
    """A training image on the page."""

    name: str
    label: str
    value: str
    picture: Pixmap


def write_explanation(found: Explanation, folder: Path, taken: set[str]) -> Path:
    """Write the page of one image into the folder and return its path.

    Parameters
    ----------
    found : Explanation
    folder : Path
        Made when it is missing.
    taken : set of str
        File names that are used already; the new one joins them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{_free_name(found.path, taken)}.html"
    _files.write_text(path, explanation_html(found))
    return path


def _free_name(path: str, taken: set[str]) -> str:
    """A harmless file name made of the image's: letters, digits, dots and dashes."""
    plain = _UNSAFE.sub("-", Path(path).stem).strip(".-")[:_LONGEST] or "image"
    name, number = plain, 1
    while name.casefold() in taken:
        number += 1
        name = f"{plain}-{number}"
    taken.add(name.casefold())
    return name


def explanation_html(found: Explanation) -> str:
    """The page: no network, no script, every name escaped."""
    document = found.to_dict()
    m, names = document["margin"], found.class_names
    a, b = names[found.margin.a], names[found.margin.b]
    influence = found.influence
    return _render(
        "explain_image.html",
        path=_files.display_name(found.path),
        a=a,
        b=b,
        p_a=_probability(document["compared"]["p"]),
        p_b=_probability(document["compared"]["p_versus"]),
        margin=f"{m['value']:+.3f}",
        bias=f"{m['bias']:+.3f}",
        terms=f"{m['terms']:+.3f}",
        error=f"{m['error']:.0e}",
        n_features=f"{m['n_features']:,}",
        reference=m["reference"],
        parts=found.margin.parts,
        largest=m["largest"],
        label=found.label,
        trained_on=found.trained_on,
        figures=_figures(found, a, b),
        regions=regions_line(found),
        flip=flip_line(found),
        faithful=faithful_line(found),
        neighbours=[_shown(each, f"{each.value:.2f}") for each in found.neighbours],
        influence=influence,
        supporting=[_shown(each, f"{each.value:+.4f}") for each in influence.supporting] if influence else [],
        opposing=[_shown(each, f"{each.value:+.4f}") for each in influence.opposing] if influence else [],
        left_out=found.left_out,
    )


def _probability(p: float) -> str:
    return f"{p:.2f}" if p >= 0.005 else f"{p:.0e}"


def _shown(each: Related, value: str) -> _Shown:
    return _Shown(_files.display_name(each.name), each.label, value, encode(each.picture))


def regions_line(found: Explanation) -> str:
    """Evidence by thirds, in a line."""
    if found.evidence.without and not found.evidence.map.any():
        return "; ".join(f"no evidence map: {why}" for why in found.evidence.without)
    total = float(found.evidence.map.sum())
    height, width = found.evidence.map.shape
    parts = " · ".join(f"{name} {value:+.2f}" for name, value in found.thirds().items())
    return f"evidence by image region ({height}×{width} map, sums to {total:+.2f}): {parts}"


def flip_line(found: Explanation) -> str:
    """What covering one patch does to the answer, in a line."""
    flip = found.flip()
    grid = found.occlusion.drop.shape
    if flip is None:
        return f"flip test: covering any one of {grid[0]}×{grid[1]} patches leaves the answer as it is"
    place, answer, p = flip
    return f"flip test: covering the {place} patch changes the answer to {answer} ({p:.2f})"


def faithful_line(found: Explanation) -> str:
    """How far the map foretells what covering does, in a line."""
    o = found.occlusion
    if o.correlation is None:
        return "faithful? covering patches cannot be compared with a map that is the same everywhere"
    return (
        f"faithful? rank correlation of the map with the margin lost by covering {o.correlation:.2f} "
        f"(chance 0 ± {o.noise:.2f}); covering in its order costs {o.gain:+.2f} more margin on average than at random"
    )


def _figures(found: Explanation, a: str, b: str) -> list[dict[str, Any]]:
    shown = [_figure(found.picture, "The image as the classifier sees it", "as the classifier sees it")]
    if found.evidence.map.any():
        caption = f"for {a} (blue) and for {b} (red); sums to {found.evidence.map.sum():+.2f}"
        shown.append(_figure(overlay(found.picture, found.evidence.map), "Evidence map of the margin", caption))
    if found.own_evidence.any():
        caption = f"for {a} (blue) and against it (red), compared with the mean of all classes"
        shown.append(_figure(overlay(found.picture, found.own_evidence), "Evidence map of the class", caption))
    o = found.occlusion
    drop = np.zeros(found.picture.shape[:2])
    for r in range(len(o.drop)):
        for c in range(o.drop.shape[1]):
            drop[o.rows[r] : o.rows[r + 1], o.columns[c] : o.columns[c + 1]] = o.drop[r, c]
    caption = f"margin lost when a patch is covered: up to {o.drop.max():+.2f}"
    shown.append(_figure(overlay(found.picture, drop), "Margin lost by covering", caption))
    return shown


def _figure(picture: UInt8, alt: str, caption: str) -> dict[str, Any]:
    return {"picture": encode(picture, _PICTURE), "alt": alt, "caption": caption}


def overlay(image: UInt8, values: Float64) -> UInt8:
    """A map over its image, pale: blue above zero, red below, the stronger the larger.

    Shapes
    ------
    image : uint8 (H, W, C), values : (H, W); result uint8 (H, W, 3).
    """
    size = float(np.percentile(np.abs(values), 99.5)) or float(np.abs(values).max()) or 1.0
    scaled = np.clip(values / size, -1, 1)
    gray = image.mean(axis=2, keepdims=True) / 255.0
    strength = np.abs(scaled)[:, :, None] ** 0.7
    colours = diverging(np.where(scaled >= 0, 0.7, -0.7) * np.minimum(1.0, np.abs(scaled) + 0.35))
    blend = (1 - strength) * (0.55 + 0.4 * gray) + strength * colours
    return np.asarray(np.rint(255 * blend), np.uint8)


def model_document(model: Model) -> dict[str, Any]:
    """The largest weights of every class, less the mean of the classes, as plain values."""
    W = model.weights.astype(np.float64)
    W = W - W.mean(axis=1, keepdims=True)
    order = np.argsort(-np.abs(W), axis=0, kind="stable")[:LARGEST]
    classes = []
    for k, name in enumerate(model.class_names):
        largest = [
            {"feature": feature_name(model.representation, j), "weight": float(W[j, k])} for j in order[:, k].tolist()
        ]
        classes.append({"class": name, "bias": float(model.bias[k]), "largest": largest})
    return {"n_features": len(W), "phi": model.representation.describe(), "classes": classes}


def write_model(model: Model, folder: Path, *, html: bool = True) -> tuple[dict[str, Any], list[Path]]:
    """Write the templates of every class as PNG files, and one page; returns what is known and the files.

    Pictures that would make the page larger than a megabyte are left out of it, and the page says so.
    """
    document = model_document(model)
    templates = model.representation.templates(model.weights)
    folder.mkdir(parents=True, exist_ok=True)
    written, taken = [], set[str]()
    for template in templates:
        for name, picture in zip(model.class_names, template.images):
            path = folder / f"{_free_name(f'template-{template.kind}-{name}.x', taken)}.png"
            _files.write_bytes(path, _png(weights_picture(picture)))
            written.append(path)
    if html:
        path = folder / "model.html"
        _files.write_text(path, _model_html(document, [template.images for template in templates], templates))
        written.insert(0, path)
    return document, written


def _model_html(document: dict[str, Any], pictures: Sequence[Any], templates: Sequence[Any]) -> str:
    classes, room = [], MAX_BYTES - 20_000
    for k, each in enumerate(document["classes"]):
        shown = [encode(weights_picture(images[k]), _SIDE) for images in pictures]
        rows = each["largest"]
        room -= sum(len(picture.uri) for picture in shown) + sum(150 + len(row["feature"]) for row in rows) + 600
        if room < 0:
            break
        classes.append({"name": each["class"], "pictures": shown, "largest": rows})
    missing = len(document["classes"]) - len(classes)
    return _render(
        "explain_model.html",
        classes=classes,
        description=f"{document['phi']}; {document['n_features']:,} features",
        notes=[template.note for template in templates] or ["This representation draws no pictures of its weights."],
        left_out=f"{missing} more classes are left out to keep this page small." if missing else "",
    )


def _png(picture: UInt8) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def _render(template: str, **values: Any) -> str:
    from markupsafe import Markup

    style = _asset("explain.css")
    digest = base64.b64encode(hashlib.sha256(style.encode("utf-8")).digest()).decode("ascii")
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return _environment().get_template(template).render(style=Markup(style), policy=policy, **values)


def _asset(name: str) -> str:
    """A template; line ends as a browser sees them, or the hash of the style would not fit."""
    folder = resources.files("lastlayer.report") / "templates"
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
    environment.filters["name"] = short_name
    return environment
