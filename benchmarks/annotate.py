"""What annotate takes, end to end, over torch's bare forward of the CNN on the same images: seconds and their ratio.

    python benchmarks/annotate.py FOLDER [--weights NAME] [--device cuda] [--precision int8] [--workers N] [--repeats N]

All run in turn, so that a machine that slows down slows all; printed are the medians. The CNN's images are decoded and
resized beforehand; on CPUs each core takes an image, as annotate's do.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

BATCH = 8


def main() -> None:
    # Imported here, as workers run what stands above once more: the command's own have nothing to import there.
    from timing import as_matrix_products, look_at, print_in_turn

    from groundcli import Grounder
    from groundcli.annotation import AnnotateOptions
    from groundcli.annotation.run import annotate
    from groundcli.data import find
    from groundcli.data.images import decode, resize
    from groundcli.parallel import cores

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", default="lite")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    found = find.load([options.folder])
    grounder = Grounder.load(options.weights, options.device, options.precision)
    torch = Grounder.load(options.weights, options.device, runtime="torch").runtime
    side = grounder.config.visual.image_size
    pixels = [resize(decode(sample.image), side) for sample in found.samples]

    def whole(overlays: bool) -> None:
        with tempfile.TemporaryDirectory() as place:
            about = {name: getattr(options, name) for name in ("weights", "device", "precision", "workers")}
            pictures = {"overlays": overlays, "report": False}
            out = Path(place) / "out"
            annotate(
                AnnotateOptions.make(images=options.folder, out=out, batch_size=BATCH, **about, **pictures),
                grounder=grounder,
            )

    forms: dict[str, Callable[[], None]] = {
        "CNN by torch": lambda: look_at(pixels, torch, BATCH),
        f"CNN by {grounder.runtime.name}, {options.precision}": lambda: look_at(pixels, grounder.runtime, BATCH),
        "annotate, JSON only": lambda: whole(False),
        "annotate, overlays": lambda: whole(True),
    }
    if grounder.on_cpu:
        forms["the CNN's FLOP in matrix products"] = as_matrix_products(pixels, torch)
    whole(True)  # loads spaCy, warms up
    print_in_turn(forms, options.repeats, len(pixels), f"{cores()} cores")


if __name__ == "__main__":
    main()
