"""What training can be told, and what is refused before torch is imported."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from groundcli.errors import GroundcliError, UsageError
from groundcli.training import FinetuneOptions, PretrainElmoOptions, Source, TrainOptions


def train(**more: Any) -> TrainOptions:
    return TrainOptions.make(**{"dataset": "folder", "data": ["a", "b"], "out": "out", **more})


def test_every_folder_has_a_data_set_and_a_weight() -> None:
    assert train().sources == [Source("folder", Path("a"), 1.0), Source("folder", Path("b"), 1.0)]
    both = train(dataset=["coco", "flickr30k"], data=["a", "a"])  # two data sets may lie in one folder
    assert both.sources == [Source("coco", Path("a"), 1.0), Source("flickr30k", Path("a"), 1.0)]
    named = train(dataset=["coco", "folder"], weight=[1, 0.5])
    assert named.sources == [Source("coco", Path("a"), 1.0), Source("folder", Path("b"), 0.5)]
    assert FinetuneOptions.make(data="a", out="out").sources == [Source("folder", Path("a"), 1.0)]
    compared = train(evaluation=["flickr30k=x=y"]).compared
    assert compared == [Source("flickr30k", Path("x=y"), 1.0)]


@pytest.mark.parametrize(
    ("text", "interval"), [("10m", (600.0, 0)), ("1m", (60.0, 0)), ("500", (0.0, 500)), ("3", (0.0, 3))]
)
def test_how_often_the_state_is_saved(text: str, interval: tuple[float, int]) -> None:
    assert train(save_every=text).save_interval == interval


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"dataset": "flickr"}, "--dataset flickr: expected coco, coco_categories, flickr30k, folder, "),
        ({"dataset": ["coco"] * 3}, "3 --dataset for 2 folders; expected one, or one per folder"),
        ({"weight": [1.0]}, "1 --weight for 2 folders; expected none, or one per folder"),
        ({"weight": [1, 0]}, "--weight 0.0: expected 0.001 to 1,000"),
        ({"save_every": "0m"}, "--save-every 0m: expected minutes such as 10m, or a number of steps"),
        ({"save_every": "often"}, "--save-every often: expected minutes such as 10m, or a number of steps"),
        (
            {"dataset": "coco", "captions": "a.csv"},
            "--captions: data sets have their own; it goes with --dataset folder",
        ),
        ({"image_column": "photo"}, "--image-column, --caption-column: of which file? Name it with --captions"),
        ({"data": ["a", "./a"]}, "a folder to learn from is named twice; --weight 2 shows its images twice as often"),
        ({"split": "all"}, "--split: of a data set; a folder has none"),
        ({"limit": 1}, "--limit 1: expected 2 or more"),
        ({"evaluation": "flickr30k"}, "--evaluation flickr30k: expected DATASET=DIR"),
        ({"evaluation": "folder=a"}, "--evaluation folder=a: expected DATASET=DIR"),
        ({"settings": "training.epoch=3"}, "unknown key training.epoch; did you mean training.epochs?"),
        (
            {"untrained": True, "recipe": "vgg16_elmo", "settings": "model.text.elmo_backend=allennlp"},
            "--untrained: model.text.elmo_backend=allennlp reads an ELMo from files; there are none",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_what_contradicts_itself(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as error:
        train(**given)
    assert message in str(error.value)


def test_typos() -> None:
    with pytest.raises(GroundcliError, match="heavy: no recipe of this name"):
        train(recipe="heavy")
    with pytest.raises(UsageError, match=r"unknown key training\.epoch; did you mean training\.epochs\?"):
        FinetuneOptions.make(data="a", out="out", settings="training.epoch=3")
    with pytest.raises(UsageError, match="--train legs: expected heads, text, top-levels"):
        FinetuneOptions.make(data="a", out="out", train="legs")
    with pytest.raises(UsageError, match="--epochs 0: expected 1 or more"):
        PretrainElmoOptions.make(captions="a", out="out", epochs=0)


@pytest.mark.parametrize(
    "command",
    [
        ["train", "--dataset", "folder", "--data", "a", "--out", "out", "--set", "training.epoch=3"],
        ["train", "--dataset", "folder", "--data", "a", "--out", "out", "--recipe", "heavy"],
        ["finetune", "a", "--out", "out", "--set", "training.epoch=3"],
    ],
    ids=["setting", "recipe", "finetune"],
)
def test_a_typo_is_answered_before_torch_is_imported(command: list[str]) -> None:
    code = (
        "import sys; from groundcli.__main__ import main\n"
        "try: main()\n"
        "except SystemExit as end: print(end.code in (2, 3), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=False)
    assert done.stdout == "True False\n", done.stderr
