from typing import Any

from rich.console import Console

from groundcli.evaluation.tables import tables

SUMMARY: dict[str, Any] = {
    "protocol": "authors",
    "images": 247,
    "phrases": 2694,
    "skipped": {"no_box": 385},
    "pointing": {
        "accuracy": 0.6923,
        "ci95": [0.67, 0.71],
        "center": 0.474,
        "random": 0.2765,
        "by_category": {"people": {"accuracy": 0.8, "center": 0.7, "phrases": 1074}},
    },
    "attention_correctness": 0.5,
    "iou_accuracy": 0.1508,
    "box_recall": {"R@1": 0.1, "R@5": 0.2, "R@10": 0.3},
    "levels": {"conv5_1": 0.25, "conv5_3": 0.75},
}


def shown(summary: dict[str, Any]) -> str:
    console = Console(width=100)
    with console.capture() as capture:
        console.print(tables(summary))
    return capture.get()


def test_numbers_stand_beside_their_protocol() -> None:
    text = shown(SUMMARY | {"dataset": "flickr30k", "split": "val", "weights": "lite"})
    assert "flickr30k val lite, protocol authors, 2,694 phrases of 247 images" in text
    for number in ("69.23", "67.00 to 71.00", "47.40", "27.65", "80.00", "1,074", "15.08", "385", "75.00", "summed"):
        assert number in text


def test_tolerance_is_shown() -> None:
    assert "tolerance" not in shown(SUMMARY)
    assert "tolerance 15 px" in shown(SUMMARY | {"pointing": SUMMARY["pointing"] | {"tolerance": 15}})


def test_what_is_empty_has_no_table() -> None:
    pointing = SUMMARY["pointing"] | {"by_category": {}}
    text = shown(SUMMARY | {"pointing": pointing, "skipped": {}, "levels": {}})
    assert "category" not in text
    assert "skipped" not in text
    assert "level chosen" not in text
