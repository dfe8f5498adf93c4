"""The loss over all B x B pairs: attended features formed one by one, against the Gram identity.

    python benchmarks/loss.py

Each form runs in a process of its own, so that the peak memory is its own, and in turn, so that a machine that
slows down slows both. Printed: seconds of forward and backward (median), peak resident memory over that of the inputs,
and the ratio of both.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time

import torch
import torch.nn.functional as F
from torch import Tensor

from groundcli.model.attention import pairwise_scores


def plain_scores(v: Tensor, s: Tensor) -> Tensor:
    """The paper's equations as they stand: cells (B, L, N, D), words (1, U, D) -> (B, U, L)."""
    heat = torch.einsum("blnd,ud->buln", v, s[0]).relu()
    attended = F.normalize(torch.einsum("buln,blnd->buld", heat, v), dim=-1)
    return torch.einsum("buld,ud->bul", attended, s[0])


FORMS = {"plain": plain_scores, "gram": pairwise_scores}


def one(form: str, batch: int, words: int, cells: int, levels: int, width: int, repeats: int) -> None:
    torch.manual_seed(0)
    v = F.normalize(torch.randn(batch, levels, cells, width), dim=-1).requires_grad_()
    s = F.normalize(torch.randn(1, batch * words, width), dim=-1).requires_grad_()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        scores = FORMS[form](v, s)
        scores.logsumexp(1).sum().backward()
        seconds.append(time.perf_counter() - start)
        v.grad = s.grad = None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(statistics.median(seconds), peak / 1024**2, float(scores.detach().mean()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = {"batch": 32, "words": 20, "cells": 324, "levels": 4, "width": 1024, "repeats": 3}
    for name, value in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--form", choices=FORMS, help=argparse.SUPPRESS)
    arguments = vars(parser.parse_args())
    form = arguments.pop("form")
    if form:
        one(form, **arguments)
        return
    print(" ".join(f"{k}={v}" for k, v in arguments.items()), f"threads={torch.get_num_threads()}")
    figures: dict[str, list[list[float]]] = {"plain": [], "gram": []}
    for _ in range(3):
        for form, rows in figures.items():
            options = [f"--{k}={v}" for k, v in arguments.items()]
            command = [sys.executable, __file__, f"--form={form}", *options]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            rows.append([float(x) for x in done.stdout.split()])
    for form, rows in figures.items():
        seconds, memory, mean = (statistics.median(column) for column in zip(*rows, strict=True))
        print(f"{form:6} {seconds:7.2f} s {memory:6.2f} GiB   mean score {mean:.6f}")
    ratios = [(p[0] / g[0], p[1] / g[1]) for p, g in zip(figures["plain"], figures["gram"], strict=True)]
    time_ratio, memory_ratio = (statistics.median(column) for column in zip(*ratios, strict=True))
    print(f"plain / gram: time {time_ratio:.2f}, memory {memory_ratio:.2f} (medians of pairs)")


if __name__ == "__main__":
    main()
