"""The shards of a run, each annotated by itself, made one."""

import heapq
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from groundcli.annotation.folder import FAILURES, JOURNAL, PER_IMAGE, POSITIONS, RUN, look
from groundcli.annotation.outputs import Count, Outputs, write_outputs
from groundcli.data.sample import Failure
from groundcli.errors import GroundcliError, UsageError
from groundcli.files import locked, replacing, write_json

SAME = ("version", "weights", "arguments")  # what the shards of a run have in common


def merge(shards: Sequence[Path], out: Path) -> tuple[Count, int]:
    """Puts the results of all shards of a run into one folder, equal to those of a run without shards.

    Args:
        shards: folders of finished runs, one for each `--shard I/N`, in any order.
        out: the folder to make.

    Returns:
        The sums of the shards' counts, and how many lines `failures.jsonl` has.

    Raises:
        GroundcliError: a folder holds no finished run.
        UsageError: a shard is missing or there twice, or the runs differ in more than their shard.
    """
    runs = [_finished(shard) for shard in shards]
    parts = [run["arguments"]["shard"] for run in runs]
    for run in runs:
        run["arguments"]["shard"] = None
    wanted = [f"{i}/{len(shards)}" for i in range(1, len(shards) + 1)]
    if sorted(map(str, parts)) != sorted(wanted):
        raise UsageError(f"these folders are shards {', '.join(map(str, parts))}; expected {', '.join(wanted)}")
    for shard, run in zip(shards, runs, strict=True):
        differs = [key for key in SAME if run[key] != runs[0][key]]
        if differs:
            raise UsageError(f"{shard} was run with other {', '.join(differs)} than {shards[0]}")
    if look(out).run:
        raise UsageError(f"{out} holds a run already; name another --out")
    listings = [_positions(shard) for shard in shards]
    for shard, listing in zip(shards, listings, strict=True):
        if listing["listing"] != listings[0]["listing"]:
            raise UsageError(f"{shard} was run on other images than {shards[0]}; run it again on the same ones")
    out.mkdir(parents=True, exist_ok=True)
    with locked(out):
        return _merge(shards, runs, listings, out)


def _merge(
    shards: Sequence[Path], runs: Sequence[dict[str, Any]], listings: Sequence[dict[str, Any]], out: Path
) -> tuple[Count, int]:
    about = {key: runs[0][key] for key in (*SAME, "files")}
    write_json(out / RUN, {**about, "finished": False})
    placed = heapq.merge(*(zip(listing["positions"], listing["images"], strict=True) for listing in listings))
    positions, images = map(list, zip(*placed, strict=True)) if any(x["images"] for x in listings) else ([], [])
    write_json(out / POSITIONS, {"listing": listings[0]["listing"], "positions": positions, "images": images})
    with replacing(out / JOURNAL) as journal:
        lines = [_placed_lines(shard, listing) for shard, listing in zip(shards, listings, strict=True)]
        journal.writelines(line for _, line in heapq.merge(*lines))
    failures = [
        Failure(**json.loads(line)) for shard in shards for line in (shard / FAILURES).read_text("utf-8").splitlines()
    ]
    for folder in PER_IMAGE:
        for shard in shards:
            _link(shard / folder, out / folder)
    arguments = runs[0]["arguments"]
    outputs = Outputs(arguments["categories"], tuple(arguments["format"]), arguments["report"])
    problems = write_outputs(out, failures, outputs)
    count = Count(**{key: sum(run["counts"][key] for run in runs) for key in runs[0]["counts"]})
    seconds = sum(run["seconds"] for run in runs)
    write_json(out / RUN, {**about, "counts": vars(count), "problems": problems, "seconds": seconds, "finished": True})
    return count, problems


def _finished(shard: Path) -> dict[str, Any]:
    try:
        run = json.loads((shard / RUN).read_text("utf-8"))
    except (OSError, ValueError):
        raise GroundcliError(f"{shard}: holds no run of `groundcli annotate`") from None
    if not run.get("finished"):
        raise GroundcliError(f"{shard}: its run isn't finished; run its command again")
    return run


def _positions(shard: Path) -> dict[str, Any]:
    try:
        positions = json.loads((shard / POSITIONS).read_text("utf-8"))
        with (shard / JOURNAL).open("rb") as lines:
            if sum(1 for _ in lines) == len(positions["positions"]) == len(positions["images"]):
                return positions
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise GroundcliError(f"{shard}: this shard is unfinished or damaged; run its command again")


def _placed_lines(shard: Path, listing: dict[str, Any]) -> Iterator[tuple[int, str]]:
    """The journal's lines, each with its image's place among all images."""
    with (shard / JOURNAL).open(encoding="utf-8", newline="\n") as lines:
        yield from zip(listing["positions"], lines, strict=True)


def _link(source: Path, target: Path) -> None:
    """The same files at another place; copies where the file system has no links.

    A link is as good as a copy: a run never writes into a file that is there, it puts a new one in its place.
    """
    for path in source.rglob("*") if source.is_dir() else ():
        if path.is_file():
            to = target / path.relative_to(source)
            to.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(path, to)
            except OSError:
                shutil.copyfile(path, to)
