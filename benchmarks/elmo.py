"""Our ELMo against AllenNLP's, at the size of the published original: 93.6 million weights, here random.

    python benchmarks/elmo.py

Both run in turn, so that a machine that slows down slows both. Printed: seconds of forward, and of forward and
backward (medians), and the ratio of both. Where AllenNLP isn't installed its figures are left out.
"""

import argparse
import random
import statistics
import string
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from groundcli.errors import GroundcliError
from groundcli.model.elmo import Elmo
from groundcli.weights.elmo import AllenNlpElmo, save_elmo
from groundcli.weights.store import PUBLISHED


def captions(number: int) -> list[list[str]]:
    """Captions of 6 to 20 made-up words, the same every time; few words are frequent and most rare, as in real ones."""
    draw = random.Random(0)
    words = ["".join(draw.choices(string.ascii_lowercase, k=draw.randint(1, 9))) for _ in range(1000)]
    frequencies = [1 / rank for rank in range(1, 1001)]
    return [draw.choices(words, frequencies, k=draw.randint(6, 20)) for _ in range(number)]


def seconds(run: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", type=torch.device, default="cpu")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    config = PUBLISHED["elmo_original"].elmo
    assert config is not None
    ours = Elmo(config)
    elmos: dict[str, nn.Module] = {"ours": ours}
    try:
        with tempfile.TemporaryDirectory() as folder:
            save_elmo(ours, Path(folder))
            elmos["allennlp"] = AllenNlpElmo(Path(folder))
    except GroundcliError as error:
        print(error)
    batch = captions(arguments.batch)
    words = [word for caption in batch for word in caption]
    print(f"{len(batch)} captions of {len(words)} words, {len(set(words))} distinct;", end=" ")
    print(f"{arguments.device}, threads={torch.get_num_threads()}")

    @torch.no_grad()
    def forward(elmo: nn.Module) -> None:
        elmo(batch)

    def both(elmo: nn.Module) -> None:
        words, sentences = elmo(batch)
        sum(layer.sum() for layer in words + sentences).backward()
        elmo.zero_grad()

    for elmo in elmos.values():
        elmo.to(arguments.device).requires_grad_(True)
    for task in (forward, both):
        pairs = []
        for _ in range(arguments.repeats + 1):
            pairs.append([seconds(lambda: task(elmo), arguments.device) for elmo in elmos.values()])  # noqa: B023
        medians = [statistics.median(column) for column in zip(*pairs[1:], strict=True)]  # the first is to warm up
        line = ", ".join(f"{name} {s:.3f} s" for name, s in zip(elmos, medians, strict=True))
        if len(elmos) == 2:
            line += f", allennlp / ours {statistics.median(a / o for o, a in pairs[1:]):.2f} (median of pairs)"
        print(f"{'forward' if task is forward else 'forward and backward'}: {line}")


if __name__ == "__main__":
    main()
