"""``papershell data``: fetch, look at and verify data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from papershell.orchestration.table import print_table

SOURCE = Annotated[str, typer.Argument(help="digits, mnist, cifar10, a folder, or a file.")]


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="Fetch, look at and verify data sets.", no_args_is_help=True)
    for command in (fetch, show, verify):
        group.command()(command)
    app.add_typer(group, name="data")


def fetch(
    name: Annotated[str, typer.Argument(help="The data set: mnist or cifar10.")] = "mnist",
    data_folder: Annotated[Path | None, typer.Option(help="Where it goes (default: data/NAME).")] = None,
) -> None:
    """Download a data set, verified by SHA-256; a broken download continues where it stopped."""
    from papershell.trainers import datasets

    for path in datasets.fetch(name, data_folder):
        print(f"{path}  {path.stat().st_size:,} bytes, verified")


def show(
    source: SOURCE = "digits",
    out: Annotated[
        Path, typer.Option(help="Where the picture of 30 samples goes: a file, or a folder that exists.")
    ] = Path("samples.png"),
) -> None:
    """Print shapes and class counts; of images draw 30 at random with their labels."""
    import numpy as np

    from papershell.trainers.datasets import load_dataset
    from papershell.trainers.figures import draw_samples

    data = load_dataset(source)
    shape = " x ".join(map(str, data.image_shape))
    kind = "bytes" if data.X_train.dtype == np.uint8 else data.X_train.dtype.name
    print(f"{data.name}: {'images' if data.are_images else 'features'} {shape}, {kind}")
    parts = (data.y_train, data.y_test)
    rows = [(str(label), *(f"{np.count_nonzero(y == label):,}" for y in parts)) for label in data.classes]
    rows.append(("all", *(f"{len(y):,}" for y in parts)))
    print_table(("class", "train", "test"), rows, bold={len(rows) - 1})
    if not data.are_images:
        return
    path = out / "samples.png" if out.is_dir() else out
    draw_samples(path, data.pictures(data.X_train), data.y_train)
    print(f"wrote {path}")


def verify(source: SOURCE = "mnist") -> None:
    """Decode every file, check that they fit together, and compare digests with the published ones."""
    from papershell.trainers.datasets import DataError, check_digests, read_source, resolve

    folder = resolve(source)
    verdicts = {True: "the published file", False: "NOT the published file", None: "no published digest"}
    checked = check_digests(source, folder)
    for path, published in checked.items():
        print(f"{path}  {verdicts[published]}")
    if False in checked.values():
        raise DataError(f"{source} is not the published data set; `papershell data fetch` replaces the file")
    data = read_source(folder, name=source)
    images = f"{len(data.X_train):,} + {len(data.X_test):,} {'images' if data.are_images else 'samples'}"
    print(f"{source} is whole: {images}, {len(data.classes)} classes")
