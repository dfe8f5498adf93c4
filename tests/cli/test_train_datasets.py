"""Learning from data sets with boxes for validation, and from several at once."""

import io
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from groundcli.checkpoint import load
from tests.cli.conftest import Run
from tests.shapes import SIZE, write_flickr30k, write_shapes

pytestmark = pytest.mark.slow
SETTINGS = [
    word
    for setting in (
        "training.epochs=2", "training.tuning.epochs=0", "training.batch_size=4", "training.warmup=2",
        "model.visual.image_size=64",
        "model.visual.grid=4", "training.image_size=64", "training.grid=4",
    )
    for word in ("--set", setting)
]  # fmt: skip


@pytest.fixture(scope="module")
def flickr30k(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "flickr30k"
    write_flickr30k(root, {"train": 8, "val": 5, "test": 3})
    return root


@pytest.fixture(scope="module")
def run(flickr30k: Path, groundcli: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """From the data set, and a folder of 16 images twice an epoch."""
    place = tmp_path_factory.mktemp("run")
    write_shapes(place / "shapes", copies=2)
    sources = ["--dataset", "flickr30k", "--data", flickr30k, "--dataset", "folder", "--data", place / "shapes"]
    done = groundcli("train", *sources, "--weight", 1, "--weight", 2, "--out", place / "out", *SETTINGS)
    assert "24 images to learn from" in done.stdout
    assert "5 images to choose the best epoch by" in done.stdout
    assert "no image to learn from is in flickr30k val (5 images), flickr30k test (3 images)" in done.stdout
    kind = place / "out" / "features"
    assert f"{kind}/" in done.stdout
    assert "GB for features of 24 images" in done.stdout
    assert "epoch 2: loss" in done.stdout
    return place / "out"


def test_several_data_sets_and_their_weights(run: Path) -> None:
    about = json.loads((run / "run.json").read_text())
    assert about["source"] == "flickr30k, train split: 8 images; a folder: 16 images, weight 2"
    assert about["counts"] == {"images": 24, "validation_images": 5, "steps": 20}
    assert about["arguments"]["weight"] == [1.0, 2.0]


def test_pointing_chooses_the_best_epoch(run: Path) -> None:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    found = [line["pointing_accuracy"] for line in lines if "lr" not in line]
    assert len(found) == 2
    assert load(run / "best.safetensors")[1]["best"] == max(found)


def test_overlays_of_the_same_validation_images_after_every_epoch(run: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard")).Reload()
    assert events.Tags()["images"] == [f"Flickr30k_Images/{number}.jpg" for number in range(1008, 1012)]
    for name in events.Tags()["images"]:
        assert [event.step for event in events.Images(name)] == [10, 20]
        with Image.open(io.BytesIO(events.Images(name)[-1].encoded_image_string)) as picture:
            assert picture.width >= SIZE[0]
            assert len(picture.convert("RGB").getcolors(1 << 20) or ()) > 50  # grey, one shape, and what is drawn
    accuracy = [event.value for event in events.Scalars("validation/pointing_accuracy")]
    assert len(accuracy) == 2


@pytest.mark.parametrize("split", ["val", "test"])
def test_images_of_any_evaluation_split_are_refused(
    flickr30k: Path, groundcli: Run, tmp_path: Path, split: str
) -> None:
    root = tmp_path / "flickr30k"
    shutil.copytree(flickr30k, root)
    held = (root / f"Flickr30k_Splits/{split}.txt").read_text().split()[0]
    (root / f"Flickr30k_Images/{held}.jpg").rename(tmp_path / "held.jpg")
    shutil.copy(root / "Flickr30k_Images/1000.jpg", root / f"Flickr30k_Images/{held}.jpg")  # another name
    given = ["train", "--dataset", "flickr30k", "--data", root, "--out", tmp_path / "run", *SETTINGS]
    done = groundcli(*given, code=2)
    assert f"1 images to learn from are also in flickr30k {split}: Flickr30k_Images/1000.jpg" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    groundcli(*given, "--set", "training.epochs=1", "--allow-evaluation-images")


def test_a_folder_is_compared_with_named_evaluation_data(flickr30k: Path, groundcli: Run, tmp_path: Path) -> None:
    write_shapes(tmp_path / "shapes", copies=2)
    shutil.copy(flickr30k / "Flickr30k_Images/1015.jpg", tmp_path / "shapes/red_circle_0.png")
    common = ["finetune", tmp_path / "shapes", "--out", tmp_path / "run", *SETTINGS]
    done = groundcli(*common, "--evaluation", f"flickr30k={flickr30k}", code=2)
    assert "are also in flickr30k test" in done.stderr


def test_without_a_validation_split(flickr30k: Path, groundcli: Run, tmp_path: Path) -> None:
    root = tmp_path / "flickr30k"
    shutil.copytree(flickr30k, root)
    (root / "Flickr30k_Splits/val.txt").unlink()
    given = ["train", "--dataset", "flickr30k", "--data", root, "--out", tmp_path / "run", *SETTINGS]
    done = groundcli(*given, code=3)
    assert "To learn without choosing an epoch, add --set training.validate_every=0" in done.stderr
    groundcli(*given, "--set", "training.validate_every=0")


def test_mirrored_images(flickr30k: Path, groundcli: Run, tmp_path: Path) -> None:
    given = ["train", "--dataset", "flickr30k", "--data", flickr30k, "--out", tmp_path / "run", *SETTINGS]
    mirrored = [*given, "--set", "training.mirror=true"]
    done = groundcli(*mirrored, code=2)
    assert "training.mirror needs the backbone in every epoch: add --set training.cache_features=false" in done.stderr
    groundcli(*mirrored, "--set", "training.cache_features=false")
    assert not (tmp_path / "run/features").exists()
