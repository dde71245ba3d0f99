"""``lastlayer explain``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lastlayer.cli import EXIT_ERROR, EXIT_OK
from lastlayer.cli.options import cache, common, execution


@click.command(name="explain")
@click.argument("model")
@click.argument("images", nargs=-1)
@click.option("--vs", default="", metavar="CLASS", help="Compare the answer with this class [the runner-up].")
@click.option("--neighbours", type=click.IntRange(0, 50), default=5, show_default=True, help="Closest training images.")
@click.option(
    "--influence",
    type=click.IntRange(0, 50),
    default=3,
    show_default=True,
    help="Training images that did most for the answer, and as many against it; 0 saves their time.",
)
@click.option(
    "--reference",
    type=click.Choice(["mean", "zero"]),
    default="mean",
    show_default=True,
    help="What terms are measured from: the training images' mean features, or none of the feature.",
)
@click.option("--html/--no-html", default=True, help="A page for each image in RUN/explain.", show_default=True)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder for the pages [RUN/explain].")
@cache
@common
def command(
    model: str,
    images: tuple[str, ...],
    vs: str,
    neighbours: int,
    influence: int,
    reference: str,
    html: bool,
    out: Path | None,
    as_json: bool,
    **values: Any,
) -> int:
    """Say why the MODEL (a run folder or a model file) gives its answers for IMAGES.

    Without images: what its classes look for. IMAGES are files, folders, or names of images in the run's own data. The
    margin of the answer over the runner-up, or over --vs CLASS, is taken apart into terms that add up, which are shown
    over the image and checked by covering patches of it. The training images next to it, and those that did most for
    and against the answer, are named.
    """
    from lastlayer.pipeline.explaining import Explainer, ExplainSettings

    explainer = Explainer(model, execution(values), ExplainSettings(vs, neighbours, influence, reference=reference))
    folder = out or explainer.folder or Path("explain")
    if not images:
        return _explain_model(explainer, folder, html, as_json)
    return _explain_images(explainer, images, folder, html, as_json)


def _explain_model(explainer: Any, folder: Path, html: bool, as_json: bool) -> int:
    from lastlayer._files import display_name
    from lastlayer.cli.console import print_json
    from lastlayer.pipeline.write_explanation import write_model

    document, written = write_model(explainer.model, folder, html=html)
    if as_json:
        print_json({**document, "files": [display_name(str(path)) for path in written]})
        return EXIT_OK
    click.echo(f"{document['phi']}; {document['n_features']:,} features")
    for each in document["classes"]:
        largest = " · ".join(f"{row['feature']} {row['weight']:+.3g}" for row in each["largest"][:3])
        click.echo(display_name(f"{each['class']}: {largest}"))
    for path in written[:1] if html else written:
        click.echo(f"→ {display_name(str(path))}")
    if html and len(written) > 1:
        click.echo(f"  and {len(written) - 1} pictures of weights beside it")
    return EXIT_OK


def _explain_images(explainer: Any, images: tuple[str, ...], folder: Path, html: bool, as_json: bool) -> int:
    from lastlayer._files import display_name
    from lastlayer.cli.console import print_json
    from lastlayer.pipeline.explaining import SCHEMA_VERSION
    from lastlayer.pipeline.write_explanation import write_explanation

    documents, failed, taken = [], False, set[str]()
    for subject in explainer.subjects(images):
        if subject.pixels is None:
            failed = True
            click.echo(display_name(f"{subject.path}: {subject.note}"), err=True)
            documents.append({"path": display_name(subject.path), "note": subject.note})
            continue
        found = explainer.explain(subject)
        page = write_explanation(found, folder, taken) if html else None
        document = found.to_dict()
        documents.append({**document, "html": None if page is None else display_name(str(page))})
        if not as_json:
            _print(found, document)
            if page is not None:
                click.echo(f"→ {display_name(str(page))}")
    if as_json:
        print_json({"schema_version": SCHEMA_VERSION, "images": documents})
    return EXIT_ERROR if failed else EXIT_OK


def _print(found: Any, document: dict[str, Any]) -> None:
    """The text of one explanation."""
    from lastlayer._files import display_name
    from lastlayer.pipeline.write_explanation import faithful_line, flip_line, regions_line

    compared, margin = document["compared"], document["margin"]
    lines = [
        f"{found.path}" + (f"  (label {found.label})" if found.label else ""),
        f"{compared['class']} over {compared['versus']}: margin {margin['value']:+.2f} = bias {margin['bias']:+.2f} + "
        f"{margin['n_features']:,} feature terms {margin['terms']:+.2f}   (sum checked, error {margin['error']:.0e})",
    ]
    if len(margin["parts"]) > 1:
        lines.append("by part: " + " · ".join(f"{part['name']} {part['sum']:+.2f}" for part in margin["parts"]))
    lines.append(regions_line(found))
    if document["neighbours"]:
        near = " ".join(f"{each['path']} {each['label']} ({each['similarity']:.2f})" for each in document["neighbours"])
        lines.append("closest training images: " + near)
    influence = document["influence"]
    if influence is not None:
        for side, word in (("supporting", "for"), ("opposing", "against")):
            shown = " ".join(
                f"{each['path']} {each['label']} ({each['margin_change_if_removed']:+.3f})" for each in influence[side]
            )
            lines.append(f"most {word} it among {influence['n']:,} (margin without): {shown or 'none'}")
    lines += [flip_line(found), faithful_line(found)]
    lines += [f"left out: {why}" for why in found.left_out]
    for line in lines:
        click.echo(display_name(line))
