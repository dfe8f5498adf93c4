"""What grows with the number of photographs that annotate is given: nothing but the disk should.

    python benchmarks/growth.py [--no-overlays] [COUNT ...]

COUNT is 100, 1,000 and 10,000 by default; 100,000 takes half an hour or so without overlays. Photographs are generated,
64 pixels wide, with a caption of one phrase, and the model is a small one with random weights: what grows does so with
any model. The journal, pictures, the report and all other outputs of the default are made. Each count runs in a process
of its own.
Printed are milliseconds per photograph, those per photograph beyond the count before (without the start), peak resident
memory, what the run left on the disk, and how busy the machine was.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COUNTS = (100, 1_000, 10_000)
SMALL = [
    *('model.visual.backbone="vit_tiny_patch16_224"', 'model.visual.levels=["blocks.5", "blocks.11"]'),
    *("model.visual.image_size=64", "model.visual.grid=4", "model.visual.output_stride=0"),
    *("model.visual.tuned=[]", "training.tuning.epochs=0"),
]


def run(photographs: Path, out: Path, overlays: bool) -> None:
    # Imported here, as the process that starts the runs needs none of it.
    from groundcli.annotation import AnnotateOptions
    from groundcli.annotation.run import annotate
    from groundcli.devices import TorchRuntime, torch_device
    from groundcli.grounder import Grounder
    from groundcli.recipe import load_recipe
    from groundcli.weights.load import new_model

    model, _ = new_model(load_recipe("lite", SMALL).model, untrained=0)
    grounder = Grounder(TorchRuntime(model, torch_device("cpu"), "float32"))
    counts = annotate(AnnotateOptions.make(images=photographs, out=out, overlays=overlays), grounder=grounder).counts
    if counts.done != counts.found:
        sys.exit(str(counts))


def measure(count: int, overlays: bool) -> tuple[float, float, int]:
    """Seconds, MiB at the highest, and bytes of the files that the run wrote."""
    from memory import photographs

    with tempfile.TemporaryDirectory() as place:
        folder, out = Path(place) / "photographs", Path(place) / "out"
        folder.mkdir()
        photographs(count, (64, 48), captions="[a man] on a brown horse\n")(folder)
        start = time.perf_counter()
        how = [] if overlays else ["--no-overlays"]
        process = subprocess.Popen([sys.executable, __file__, "--run", folder, out, *how])
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        if status:
            sys.exit(f"{count} photographs: ended with {os.waitstatus_to_exitcode(status)}")
        written = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
        return seconds, usage.ru_maxrss / 2**10, written


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("counts", nargs="*", type=int, metavar="COUNT", default=COUNTS)
    parser.add_argument("--no-overlays", action="store_false", dest="overlays")
    parser.add_argument("--run", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        return run(*options.run, options.overlays)
    count_before, seconds_before = 0, 0.0
    print("photographs  ms each  ms beyond  peak MiB  disk KiB each  load")
    for count in sorted(set(options.counts)):
        seconds, peak, written = measure(count, options.overlays)
        beyond = 1000 * (seconds - seconds_before) / (count - count_before)
        each = f"{1000 * seconds / count:7.1f}  {beyond:9.1f}  {peak:8,.0f}  {written / 2**10 / count:13.1f}"
        print(f"{count:11,}  {each}  {os.getloadavg()[0]:4.1f}", flush=True)
        count_before, seconds_before = count, seconds


if __name__ == "__main__":
    main()
