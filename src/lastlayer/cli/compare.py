"""``lastlayer compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


@click.command(name="compare")
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN...")
@click.option(
    "--metric",
    type=click.Choice(["accuracy", "balanced_accuracy", "macro_f1", "log_loss"]),
    default="accuracy",
    show_default=True,
    help="What is compared.",
)
@click.option("--split", default="", help="Split to compare on [the one that the runs quote].")
@click.option("--reference", default="", metavar="RUN", help="Hold every run against this one [every pair].")
@click.option("--markdown", type=click.Path(path_type=Path), metavar="FILE", help="Also write the table in Markdown.")
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Also write a page with pictures.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout and nothing else there.")
def command(
    runs: tuple[str, ...],
    metric: str,
    split: str,
    reference: str,
    markdown: Path | None,
    html: Path | None,
    as_json: bool,
) -> int:
    """Compare RUNs that were scored on the same images, image by image.

    Says whether a difference is more than noise: exact McNemar for accuracy, a randomisation test for the other
    metrics; with three runs or more, p-values are corrected by Holm. --html shows the images on which they differ.
    """
    from lastlayer import _files
    from lastlayer.cli.console import print_json
    from lastlayer.pipeline.comparing import run_comparison
    from lastlayer.pipeline.markdown import comparison_markdown

    comparison = run_comparison(runs, metric, split, reference)
    if markdown is not None:
        _files.write_text(markdown, comparison_markdown(comparison))
    if html is not None:
        from lastlayer.cli.options import command_line
        from lastlayer.pipeline.write_comparison import comparison_html

        _files.write_text(html, comparison_html(comparison, [Path(run) for run in runs], command_line()))
    if as_json:
        print_json(comparison.to_dict())
    else:
        click.echo("\n".join(comparison_lines(comparison)))
    return 0


def comparison_lines(comparison: Any) -> list[str]:
    """The table of runs, then a line for every pair, then what it comes to."""
    from lastlayer._files import display_name
    from lastlayer.cli.console import table
    from lastlayer.pipeline.markdown import difference_text, metric_text, verdict

    lines = [f"same {comparison.split} split: {comparison.n:,} images, {comparison.same_by}", ""]
    rows = []
    for run, right, score in comparison.runs:
        look = "" if run.look is None else f"test look #{run.look}"
        rows.append((display_name(run.name), f"{right.k}/{right.n}", metric_text(comparison.metric, score), look))
    lines += [table(("run", "correct/n", f"{comparison.metric} [95%]", ""), rows, right=[1]), ""]
    several = len(comparison.pairs) > 1
    for pair in comparison.pairs:
        p = f"{pair.result.test} p = {pair.result.p_value:.2g}"
        p += f", {pair.p_holm:.2g} after Holm for {len(comparison.pairs)} pairs" if several else ""
        counts = pair.result.pair
        lines.append(
            display_name(f"{pair.first} − {pair.second}: {difference_text(comparison.metric, pair.result.difference)}")
        )
        lines.append(
            display_name(
                f"  {pair.first} right where {pair.second} wrong: {counts.only_first}, the reverse: "
                f"{counts.only_second}   {p}"
            )
        )
        lines.append(display_name(f"  → {verdict(comparison, pair)}"))
    return lines
