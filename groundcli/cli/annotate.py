"""`groundcli annotate`: the main job."""

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from groundcli.cli.options import BOXES, Device, ElmoBackend, Precision, Weights, load_grounder, torch_device
from groundcli.data.phrases import How

if TYPE_CHECKING:
    from collections.abc import Iterable

    from groundcli.annotation.journal import Line


class Format(str, Enum):  # typer takes no list of a Literal
    """File formats beside COCO."""

    jsonl = "jsonl"
    csv = "csv"
    yolo = "yolo"
    labelstudio = "labelstudio"


def annotate(
    images: Annotated[
        list[Path], typer.Argument(help="Folders, image files, lists of files (.txt, .lst) and quoted patterns.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for all results.")],
    captions: Annotated[
        Path | None, typer.Option(help="File or folder of captions. Default: found beside the images.")
    ] = None,
    phrase: Annotated[list[str] | None, typer.Option(help="A phrase to look for in every image; repeatable.")] = None,
    phrases: Annotated[How, typer.Option(help="auto: those marked in brackets, else noun phrases.")] = "auto",
    recursive: Annotated[bool, typer.Option("--recursive/--no-recursive", help="Search folders to the bottom.")] = True,
    limit: Annotated[int | None, typer.Option(min=1, help="The first so many images only.")] = None,
    shard: Annotated[
        str | None, typer.Option(metavar="I/N", help="Every N-th batch of images from the I-th on; see merge.")
    ] = None,
    categories: Annotated[
        Literal["phrase", "head", "single"], typer.Option(help="What an annotation's category is: head is its noun.")
    ] = "phrase",
    formats: Annotated[list[Format] | None, typer.Option("--format", help="A format beside COCO; repeatable.")] = None,
    overlays: Annotated[bool, typer.Option("--overlays/--no-overlays", help="Draw a picture an image.")] = True,
    report: Annotated[bool, typer.Option("--report/--no-report", help="Make report.html, to look through.")] = True,
    save_heatmaps: Annotated[bool, typer.Option("--save-heatmaps", help="Keep the heat maps, .npz an image.")] = False,
    on_existing: Annotated[
        Literal["resume", "overwrite", "error"], typer.Option(help="What to do where OUT holds a run already.")
    ] = "resume",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and what it would take.")] = False,
    weights: Weights = "lite",
    batch_size: Annotated[
        int, typer.Option(min=1, help="Images whose captions, and on a GPU pixels, are encoded together.")
    ] = 8,
    workers: Annotated[
        int | None,
        typer.Option(min=0, help="On a CPU images at a time, beside a GPU processes that draw. Default: by cores."),
    ] = None,
    device: Device = "auto",
    devices: Annotated[
        str | None, typer.Option(metavar="D,D", help="Several devices at once, such as cuda:0,cuda:1.")
    ] = None,
    engine: Annotated[
        Literal["local", "ray"], typer.Option(help="ray: on the cluster of RAY_ADDRESS, or a Ray of this machine.")
    ] = "local",
    precision: Precision = "auto",
    elmo_backend: ElmoBackend = "groundcli",
    boxes: Annotated[Literal["sides", "authors"], typer.Option(help=BOXES)] = "sides",
) -> None:
    """Points at every phrase of every caption: COCO annotations, overlay pictures, a page to look through."""
    from functools import partial

    from rich.console import Console

    import groundcli
    from groundcli.annotation.devices import annotate_on_devices
    from groundcli.annotation.folder import FAILURES, check_inputs, files_of, look
    from groundcli.annotation.local import annotate_batches, default_workers
    from groundcli.annotation.outputs import Outputs
    from groundcli.annotation.plan import plan
    from groundcli.annotation.run import Engine, Settings
    from groundcli.annotation.run import annotate as run
    from groundcli.annotation.work import Job
    from groundcli.data import folder
    from groundcli.grounder import Grounder
    from groundcli.weights.files import sha256

    console = Console(soft_wrap=True, highlight=False)
    look(out)
    part = folder.parse_shard(shard) if shard else None
    found = folder.load(images, captions, phrase or (), recursive=recursive, limit=limit, shard=part, chunk=batch_size)
    check_inputs(out, [*images, *found.read])
    loaded, grounder = load_grounder(weights, "cpu" if devices else device, precision, elmo_backend, console)
    names = [chosen.value for chosen in formats or ()]
    about = {
        "version": groundcli.__version__,
        "files": files_of(names, overlays, report, save_heatmaps),
        "weights": {"name": loaded.name, "sha256": sha256(loaded.path), "untrained": loaded.untrained},
        "arguments": {
            "images": [str(path) for path in images],
            "captions": captions and str(captions),
            "phrase": phrase or [],
            "phrases": phrases,
            "recursive": recursive,
            "limit": limit,
            "shard": shard,
            "batch_size": batch_size if shard else None,  # shards are dealt out in batches
            "categories": categories,
            "format": names,
            "overlays": overlays,
            "report": report,
            "save_heatmaps": save_heatmaps,
            "precision": precision,
            "elmo_backend": elmo_backend,
            "boxes": boxes,
        },
    }
    job = Job(out, phrases, overlays, report, save_heatmaps, boxes)
    settings = Settings(batch_size, on_existing)
    load = partial(Grounder.load, str(loaded.path.absolute()), precision=precision, elmo_backend=elmo_backend)
    parts = [torch_device(part.strip()) for part in devices.split(",")] if devices else [grounder.device]
    if workers is None:
        workers = default_workers(len(found.samples), parts)
    if dry_run:
        for line in plan(grounder, found, job, settings, workers):
            console.print(line, markup=False)
        return
    if engine == "ray":
        from groundcli.annotation.cluster import Cluster

        way: Engine = Cluster(grounder.device, load, job)
    elif devices:
        way = partial(annotate_on_devices, devices=[*map(str, parts)], load=load, job=job, workers=workers)
    else:
        way = partial(annotate_batches, grounder=grounder, job=job, workers=workers)
    outputs = Outputs(categories, tuple(names), report)
    count, problems = run(way, found, out, outputs=outputs, settings=settings, run=about, progress=_progress)
    if problems:
        console.print(f"{problems} images or captions could not be used: see {out / FAILURES}")
    if report:
        console.print(f"look through the results: {out / 'report.html'}")
    console.print(f"{out}: {count}")
    if problems:
        raise typer.Exit(1)


def _progress(lines: "Iterable[list[Line]]", images: int) -> "Iterable[list[Line]]":
    """Shows how many images are done, on stderr."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("annotating"), BarColumn(), MofNCompleteColumn(), TextColumn("left"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), speed_estimate_period=300) as bar:
        task = bar.add_task("annotating", total=images)
        for batch in lines:
            yield batch
            bar.advance(task, len(batch))
