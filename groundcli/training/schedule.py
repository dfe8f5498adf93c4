"""Learning rates as functions of the step."""

import math


def warmup_cosine(step: int, steps: int, peak: float, warmup: int) -> float:
    """Rises linearly over `warmup` steps, but a quarter of all at most, then falls to zero along half a cosine."""
    warmup = min(warmup, steps // 4)
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def paper_steps(step: int, steps: int, peak: float, warmup: int) -> float:
    """The paper's: halved after 9 of 20 epochs and quartered after 14."""
    return peak * (1.0 if step < steps * 9 / 20 else 0.5 if step < steps * 14 / 20 else 0.25)


SCHEDULES = {"cosine": warmup_cosine, "paper": paper_steps}
