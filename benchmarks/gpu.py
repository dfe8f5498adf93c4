"""Everything that is worth knowing of a device before it is trusted with work: one command for a machine with a GPU.

    python benchmarks/gpu.py [FOLDER] [--device cuda] [--recipes lite ...] [--images 64] [--batch-size 32]

FOLDER holds photographs with captions. In turn, in processes of their own, and said to have failed where they did:

- every recipe by `benchmarks/recipes.py`: annotate's images per second, the backbone's share of it, time and memory of
  a training step, and on a GPU the largest batch; in float32 and in bf16;
- points in bf16 against those in float32, on the folder;
- annotate where memory suffices for a few images at a time alone: it halves its batches, and gives the same;
- two processes that train together on the device, and annotate on Ray.

On `--device cpu` all run too, but for the largest batch and the memory that is too short.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from groundcli.recipe import RECIPES as FOLDER

RECIPES = Path(__file__).with_name("recipes.py")
GROUNDCLI = (sys.executable, "-m", "groundcli")
SHARE = 0.02  # of a GPU's memory, where it is too short
SHORT = """
import sys, torch
from groundcli.__main__ import main
torch.cuda.set_per_process_memory_fraction(float(sys.argv.pop(1)))
main()
"""


def run(what: str, *command: object) -> bool:
    """Runs a command, and prints its last line, or that it failed and why."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    lines = (done.stderr if done.returncode else done.stdout).strip().splitlines() or [""]
    print(f"{what}: {'FAILED: ' if done.returncode else ''}{lines[-1]}", flush=True)
    return not done.returncode


def points(out: Path) -> list[tuple[float, float]]:
    found = json.loads((out / "annotations.json").read_text())["annotations"]
    return [tuple(annotation["keypoints"][:2]) for annotation in found]


def compare(what: str, out: Path, other: Path) -> None:
    """Prints how many points of two runs are the same pixel, and how many phrases both found."""
    one, two = points(out), points(other)
    same = sum(a == b for a, b in zip(one, two, strict=False))
    print(f"{what}: {len(one)} and {len(two)} phrases found, {same} points on the same pixel", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("examples/photos"))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--recipes", nargs="*", default=sorted(path.stem for path in FOLDER.glob("*.toml")))
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=32)
    options = parser.parse_args()
    folder, device, on_gpu = options.folder, options.device, options.device != "cpu"
    sizes = ("--images", options.images, "--batch-size", options.batch_size)
    more = ("--largest-batch",) if on_gpu else ()
    for precision in ("float32", "bf16"):
        for recipe in options.recipes:
            run(precision, sys.executable, RECIPES, recipe, "--device", device, "--precision", precision, *sizes, *more)
    with tempfile.TemporaryDirectory() as place:
        out = Path(place)
        annotate = ("annotate", folder, "--no-overlays", "--no-report", "--runtime", "torch")
        on = ("--device", device, "--out")
        ran = [
            run(f"annotate in {precision}", *GROUNDCLI, *annotate, *on, out / precision, "--precision", precision)
            for precision in ("float32", "bf16")
        ]
        if all(ran):
            compare("bf16 against float32", out / "float32", out / "bf16")
        if on_gpu:
            short = (sys.executable, "-c", SHORT, SHARE, *annotate, *on, out / "short", "--batch-size", 256)
            if run("memory too short for 256 images", *short, "--precision", "float32") and ran[0]:
                compare("memory too short against enough", out / "float32", out / "short")
        data = ("--dataset", "folder", "--data", folder, "--recipe", "lite", *on, out / "ranks")
        few = ("--set", "training.epochs=1", "--set", "training.tuning.epochs=0", "--set", "training.batch_size=4")
        two = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2, "-m", "groundcli", "train")
        run("two processes that train", sys.executable, *two, *data, *few)
        kind = device.partition(":")[0]
        if run("Ray", *GROUNDCLI, *annotate, "--engine", "ray", "--device", kind, "--out", out / "ray") and ran[0]:
            compare("Ray against one process", out / "float32", out / "ray")


if __name__ == "__main__":
    main()
