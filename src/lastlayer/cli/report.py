"""``lastlayer report``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(name="report")
@click.argument("run")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Where the page goes [RUN/report.html].")
@click.option("--max-mb", type=click.FloatRange(0.1, 100), default=4.8, show_default=True, help="Size to stay below.")
@click.option("--markdown", type=click.Path(path_type=Path), metavar="FILE", help="A summary in Markdown instead.")
@click.option("--figures", type=click.Path(path_type=Path), metavar="FOLDER", help="Every figure as a file as well.")
@click.option("--open", "open_page", is_flag=True, help="Open the page in the browser.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout and nothing else there.")
def command(
    run: str,
    out: Path | None,
    max_mb: float,
    markdown: Path | None,
    figures: Path | None,
    open_page: bool,
    as_json: bool,
) -> int:
    """Render the report of RUN, a run folder, again: the data need not be there any more.

    The page is one file that loads nothing. --markdown writes a summary for pull requests instead, --figures every
    figure as SVG or PNG.
    """
    from lastlayer import _files
    from lastlayer.cli.console import print_json
    from lastlayer.pipeline.markdown import run_markdown
    from lastlayer.pipeline.report_again import open_report

    written: list[Path] = []
    page: Path | None = None
    if markdown is not None:
        _files.write_text(markdown, run_markdown(run))
        written.append(markdown)
    if markdown is None or out is not None or figures is not None or open_page:
        again = open_report(run)
        if again.note:
            click.echo(again.note, err=True)
        if markdown is None or out is not None or open_page:
            folder = Path(run).parent if Path(run).is_file() else Path(run)
            page = out or folder / "report.html"
            _files.write_text(page, again.html(round(max_mb * 1e6)))
            written.append(page)
        if figures is not None:
            written += again.write_figures(figures)
    if as_json:
        print_json({"files": [{"path": str(path), "bytes": path.stat().st_size} for path in written]})
    else:
        for path in written:
            click.echo(f"{_files.display_name(str(path))}   ({path.stat().st_size / 1e6:.1f} MB)")
    if open_page and page is not None:
        import webbrowser

        webbrowser.open(page.absolute().as_uri())
    return 0
