"""What eval takes, end to end, over torch's bare forward of the CNN on the same images: seconds and their ratio.

    python benchmarks/evaluate.py FLICKR30K [--weights NAME] [--device NAME] [--precision NAME] [--repeats N]

All run in turn, so that a machine that slows down slows all; printed are the medians. Eval is everything but loading
the weights: decoding, the captions, heat maps, points, boxes by every method, the table, all metrics, baselines and
intervals. The CNN's images are decoded and resized beforehand, and go through it as eval's do.
"""

import argparse
import cProfile
import pstats
from pathlib import Path

from timing import look_at, print_in_turn

from groundcli import Grounder, data
from groundcli.data.images import decode, resize
from groundcli.evaluation import EvaluateOptions
from groundcli.evaluation.rows import BATCH, collect
from groundcli.evaluation.summary import summarize
from groundcli.evaluation.systems import GrounderSystem
from groundcli.parallel import cores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--split", default="val")
    parser.add_argument("--weights", default="lite")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--limit", type=int, default=None, help="the first so many images only")
    parser.add_argument("--profile", action="store_true", help="where the time of one more eval goes")
    options = parser.parse_args()
    samples = data.load("flickr30k", options.data, options.split)[: options.limit]
    grounder = Grounder.load(options.weights, options.device, options.precision)
    torch = Grounder.load(options.weights, options.device, runtime="torch").runtime
    pixels = [resize(decode(sample.image), grounder.config.visual.image_size) for sample in samples]

    def whole() -> None:
        about = EvaluateOptions.make(dataset="flickr30k", data=options.data, split=options.split)
        system = GrounderSystem(grounder)
        rows = collect(samples, about, system)
        summarize(rows.table(system.levels), rows.skipped, about)

    forms = {
        "CNN by torch": lambda: look_at(pixels, torch, BATCH),
        f"CNN by {grounder.runtime.name}, {options.precision}": lambda: look_at(pixels, grounder.runtime, BATCH),
        "eval": whole,
    }
    look_at(pixels[:BATCH], torch, BATCH)  # warms up
    print_in_turn(forms, options.repeats, len(pixels), f"{cores()} cores")
    if options.profile:
        with cProfile.Profile() as profile:
            whole()
        pstats.Stats(profile).sort_stats("cumulative").print_stats("groundcli|ndimage", 30)


if __name__ == "__main__":
    main()
