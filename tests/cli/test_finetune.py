"""Learning on from shipped weights: shapes with a word that nobody knows."""

import json
from pathlib import Path

import pytest
import torch

from groundcli.checkpoint import load, part
from groundcli.data import Sample
from groundcli.data.phrases import parse
from groundcli.training.data import unseen_words, vocabulary
from groundcli.weights.load import load_model
from groundcli.weights.store import SHIPPED
from tests.cli.conftest import Run
from tests.shapes import draw_shape, write_shapes

pytestmark = pytest.mark.slow


def set_all(*settings: str) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


QUICK = set_all(
    "training.epochs=2", "training.batch_size=8", "model.visual.image_size=128", "model.visual.grid=8",
    "training.image_size=128", "training.grid=8",
)  # fmt: skip


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shapes")
    write_shapes(folder)
    for text in folder.glob("red_circle*.txt"):
        text.write_text("a red zworblik\n")
    return folder


@pytest.mark.parametrize("what", ["heads", "text", "top-levels"])
def test_only_what_was_asked_for_learns(shapes: Path, groundcli: Run, tmp_path: Path, what: str) -> None:
    cache = shapes / "cache"
    done = groundcli(
        "finetune", shapes, "--from", "lite", "--out", tmp_path, "--train", what, "--cache-features", cache, *QUICK
    )
    assert "words that lite has never seen: zworblik (" in done.stdout
    assert "24 images to learn from, 24 captions\n" in done.stdout
    assert "before" in done.stdout
    assert "validation probability of the right image" in done.stdout
    before, after = (
        part("model", load(path)[0]) for path in (SHIPPED / "lite.safetensors", tmp_path / "last.safetensors")
    )
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    upper = {name for name in before if ".stacks.1." in name or ".copies.1." in name}
    visual = {name for name in before if name.startswith("visual_mapping.stacks")}
    texts = {name for name in before if name.startswith(("word_mapping", "sentence_mapping"))}
    allowed = {"heads": visual | texts, "text": texts, "top-levels": upper}[what]
    assert changed
    assert changed <= allowed
    assert {name for name in allowed if name.endswith("0.weight")} <= changed
    metadata = load(tmp_path / "best.safetensors")[1]
    assert "zworblik" in metadata["vocabulary"]
    assert metadata["best"] >= metadata["before"]  # the model before stays where nothing was better
    what = "the best epoch" if metadata["best"] > metadata["before"] else "the model before: no epoch was better"
    assert done.stdout.splitlines()[-1] == f"{tmp_path / 'best.safetensors'}: {what}"
    lines = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    measured = [line["pairing_probability"] for line in lines if "pairing_probability" in line]
    assert len({*measured, metadata["before"]}) == 3  # it tells epochs apart


def test_few_images_just_work_and_too_few_are_refused(groundcli: Run, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(5):
        draw_shape("red", "circle", (20 * i, 10 * i)).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text(f"a red circle number {i}\n")
    done = groundcli("finetune", folder, "--out", tmp_path / "run", *QUICK)
    assert "batches of 3, not 8: there are 3 images" in done.stdout
    for i in range(1, 5):
        (folder / f"{i}.png").unlink()
        (folder / f"{i}.txt").unlink()
    done = groundcli("finetune", folder, "--out", tmp_path / "other", code=3)
    assert "1 images with captions are too few" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_words_that_lite_has_learned_from_are_known() -> None:
    known = vocabulary(load_model("lite"))
    caption = parse("A boy on a skateboard watches two giraffes and a zworblik")
    assert unseen_words([Sample("a.jpg", Path("a.jpg"), (caption,))], known) == [("zworblik", 1)]


def test_it_stops_early_where_nothing_gets_better(shapes: Path, groundcli: Run, tmp_path: Path) -> None:
    settings = [*QUICK, *set_all("training.epochs=6", "training.learning_rate=0", "training.patience=2")]
    done = groundcli("finetune", shapes, "--out", tmp_path, "--cache-features", shapes / "cache", *settings)
    assert "stopped early: 2 validations without a better one" in done.stdout
    metadata = load(tmp_path / "last.safetensors")[1]
    assert (metadata["epoch"], metadata["stale"]) == (2, 2)
    assert load(tmp_path / "best.safetensors")[1]["best"] == metadata["before"]


def test_clipping_and_the_average_of_weights(shapes: Path, groundcli: Run, tmp_path: Path) -> None:
    one_step = [*QUICK, *set_all("training.epochs=1", "training.batch_size=24", "training.warmup=0")]
    before = part("model", load(SHIPPED / "lite.safetensors")[0])
    moved = {}
    for clip in (0.0, 1e-12):  # far below Adam's epsilon: nothing moves
        out = tmp_path / str(clip)
        settings = [*one_step, *set_all("training.ema=0.9", f"training.clip_norm={clip}")]
        groundcli("finetune", shapes, "--out", out, "--cache-features", shapes / "cache", *settings)
        tensors = load(out / "last.safetensors")[0]
        after, average = part("model", tensors), part("average", tensors)
        moved[clip] = max(float((after[name] - before[name]).abs().max()) for name in before)
        for name in before:  # the first step keeps 2/11 of the old weights
            torch.testing.assert_close(average[name], torch.lerp(before[name], after[name], 9 / 11))
    assert moved[0.0] > 5e-5
    assert moved[1e-12] < 1e-6


def test_few_images_of_many_and_a_save_every_step(shapes: Path, groundcli: Run, tmp_path: Path) -> None:
    common = ["finetune", shapes, "--out", tmp_path, "--cache-features", shapes / "cache", *QUICK]
    done = groundcli(*common, "--limit", "16", "--save-every", "1")
    assert "16 images to learn from" in done.stdout
    assert (tmp_path / "previous.safetensors").exists()
