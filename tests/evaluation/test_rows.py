import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from groundcli.data import Caption, Sample
from groundcli.evaluation import rows as evaluation
from groundcli.evaluation.metrics import Truth
from groundcli.evaluation.rows import NUMBERS, PHRASE, SYSTEM, Rows
from groundcli.evaluation.summary import summarize
from groundcli.evaluation.systems import EVALUATED, Predictions
from tests.evaluation.fixtures import DAY, DOG, LEFT, MAN, RIGHT, SAMPLE, TEXT, collect, options, predicted
from tests.shapes import draw_shape

SYSTEMS = [
    *(("baselines", name) for name in ("center", "whole_image", "random")),
    *(("evaluated", "lite"), ("compared", "theirs")),
]


class Anywhere:
    """A system that points at the same place in all images."""

    name, levels = "anywhere", ()

    def __init__(self, side: int = 8, threads: int = 2) -> None:
        self.side, self.threads = side, threads
        self.asked: list[int] = []

    def __call__(self, pixels: Sequence[np.ndarray], truths: Sequence[Truth]) -> list[Predictions]:
        assert [array.shape for array in pixels] == [(self.side, self.side, 3)] * (len(truths) if self.side else 0)
        self.asked.append(len(truths))
        return [{(EVALUATED, self.name): predicted(*[(10, 10)] * len(truth.phrases))} for truth in truths]


def both() -> Rows:
    ours = [predicted((10, 10), (10, 10), boxes=[[RIGHT, LEFT], []], levels=[0, 1])] * 2
    return collect(ours, compared=[predicted((65, 65), (65, 65))] * 2)


def test_a_row_for_each_phrase_and_system() -> None:
    table = both().table(("early", "late"))
    assert [*table.columns] == [*PHRASE, *SYSTEM, *NUMBERS, "level"]
    assert len(table) == 5 * 2 * 2  # systems, images, phrases with boxes
    assert [*table.groupby([*SYSTEM], observed=True, sort=False).size().items()] == [(key, 4) for key in SYSTEMS]
    ours = table[table["group"] == "evaluated"]
    assert ours["image"].tolist() == ["photos/a.jpg"] * 2 + ["photos/a.jpg1"] * 2
    man, dog = (ours.iloc[i] for i in range(2))
    assert [man[key] for key in ("file", "caption", "caption_text", "phrase", "start", "end", "category")] == [
        *("a.jpg", 0, TEXT, "a man", 0, 5, "people")
    ]
    assert [tuple(box) for box in json.loads(man["true_boxes"])] == [LEFT]
    assert [man[key] for key in ("hit", "iou", "any_rank", "score", "x", "y", "boxes", "level")] == [
        *(1, 0.5, 2, 0.5, 10, 10, 2, "early")
    ]
    assert [man[f"box_{side}"] for side in ("x", "y", "width", "height")] == [*RIGHT]
    assert (dog["hit"], dog["iou"], dog["any_rank"], dog["boxes"], dog["level"]) == (0, 0, np.inf, 0, "late")
    assert np.isnan(dog["box_x"])
    center = table[table["system"] == "center"].iloc[0]
    assert (center["hit"], center["x"], center["y"]) == (1, 50, 50)
    assert center[["attention", "iou", "any_rank", "score", "boxes", "level"]].isna().all()
    assert table[table["system"] == "random"]["hit"].tolist() == [0.5, 0.01] * 2


def test_names_stand_in_the_order_of_the_docstring() -> None:
    many = replace(SAMPLE, captions=(Caption(TEXT, (MAN, DOG, DOG, replace(MAN, category=""))),))
    table = collect([predicted(*[(0, 0)] * 4, levels=[1, 1, 1, 0])], many).table(("late", "early"))
    assert table["category"].cat.categories.tolist() == ["animals", "people"]  # the largest first
    assert table["phrase"].cat.categories.tolist() == ["a man", "a dog"]
    assert table["level"].cat.categories.tolist() == ["late", "early"]
    assert table["category"].isna().sum() == len(table) / 4


def test_the_table_read_back_gives_the_summary(tmp_path: Path) -> None:
    rows = both()
    table = rows.table(("early", "late"))
    table.to_csv(tmp_path / "rows.csv", index=False)
    again = pd.read_csv(tmp_path / "rows.csv")
    assert [*again.columns] == [*table.columns]
    assert again[NUMBERS].to_numpy(float) == pytest.approx(table[NUMBERS].to_numpy(float), nan_ok=True)
    found = summarize(table, rows.skipped, rows.options)
    hits = again.groupby(SYSTEM)["hit"].mean()
    assert hits["evaluated", "lite"] == found["pointing"]["accuracy"] == 0.5
    assert hits["compared", "theirs"] == found["compared"]["pointing"]["accuracy"]
    assert hits["baselines", "center"] == found["pointing"]["center"]
    assert hits["baselines", "random"] == found["pointing"]["random"]
    ours = again[again["group"] == "evaluated"]
    by_category = {name: numbers["accuracy"] for name, numbers in found["pointing"]["by_category"].items()}
    assert ours.groupby("category")["hit"].mean().to_dict() == by_category
    assert (ours["any_rank"] <= 5).mean() == found["box_recall"]["R@5"]
    assert (ours["iou"] >= 0.5).mean() == found["iou_accuracy"]


def test_a_table_of_nothing_is_empty() -> None:
    assert Rows(options()).table().empty


def written(folder: Path, count: int) -> list[Sample]:
    """So many images; of each fourth the file is broken, of each fourth no phrase has a box."""
    samples = []
    for number in range(count):
        path = folder / f"{number}.png"
        if number % 4 == 1:
            path.write_bytes(b"")
        else:
            draw_shape("red", "circle", (10, 10)).save(path)
        caption = Caption(TEXT, (DAY,) if number % 4 == 2 else (MAN, DOG, DAY))
        samples.append(Sample(path.name, path, (caption,)))
    return samples


def test_images_go_through_in_order_and_those_that_cannot_be_used_are_counted(tmp_path: Path) -> None:
    samples, system, other = written(tmp_path, 24), Anywhere(), Anywhere(side=0, threads=1)
    shown: list[Any] = []

    def progress(items: Sequence[Sample], total: int) -> Any:
        assert total == 24
        for item in items:
            shown.append(item)
            yield item

    rows = evaluation.collect(samples, options(), system, other, progress)  # type: ignore[arg-type]
    assert shown == samples
    assert rows.skipped == {"image_failed": 6 * 3, "no_box": 6 + 12}
    table = rows.table()
    wanted = [sample.name for i, sample in enumerate(samples) if i % 4 in (0, 3) for _ in range(2)]
    for group in ("evaluated", "compared"):
        assert table[table["group"] == group]["image"].tolist() == wanted
    assert table[table["group"] == "compared"]["level"].isna().all()  # the other's may have other names
    assert system.asked == [1] * 12  # in lanes an image at a time

    alone = Anywhere(threads=1)
    evaluation.collect(samples, options(), alone)  # type: ignore[arg-type]
    assert alone.asked == [evaluation.BATCH] * 3
