import json
from pathlib import Path

import pytest
from PIL import Image
from pycocotools.coco import COCO

from tests.cli.conftest import Run
from tests.shapes import draw_shape


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two good images, one of them in a subfolder, a broken one and one without a caption."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "more").mkdir()
    draw_shape("red", "circle", (20, 30)).save(folder / "one.png")
    (folder / "one.txt").write_text("[a red circle] on [the left]\nA red ball lies in front of a grey wall.\n")
    draw_shape("blue", "square", (120, 90)).save(folder / "more" / "two.jpg")
    (folder / "captions.token").write_text("two.jpg#0\tA blue square .\ngone.jpg#0\tNobody knows .\n")
    (folder / "broken.jpg").write_bytes(b"not an image")
    (folder / "broken.txt").write_text("a thing\n")
    draw_shape("green", "square", (0, 0)).save(folder / "silent.png")
    return folder


@pytest.fixture(scope="module")
def out(photos: Path, groundcli: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "a"
    done = groundcli("annotate", photos, "--out", out, code=1)
    assert "4 images found, 2 done, 0 resumed, 2 failed" in done.stdout.splitlines()[-1]
    return out


def test_pycocotools_reads_the_data_set(out: Path) -> None:
    coco = COCO(str(out / "annotations.json"))
    assert [image["file_name"] for image in coco.loadImgs([1, 2])] == ["one.png", "more/two.jpg"]
    phrases = [a["phrase"] for a in coco.loadAnns(coco.getAnnIds(imgIds=[1]))]
    assert phrases == ["a red circle", "the left", "A red ball", "a grey wall"]
    for annotation in coco.loadAnns(coco.getAnnIds()):
        x, y, _ = annotation["keypoints"]
        assert 0 <= x < 240
        assert 0 <= y < 180
        assert 0 <= annotation["score"] <= 1
        assert coco.annToMask(annotation).shape == (180, 240)
    results = coco.loadRes(str(out / "results.json"))
    assert results.getAnnIds()


def test_every_failure_is_named(out: Path) -> None:
    lines = [json.loads(line) for line in (out / "failures.jsonl").read_text().splitlines()]
    reasons = {line["path"]: line["reason"] for line in lines}
    assert reasons.keys() == {"broken.jpg", "silent.png", "gone.jpg"}
    assert list(reasons) == sorted(reasons)
    assert "no caption" in reasons["silent.png"]


def test_overlays_keep_the_images_paths(out: Path) -> None:
    assert sorted(p.relative_to(out).as_posix() for p in out.rglob("overlays/**/*.jpg")) == [
        "overlays/more/two.jpg",
        "overlays/one.png.jpg",
    ]
    with Image.open(out / "overlays/one.png.jpg") as overlay:
        overlay.load()


def test_run_says_what_ran(out: Path) -> None:
    run = json.loads((out / "run.json").read_text())
    assert run["counts"] == {"found": 4, "done": 2, "resumed": 0, "failed": 2}
    assert run["finished"]
    assert run["weights"]["name"] == "lite"


def test_a_second_run_gives_the_same_bytes(photos: Path, out: Path, groundcli: Run, tmp_path: Path) -> None:
    groundcli("annotate", photos, "--out", tmp_path, "--no-overlays", "--no-report", code=1)
    for name in ("annotations.json", "results.json", "failures.jsonl"):
        assert (tmp_path / name).read_bytes() == (out / name).read_bytes()
    assert not (tmp_path / "overlays").exists()
    assert not (tmp_path / "report.html").exists()


def test_a_folder_that_holds_a_run(photos: Path, out: Path, groundcli: Run, tmp_path: Path) -> None:
    refused = groundcli("annotate", photos, "--out", out, "--on-existing", "error", code=2)
    assert refused.stderr.startswith(f"error: {out} holds a run already")
    before = (out / "annotations.json").read_bytes()
    resumed = groundcli("annotate", photos, "--out", out, code=1)
    assert "0 done, 2 resumed, 2 failed" in resumed.stdout
    assert (out / "annotations.json").read_bytes() == before
    changed = groundcli("annotate", photos, "--out", out, "--phrases", "words", code=2)
    assert "holds a run with phrases auto, not words; add --on-existing overwrite" in changed.stderr
    changed = groundcli("annotate", photos, "--out", out, "--boxes", "authors", code=2)
    assert "holds a run with boxes sides, not authors; add --on-existing overwrite" in changed.stderr


def test_phrases_for_every_image(photos: Path, groundcli: Run, tmp_path: Path) -> None:
    groundcli("annotate", photos / "one.png", "--phrase", "a red circle", "--phrase", "wall", "--out", tmp_path)
    coco = json.loads((tmp_path / "annotations.json").read_text())
    assert [a["phrase"] for a in coco["annotations"]] == ["a red circle", "wall"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["no/such/folder"], 3, "no/such/folder: no such file or folder"),
        ([".", "--weights", "nothing"], 3, "nothing: no weights of this name"),
        ([".", "--weights", "efficientnet_lite2"], 3, "was not written by groundcli"),
        ([".", "--device", "cuda:99"], 3, "--device cuda:99: this machine has"),
        ([".", "--device", "tpu9"], 2, "--device tpu9: expected auto, cpu, cuda or cuda:N"),
    ],
)
def test_bad_input_is_one_line(
    groundcli: Run, tmp_path: Path, arguments: list[str], code: int, message: str, photos: Path
) -> None:
    given = [photos if a == "." else a for a in arguments]
    done = groundcli("annotate", *given, "--out", tmp_path / "out", code=code)
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
