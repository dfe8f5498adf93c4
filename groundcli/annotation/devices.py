"""Several devices of one machine: a process each for a shard of the images, then merged."""

import subprocess
import sys
from pathlib import Path

from groundcli.annotation.merge import merge
from groundcli.annotation.outputs import RUN
from groundcli.errors import UsageError

SHARDS = "shards"


def annotate(devices: str, out: Path) -> int:
    """Runs this process's own command once for each device, on a shard each, and merges what comes of it.

    Args:
        devices: their names with commas between.
        out: the folder; shards are kept below it until they are merged, so that a broken run goes on.

    Returns:
        The exit code: the worst of all.
    """
    names = [name.strip() for name in devices.split(",") if name.strip()]
    own = _without(sys.argv[1:], {"--devices", "--out", "--device"})
    if any(argument.split("=")[0] == "--shard" for argument in own):
        raise UsageError("--devices makes shards itself; leave out --shard")
    if (out / RUN).exists():
        raise UsageError(f"{out} holds a run already; name another --out")
    folders = [out / SHARDS / f"{i}-of-{len(names)}" for i in range(1, len(names) + 1)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "groundcli", *own, "--device", name, "--shard", f"{i}/{len(names)}", "--out", folder]
        )
        for i, (name, folder) in enumerate(zip(names, folders, strict=True), start=1)
    ]
    codes = [process.wait() for process in processes]
    worst = max(codes, key=lambda code: (code not in (0, 1), code))
    if worst in (0, 1):
        merge(folders, out)
    return worst


def _without(arguments: list[str], options: set[str]) -> list[str]:
    """Arguments without these options and their values."""
    kept: list[str] = []
    skip = False
    for argument in arguments:
        if skip:
            skip = False
        elif argument in options:
            skip = True
        elif argument.split("=")[0] not in options:
            kept.append(argument)
    return kept
