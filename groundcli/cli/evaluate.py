"""`groundcli eval`: how well a model points."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from groundcli.cli.options import BOXES, Device, ElmoBackend, Precision, Weights, load_grounder

WIDE = 130  # columns that the tables need; a narrower terminal breaks their lines


def evaluate(
    dataset: Annotated[
        Literal["flickr30k", "coco", "coco_categories", "referit", "visual_genome", "folder"],
        typer.Option(help="The data set, in the layout that it is published in; folder: images and a COCO file."),
    ],
    data: Annotated[Path, typer.Option(help="The data set's folder.")],
    split: Annotated[str, typer.Option(help="Name of a list of images; a folder's NAME.json.")] = "val",
    weights: Weights = "lite",
    compare: Annotated[str, typer.Option(help="Other weights, to print the paired difference from.")] = "",
    predictions: Annotated[
        Path | None,
        typer.Option(
            help="Evaluate the points or boxes of any model in this file (JSON lines or COCO), not --weights."
        ),
    ] = None,
    protocol: Annotated[
        Literal["default", "authors"],
        typer.Option(help="Which phrases count; `authors` filters as their code does."),
    ] = "default",
    tolerance: Annotated[float, typer.Option(min=0, help="Pixels that a point may lie outside its box.")] = 0,
    encode: Annotated[
        Literal["caption", "phrase"], typer.Option(help="Whether phrases are read in their caption, or alone.")
    ] = "caption",
    ablations: Annotated[
        bool, typer.Option("--ablations", help="Also single levels, other fusions, sentences.")
    ] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write all numbers to this file.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Also write the tables as Markdown to this file.")] = None,
    report: Annotated[
        Path | None, typer.Option(help="Also write a page to look at, with the worst and best cases, to this folder.")
    ] = None,
    calibrate: Annotated[
        Path | None,
        typer.Option(
            help="Write the weights with a score that is a probability, fitted to these images, to this file."
        ),
    ] = None,
    device: Device = "auto",
    precision: Precision = "auto",
    elmo_backend: ElmoBackend = "groundcli",
    boxes: Annotated[
        Literal["sides", "authors"] | None, typer.Option(help=f"{BOXES} Default: sides; authors by their protocol.")
    ] = None,
) -> None:
    """Evaluates a model: pointing accuracy, boxes and heat, beside the baselines of the same phrases."""
    from rich.console import Console
    from rich.progress import track

    from groundcli.data import datasets
    from groundcli.errors import UsageError
    from groundcli.evaluation.calibration import fit_calibration
    from groundcli.evaluation.formats import as_markdown, for_terminal
    from groundcli.evaluation.page import write_page
    from groundcli.evaluation.predictions import Predictions
    from groundcli.evaluation.protocol import Settings
    from groundcli.evaluation.run import evaluate_samples
    from groundcli.evaluation.summary import summarize
    from groundcli.evaluation.systems import GrounderSystem, System
    from groundcli.evaluation.tables import tables, title
    from groundcli.weights.calibrate import write_calibrated

    if predictions and (ablations or calibrate or encode == "phrase"):
        raise UsageError("--predictions: --ablations, --calibrate and --encode phrase need --weights instead")
    if calibrate and calibrate.exists():
        raise UsageError(f"--calibrate {calibrate}: exists; name another file")
    console = Console()
    samples = datasets.load(dataset, data, split)
    boxes = boxes or ("authors" if protocol == "authors" else "sides")
    run: dict[str, Any] = {"dataset": dataset, "split": split}
    other = None
    if compare:
        rival, grounder = load_grounder(compare, device, precision, elmo_backend, console, boxes)
        other = GrounderSystem(grounder, encode, alone=True)
    if predictions:
        system: System = Predictions(predictions)
        run["weights"] = str(predictions)
    else:
        loaded, grounder = load_grounder(weights, device, precision, elmo_backend, console, boxes)
        system = GrounderSystem(grounder, encode, ablations)
        run |= {"weights": loaded.name, "boxes": boxes} | ({"untrained": True} if loaded.untrained else {})
    steps = track(samples, f"{dataset} {split}", console=Console(stderr=True))
    collected = evaluate_samples(steps, Settings(protocol, tolerance, encode), system, other)
    result = run | summarize(collected, system.levels, system.calibration)
    if compare:
        result["compared"]["weights"] = rival.name
    if isinstance(system, Predictions):
        result["predictions"] = {"missing": system.missing, "unused": system.unused}
    shown = title(result), tables(result)
    Console(width=max(console.width, WIDE)).print(for_terminal(*shown))
    if json_file is not None:
        _write("--json", json_file, json.dumps(result, indent=2) + "\n")
    if markdown is not None:
        _write("--markdown", markdown, as_markdown(*shown))
    if report is not None:
        console.print(f"report: {write_page(report, result, collected)}", markup=False, soft_wrap=True)
    if calibrate is not None:
        write_calibrated(loaded, fit_calibration(collected), calibrate)
        console.print(f"calibrated weights: {calibrate}", markup=False, soft_wrap=True)
    if result["skipped"].get("image_failed"):
        raise typer.Exit(1)


def _write(option: str, path: Path, text: str) -> None:
    from groundcli.errors import GroundcliError

    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        raise GroundcliError(f"{option} {path}: can't be written ({error.strerror})") from None
