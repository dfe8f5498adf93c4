import importlib.util
import shlex
import typing
from pathlib import Path
from typing import Any

import pytest

from groundcli.data import DATASETS
from groundcli.errors import UsageError
from groundcli.evaluation import CalibrateOptions, EvaluateOptions
from tests.evaluation.fixtures import options


def test_every_data_set_can_be_evaluated() -> None:
    assert {*typing.get_args(typing.get_type_hints(EvaluateOptions)["dataset"])} == DATASETS.keys()


def test_the_command_gives_the_same_options() -> None:
    told = options(ablations=True, settings=("model.fusion=best", "model.smooth=true"), json=Path("a b.json"))
    assert shlex.split(told.command) == [
        *("groundcli", "eval", "--set", "model.fusion=best", "--set", "model.smooth=true"),
        *("--dataset", "folder", "--data", ".", "--ablations", "--boxes", "extents", "--json", "a b.json"),
    ]


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"predictions": Path("p"), "ablations": True}, "--predictions: --ablations"),
        ({"rows": Path("rows.json")}, "--rows rows.json: expected a name that ends in .csv or .parquet"),
        ({"tolerance": -1}, "--tolerance -1: expected 0 or more"),
        ({"predictions": Path("p"), "weights": "mine"}, "--predictions and --weights: whose answers"),
    ],
)
def test_contradictions(told: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        options(**told)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"out": "mine"}, "--out mine: expected a name that ends in .safetensors"),
        ({"runtime": "onnx"}, "--runtime onnx: what is fitted is computed by torch"),
        ({"dataset": ["coco", "coco"]}, "2 --dataset for 1 folders; expected one per folder"),
    ],
)
def test_what_calibrate_refuses(told: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        CalibrateOptions.make(**{"dataset": "coco", "data": "a", "out": "mine.safetensors", **told})


def test_parquet_needs_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr("groundcli.evaluation.find_spec", importlib.util.find_spec)
    with pytest.raises(UsageError, match=r"--rows a\.parquet: needs pyarrow; .*groundcli\[parquet\]"):
        options(rows=Path("a.parquet"))
    assert options(rows=Path("a.csv")).rows == Path("a.csv")
