"""``lastlayer probe``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lastlayer.cli import EXIT_INTERRUPTED, EXIT_OK
from lastlayer.cli.options import common, execution, run_folder


@click.command(name="probe")
@click.argument("embeddings", required=False)
@click.option("--x", help="Name of the embeddings in their file [the usual names].")
@click.option("--y", help="Name of the labels in their file [the usual names].")
@click.option("--labels", type=click.Path(), help="File of the labels [in the file of the embeddings].")
@click.option("--test", type=click.Path(), help="Embeddings that are scored and nothing else.")
@click.option("--test-labels", type=click.Path(), help="Their labels.")
@click.option("--val", type=click.Path(), help="Embeddings that choose C [15% of the training rows].")
@click.option("--val-labels", type=click.Path(), help="Their labels.")
@click.option("--ids", help="Name of the ids by which rows and labels are joined [by position].")
@click.option("--group-by", help="Column, or pattern over the ids; a group stays on one side.")
@click.option("--normalize", type=click.Choice(["l2"]), help="Divide every row by its length.")
@click.option("--standardise/--no-standardise", default=None, help="Centre and scale columns [yes; not clip, dinov2].")
@click.option("--shots", metavar="K,K,…", help="Learn from so many rows a class, e.g. 1,2,4,8,16.")
@click.option("--repeats", type=click.IntRange(1), help="Draws of each number of shots [10].")
@click.option("--cv", type=click.IntRange(2), help="Folds of protocol cv [5].")
@click.option(
    "--protocol",
    type=click.Choice(["holdout", "cv", "clip", "dinov2"]),
    help="How C is chosen [holdout, or cv with --cv].",
)
@click.option("--allow-logits", is_flag=True, default=None, help="Take what looks like a classifier's outputs.")
@click.option("--head", type=click.Choice(["logistic", "svm", "ridge"]), help="Last layer [logistic].")
@click.option("--C", "C", metavar="VALUES", help="C to choose from: 0.1 or 0.01,0.1,1 or logspace:-5:2:15.")
@click.option("--seed", type=int, help="Seed of everything random [0].")
@click.option("--threads", type=click.IntRange(1), help="Threads of the fit [all cores]; changes no bit.")
@click.option(
    "--config", type=click.Path(path_type=Path), help="config.toml of an earlier probe; other options win over it."
)
@run_folder
@common
def command(embeddings: str | None, config: Path | None, threads: int | None, as_json: bool, **values: Any) -> int:
    """Fit a linear probe on EMBEDDINGS: .npy, .npz, .safetensors or .parquet.

    The protocol is printed and stored, and C is never chosen on the test rows. Writes runs/probe-NNN with metrics.json,
    predictions.csv, model.safetensors, config.toml, log.jsonl and env.json.
    """
    from lastlayer.cli.console import ConsoleObserver, print_json
    from lastlayer.cli.probe_scores import print_probe
    from lastlayer.pipeline import toml
    from lastlayer.pipeline.probe_settings import parse_shots, probe_settings
    from lastlayer.pipeline.probing import run_probe
    from lastlayer.pipeline.settings import parse_Cs

    how = execution(values)
    given = {key: value for key, value in values.items() if value is not None}
    if "C" in given:
        given["C"] = parse_Cs(given["C"])
    if "shots" in given:
        given["shots"] = parse_shots(given["shots"])
    if "standardise" in given:
        given["standardise"] = "yes" if given["standardise"] else "no"
    if "cv" in given and "protocol" not in given and config is None:
        given["protocol"] = "cv"
    if embeddings is not None:
        given["embeddings"] = embeddings
    elif config is None:
        raise click.UsageError("give EMBEDDINGS, e.g. `lastlayer probe train.npy --labels labels.npy`")
    stored = {} if config is None else dict(toml.load(config).get("probe", {}))
    settings = probe_settings({**stored, **given}, "options" if config is None else str(config))
    run = run_probe(settings, how, ConsoleObserver(as_json), threads=threads)
    if as_json:
        print_json({"run": str(run.folder), **run.metrics})
    else:
        print_probe(run)
    return EXIT_INTERRUPTED if run.metrics["interrupted"] else EXIT_OK
