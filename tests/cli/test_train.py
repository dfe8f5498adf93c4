"""Learning from nothing but pairs: coloured shapes with captions, made here."""

import json
import math
from datetime import datetime, timedelta, timezone
from itertools import chain
from pathlib import Path

import pytest

from groundcli.checkpoint import load
from tests.cli.conftest import Run
from tests.shapes import SIDE, SIZE, draw_shape, write_shapes

QUICK = ["training.epochs=12", "training.tuning.epochs=0", "training.batch_size=32", "training.warmup=2"]
SMALL = ["model.visual.image_size=128", "model.visual.grid=8", "training.image_size=128", "training.grid=8"]
SETTINGS = [word for setting in QUICK + SMALL for word in ("--set", setting)]


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, tuple[int, int, int, int]]]:
    folder = tmp_path_factory.mktemp("shapes")
    return folder, write_shapes(folder)


@pytest.fixture(scope="module")
def run(shapes: tuple[Path, dict], groundcli: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "shapes"
    done = groundcli("train", "--dataset", "folder", "--data", shapes[0], "--out", out, *SETTINGS)
    assert "epoch 12: loss" in done.stdout
    return out


@pytest.mark.slow
def test_the_loss_falls(run: Path) -> None:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "lr" not in line]  # of epochs; steps have a learning rate
    assert len(losses) == 12
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.slow
def test_a_run_can_be_looked_at_and_repeated(run: Path, shapes: tuple[Path, dict]) -> None:
    from PIL import Image
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard")).Reload()
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = {line["step"]: line["loss"] for line in lines if "lr" in line}
    assert {e.step: e.value for e in events.Scalars("train/loss")} == pytest.approx(losses, rel=1e-5)
    with Image.open(run / "curves.png") as picture:
        assert len(picture.convert("RGB").getcolors(1 << 20) or ()) > 4  # curves of several colours
    about = json.loads((run / "run.json").read_text())
    assert about["counts"] == {"images": 32, "validation_images": 0, "steps": 12}
    assert about["command"].startswith("groundcli train --dataset ")
    assert about["arguments"]["data"] == [str(shapes[0])]
    assert about["recipe"]["training"]["epochs"] == 12
    assert abs(datetime.now(timezone.utc) - datetime.fromisoformat(about["date"])) < timedelta(hours=1)


@pytest.mark.slow
def test_points_come_to_lie_where_they_belong(
    run: Path, shapes: tuple[Path, dict], groundcli: Run, tmp_path: Path
) -> None:
    folder, boxes = shapes
    groundcli("annotate", folder, "--weights", run, "--out", tmp_path, "--no-overlays", "--phrases", "caption")
    coco = json.loads((tmp_path / "annotations.json").read_text())
    names = {image["id"]: image["file_name"] for image in coco["images"]}
    hits = []
    for annotation in coco["annotations"]:
        (x, y, _), (x0, y0, x1, y1) = annotation["keypoints"], boxes[names[annotation["image_id"]]]
        hits.append(x0 <= x <= x1 and y0 <= y <= y1)
    chance = SIDE * SIDE / math.prod(SIZE)
    assert sum(hits) / len(hits) > 8 * chance  # 0.67


@pytest.mark.slow
def test_a_checkpoint_carries_its_recipe(run: Path) -> None:
    tensors, metadata = load(run / "best.safetensors")
    assert metadata["recipe"]["training"]["epochs"] == 12
    assert metadata["frozen"].keys() == {"efficientnet_lite2", "minilm_words"}
    assert all(name.startswith("model/") for name in tensors)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--set", "training.epoch=3"], 2, "unknown key training.epoch; did you mean training.epochs?"),
        (["--set", "training.epochs=many"], 2, "training.epochs = 'many' is of the wrong type; expected int"),
        (["--data", "SILENT"], 3, "put NAME.txt beside NAME.jpg, a caption per line, or give --captions\n"),
        (["--dataset", "flickr"], 2, "--dataset flickr: expected coco, coco_categories, flickr30k, folder"),
        (["--weight", "1", "--weight", "2"], 2, "2 --weight for 1 folders; expected none, or one per folder"),
        (["--evaluation", "flickr30k"], 2, "--evaluation flickr30k: expected DATASET=DIR"),
        (["--recipe", "heavy"], 3, "heavy: no recipe of this name"),
    ],
)
def test_bad_input_is_one_line(
    groundcli: Run, shapes: tuple[Path, dict], tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    silent = tmp_path / "silent"
    silent.mkdir()
    draw_shape("red", "circle", (0, 0)).save(silent / "a.png")
    source = {"--dataset": "folder", "--data": shapes[0]}
    if arguments[0] in source:
        source[arguments[0]], arguments = {"SILENT": silent}.get(arguments[1], arguments[1]), arguments[2:]
    given = [*chain.from_iterable(source.items()), "--out", tmp_path / "out"]
    done = groundcli("train", *given, *SETTINGS, *arguments, code=code)
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_a_batch_is_no_larger_than_the_data(
    groundcli: Run, shapes: tuple[Path, dict], run: Path, tmp_path: Path
) -> None:
    given = ["--dataset", "folder", "--data", shapes[0], "--out", tmp_path, "--cache-features", run / "features"]
    done = groundcli("train", *given, *SETTINGS, "--set", "training.batch_size=64", "--set", "training.epochs=1")
    assert "batches of 32, not 64: there are 32 images" in done.stdout
    about = json.loads((tmp_path / "run.json").read_text())
    assert about["recipe"]["training"]["batch_size"] == 32
    assert about["counts"]["steps"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("command", ["train", "finetune"])
def test_few_images_make_small_batches(groundcli: Run, shapes: tuple[Path, dict], tmp_path: Path, command: str) -> None:
    given = {"train": ["train", "--dataset", "folder", "--data", shapes[0]], "finetune": ["finetune", shapes[0]]}
    settings = [word for text in QUICK + SMALL if "batch_size" not in text for word in ("--set", text)]
    done = groundcli(*given[command], "--out", tmp_path, *settings, "--set", "training.epochs=1")
    count = {"train": 32, "finetune": 24}[command]
    assert f"batches of 16, not 128: there are {count} images\n" in done.stdout


@pytest.mark.slow
def test_a_run_is_not_overwritten(groundcli: Run, shapes: tuple[Path, dict], run: Path) -> None:
    done = groundcli("train", "--dataset", "folder", "--data", shapes[0], "--out", run, *SETTINGS, code=2)
    assert "holds a run already: add --resume" in done.stderr
