"""Learning on from shipped weights: shapes with a word that nobody knows."""

from pathlib import Path

import pytest
import torch

from groundcli.checkpoint import load, part
from groundcli.weights.files import SHIPPED
from tests.cli.conftest import Run
from tests.shapes import draw_shape, write_shapes

QUICK = [
    "--set", "training.epochs=2", "--set", "training.batch_size=8", "--set", "model.visual.image_size=128",
    "--set", "model.visual.grid=8", "--set", "training.image_size=128", "--set", "training.grid=8",
]  # fmt: skip


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
    assert "validation recall of pairing" in done.stdout
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


def test_few_images_just_work_and_too_few_are_refused(groundcli: Run, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(5):
        draw_shape("red", "circle", (20 * i, 10 * i)).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text(f"a red circle number {i}\n")
    done = groundcli("finetune", folder, "--out", tmp_path / "run", *QUICK)
    assert "batches of 3, not 8: there are no more images" in done.stdout
    for i in range(1, 5):
        (folder / f"{i}.png").unlink()
        (folder / f"{i}.txt").unlink()
    done = groundcli("finetune", folder, "--out", tmp_path / "other", code=3)
    assert "1 images with captions are too few" in done.stderr
    assert len(done.stderr.splitlines()) == 1
