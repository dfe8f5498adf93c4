"""The learning rate as a function of the step; what a run does as a whole is tested by the command line."""

import pytest

from groundcli.training.loop import paper_steps, warmup_cosine


@pytest.mark.parametrize(
    ("step", "rate"),
    [(0, 0.1), (4, 0.5), (9, 1.0), (10, 1.0), (55, 0.5), (100, 0.0)],  # half of the cosine's way is half of the rate
)
def test_it_rises_over_the_warm_up_and_falls_to_zero(step: int, rate: float) -> None:
    assert warmup_cosine(step, 100, 1.0, 10) == pytest.approx(rate)


def test_a_short_run_comes_to_its_highest_rate() -> None:
    rates = [warmup_cosine(step, 8, 1.0, 60) for step in range(8)]
    assert rates[:3] == [0.5, 1.0, 1.0]


def test_without_a_warm_up() -> None:
    assert warmup_cosine(0, 2, 1.0, 60) == 1.0


def test_the_papers_steps() -> None:
    assert [paper_steps(step, 20, 1.0, 0) for step in (0, 8, 9, 13, 14, 19)] == [1, 1, 0.5, 0.5, 0.25, 0.25]
