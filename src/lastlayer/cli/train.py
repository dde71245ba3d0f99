"""``lastlayer train``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click

from lastlayer.cli import EXIT_INTERRUPTED, EXIT_OK, EXIT_STRICT
from lastlayer.cli.options import common, execution, run_folder


@click.command(name="train")
@click.argument("data", required=False)
@click.option(
    "--phi",
    help="Representation: pixels, hog, colour, A+B, with parameters hog:cell=4,bins=9; onnx:FILE[#TENSOR], "
    "torch:PACKAGE:FACTORY, timm:NAME, torchvision:NAME; auto: chosen on validation data [hog+colour]. A network to "
    "train: mlp:300-100, lenet5, lenet5:modern, alexnet:32, convnet; or RUN, a trained one as it is.",
)
@click.option(
    "--time-limit", type=float, help="Seconds for --phi auto to try representations [60], or to train a network [none]."
)
@click.option(
    "--augment",
    metavar="VIEWS",
    help="Views of each training image to fit: flip,shift=1. For a network: flip,shift=2,affine=10,elastic=4:34,"
    "cutout=8, or none [the network's].",
)
@click.option("--views", metavar="VIEWS", help="Views over which an image's scores are averaged: flip,shift=1, say.")
@click.option("--head", type=click.Choice(["logistic", "svm", "ridge", "perceptron"]), help="Last layer [logistic].")
@click.option("--size", type=click.IntRange(1, 4096), help="Side in pixels of every image [from the images].")
@click.option("--fit", type=click.Choice(["crop", "stretch"]), help="How an image fills that square [crop].")
@click.option("--C", "C", metavar="VALUES", help="C to choose from: 0.1 or 0.01,0.1,1 or logspace:-5:2:15.")
@click.option("--l2", type=float, help="λ itself, instead of choosing C; λ = 1/(C·n).")
@click.option("--val", type=float, help="Share of images for choosing, where the data gives none [0.15].")
@click.option("--test", type=float, help="Share of images for the score, where the data gives none [0.15].")
@click.option("--split", type=click.Path(), help="A split.csv to reuse.")
@click.option("--labels", type=click.Path(), help="CSV path,label that corrects labels.")
@click.option("--group-by", help="Manifest column or file-name pattern; a group stays on one side.")
@click.option("--class-weight", type=click.Choice(["balanced"]), help="Weigh classes equally.")
@click.option("--standardise/--no-standardise", default=None, help="Centre and scale features [yes].")
@click.option("--max-iter", type=int, help="Cap on solver iterations [1000].")
@click.option("--epochs", type=float, help="Epochs of a network [its own], or most of the perceptron [20].")
@click.option("--batch-size", type=int, help="Images a step of a network [its own].")
@click.option("--lr", metavar="RATE", help="Learning rate of a network, or find: by a range test [its own].")
@click.option("--momentum", type=float, help="Momentum of a network's steps; β₁ of Adam [its own].")
@click.option("--optimiser", type=click.Choice(["sgd", "adam", "muon"]), help="How a network steps [its own].")
@click.option("--schedule", metavar="TEXT", help="Rate over the epochs: constant, cosine, step:every=30, … [its own].")
@click.option(
    "--weight-decay", type=float, help="Of a network while it is trained; --l2 is the last layer's [its own]."
)
@click.option("--label-smoothing", type=float, help="Share of a network's target spread over all classes [its own].")
@click.option("--patience", type=click.IntRange(0), help="Epochs without a better validation score; 0: never stop.")
@click.option("--device", metavar="NAME", help="Where a network is trained: auto, cpu, cuda [auto].")
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16"]),
    help="Of a network's products while it is trained; bfloat16 pays where the processor has units for it [float32].",
)
@click.option(
    "--refit-last-layer",
    type=click.Choice(["auto", "yes", "no"]),
    help="Fit a network's last layer again exactly; auto: kept where it wins on validation data [auto].",
)
@click.option(
    "--resume",
    is_flag=False,
    flag_value="",
    metavar="[RUN]",
    help="Go on with the training of a network that was killed or interrupted.",
)
@click.option("--tol", type=float, help="Share of the objective a further step may still promise [1e-5].")
@click.option("--max-pixels", type=int, help="Refuse larger images before decoding [25,000,000].")
@click.option("--near-dup/--no-near-dup", default=None, help="Keep near duplicates on one side of the split [yes].")
@click.option("--label-check/--no-label-check", default=None, help="Name labels in doubt: labels.suspect.csv [yes].")
@click.option("--unknown", metavar="NAME", help="Images of this class are of none; they test abstention [unknown].")
@click.option(
    "--learning-curve", is_flag=True, default=None, help="Accuracy against the number of training images, and beyond."
)
@click.option("--seed", type=int, help="Seed of everything random [0].")
@click.option("--strict", is_flag=True, default=None, help="Stop with exit code 4 at any problem of the data.")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="config.toml of an earlier run; other options win over it.",
)
@run_folder
@common
def command(data: str | None, config: Path | None, as_json: bool, resume: str | None, **values: Any) -> int:
    """Train on DATA: a folder of class folders, train/val/test folders, a manifest, arrays or demo:digits.

    Writes runs/train-NNN with report.html, model.safetensors, metrics.json, predictions.csv, split.csv,
    config.toml, log.jsonl and env.json. Your images are never moved or changed.
    """
    from lastlayer.cli.console import ConsoleObserver, print_json
    from lastlayer.cli.scores import print_outcome
    from lastlayer.pipeline.preparing import StrictError
    from lastlayer.pipeline.settings import parse_Cs
    from lastlayer.pipeline.training import run_training
    from lastlayer.pipeline.write_run import settings_from_config

    how = dataclasses.replace(execution(values), resume=resume is not None)
    if resume:  # RUN, unless the word behind --resume is DATA
        if data is None and config is None and not (Path(resume) / "config.toml").is_file():
            data = resume
        else:
            config = Path(resume) / "config.toml"
    given = {key: value for key, value in values.items() if value is not None}
    if "C" in given:
        given["C"] = parse_Cs(given["C"])
    if data is not None:
        given["data"] = data
    if config is None and data is None:
        raise click.UsageError("give DATA, e.g. `lastlayer train photos/`, or --config RUN/config.toml")
    settings = settings_from_config(config, given)
    try:
        run = run_training(settings, how, ConsoleObserver(as_json))
    except StrictError as error:
        click.echo(f"error: {error.what}\n  → {error.mend}", err=True)
        return EXIT_STRICT
    if as_json:
        print_json({"run": str(run.folder), "interrupted": run.interrupted, **run.metrics})
    else:
        print_outcome(run)
    return EXIT_INTERRUPTED if run.interrupted else EXIT_OK
