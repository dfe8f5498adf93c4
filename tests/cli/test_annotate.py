import json
import os
import shlex
import shutil
from datetime import datetime, timedelta, timezone
from importlib.metadata import version
from pathlib import Path

import pytest
from PIL import Image
from pycocotools.coco import COCO

from groundcli import __version__, annotate
from groundcli.annotation import AnnotateOptions
from groundcli.devices import torch_device
from groundcli.errors import UsageError
from groundcli.files import sha256
from groundcli.weights.store import find
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
    note = "gone.jpg: captions.token has captions for it, but there is no such image"
    assert [line for line in done.stderr.splitlines() if not line.startswith("annotating: ")] == [note]
    assert done.stdout.splitlines() == [
        f"look through the results: {out / 'report.html'}",
        f"2 images or captions could not be used: see {out / 'failures.jsonl'}",
        f"{out}: 4 images found, 2 done, 0 resumed, 2 failed",
    ]
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
    assert [box["image_id"] for box in results.loadAnns(results.getAnnIds())] == [1] * 20 + [2] * 5  # five each


def test_every_failure_is_named(photos: Path, out: Path) -> None:
    lines = [json.loads(line) for line in (out / "failures.jsonl").read_text().splitlines()]
    reasons = {line["path"]: line["reason"] for line in lines}
    assert list(reasons.items()) == [
        ("broken.jpg", f"{photos / 'broken.jpg'}: not an image that can be read; replace or remove it"),
        ("silent.png", "no caption: put them in silent.txt beside it, or give --captions or --phrase"),
    ]


def test_overlays_keep_the_images_paths(out: Path) -> None:
    assert sorted(p.relative_to(out).as_posix() for p in out.rglob("overlays/**/*.jpg")) == [
        "overlays/more/two.jpg",
        "overlays/one.png.jpg",
    ]
    for overlay in (out / "overlays").rglob("*.jpg"):
        with Image.open(overlay) as picture:
            assert picture.width == 480 + 48  # small images are enlarged
            picture.load()


def test_run_says_what_ran(photos: Path, out: Path) -> None:
    run = json.loads((out / "run.json").read_text())
    assert run["counts"] == {"found": 4, "done": 2, "resumed": 0, "failed": 2}
    assert run["problems"] == 2
    assert run["finished"]
    weights = Path(__file__).resolve().parents[2] / "weights" / "lite.safetensors"
    assert run["weights"] == {"name": "lite", "sha256": sha256(weights), "untrained": False}
    assert (run["version"], run["torch"], run["device"]) == (__version__, version("torch"), str(torch_device("auto")))
    assert abs(datetime.now(timezone.utc) - datetime.fromisoformat(run["date"])) < timedelta(hours=1)
    assert run["folder"] == str(Path.cwd())
    assert shlex.split(run["command"])[:3] == ["groundcli", "annotate", str(photos)]
    assert run["arguments"] == AnnotateOptions.make(images=photos, out=out).arguments()


def test_run_lists_its_files(out: Path) -> None:
    """By their names, or by the folder that they are in."""
    listed = tuple(json.loads((out / "run.json").read_text())["files"])
    files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert {name for name in files if not name.startswith(listed)} == set()
    names = ("annotations.json", "annotations.jsonl", "failures.jsonl", "not_found.jsonl", "positions.json")
    assert files == {*names, "results.json", "run.json", "report.html", "report/index.js", "report/data-0001.js"} | {
        *("overlays/one.png.jpg", "overlays/more/two.jpg"),
        *("report/thumbnails/one.png.jpg", "report/thumbnails/more/two.jpg.jpg"),
    }


def test_positions_name_the_images(out: Path) -> None:
    """Those that have captions, by their places among all that were found."""
    positions = json.loads((out / "positions.json").read_text())
    assert positions.keys() == {"listing", "positions", "images"}
    assert positions["positions"] == [0, 1, 3]
    assert positions["images"] == ["broken.jpg", "one.png", "more/two.jpg"]


def test_what_python_gets(photos: Path, out: Path, tmp_path: Path) -> None:
    outcome = annotate(photos, tmp_path, overlays=False, report=False)
    assert str(outcome.counts) == "4 images found, 2 done, 0 resumed, 2 failed"
    assert (outcome.problems, outcome.not_found, outcome.damaged) == (2, 0, 0)
    assert (tmp_path / "annotations.json").read_bytes() == (out / "annotations.json").read_bytes()


def test_a_second_run_gives_the_same_bytes(photos: Path, out: Path, groundcli: Run, tmp_path: Path) -> None:
    groundcli("annotate", photos, "--out", tmp_path, "--no-overlays", "--no-report", code=1)
    for name in ("annotations.json", "results.json", "failures.jsonl"):
        assert (tmp_path / name).read_bytes() == (out / name).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("annotations.json", "annotations.jsonl", "failures.jsonl", "not_found.jsonl"),
        *("positions.json", "results.json", "run.json"),
    ]


def test_a_folder_that_holds_a_run(photos: Path, out: Path, groundcli: Run, tmp_path: Path) -> None:
    refused = groundcli("annotate", photos, "--out", out, "--on-existing", "error", code=2)
    assert refused.stderr.startswith(f"error: {out} holds a run already")
    before = (out / "annotations.json").read_bytes()
    resumed = groundcli("annotate", photos, "--out", out, code=1)
    assert resumed.stdout.splitlines()[-1] == f"{out}: 4 images found, 0 done, 2 resumed, 2 failed"
    assert (out / "annotations.json").read_bytes() == before
    changed = groundcli("annotate", photos, "--out", out, "--phrases", "words", code=2)
    assert "holds a run with phrases auto, not words; add --on-existing overwrite" in changed.stderr
    changed = groundcli("annotate", photos, "--out", out, "--boxes", "authors", code=2)
    assert "holds a run with boxes extents, not authors; add --on-existing overwrite" in changed.stderr


def test_a_dry_run_is_of_the_command_alone(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^dry_run: of the command alone"):
        annotate(photos, tmp_path / "out", dry_run=True)
    assert not (tmp_path / "out").exists()


def test_a_run_goes_on_from_any_folder(
    photos: Path, groundcli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, how = photos / "one.png", ("--runtime", "torch", "--weights")
    (tmp_path / "deeper").mkdir()
    (tmp_path / "mine.safetensors").write_bytes(find("lite").read_bytes())
    (tmp_path / "captions.csv").write_text("image,caption\none.png,a red circle\n")
    (tmp_path / "deeper" / "others.csv").write_text("image,caption\none.png,a wall\n")
    monkeypatch.chdir(tmp_path)
    groundcli("annotate", one, "--out", "out", "--captions", "captions.csv", *how, "mine.safetensors")
    monkeypatch.chdir(tmp_path / "deeper")
    again = ("annotate", os.path.relpath(one), "--out", "../out", *how, "../mine.safetensors", "--captions")
    assert groundcli(*again, "../captions.csv").stdout.endswith("1 image found, 0 done, 1 resumed, 0 failed\n")
    refused = groundcli(*again, "others.csv", code=2).stderr
    assert f"captions {tmp_path / 'captions.csv'}, not {tmp_path / 'deeper' / 'others.csv'}" in refused


def test_a_run_that_was_moved_with_its_photographs_goes_on(
    photos: Path, groundcli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(photos, tmp_path / "old" / "photos")
    monkeypatch.chdir(tmp_path / "old")
    groundcli("annotate", "photos", "--out", "out", code=1)
    monkeypatch.chdir((tmp_path / "old").rename(tmp_path / "new"))
    done = groundcli("annotate", "photos", "--out", "out", code=1)
    assert done.stdout.endswith("4 images found, 0 done, 2 resumed, 2 failed\n")


def test_phrases_for_every_image(photos: Path, groundcli: Run, tmp_path: Path) -> None:
    groundcli("annotate", photos / "one.png", "--phrase", "a red circle", "--phrase", "wall", "--out", tmp_path)
    coco = json.loads((tmp_path / "annotations.json").read_text())
    assert [a["phrase"] for a in coco["annotations"]] == ["a red circle", "wall"]
    assert [caption["caption"] for caption in coco["captions"]] == ["a red circle", "wall"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["no/such/folder"], 3, "no/such/folder: no such file or folder"),
        ([".", "--weights", "nothing"], 3, "nothing: no model of this name"),
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
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_least_score(photos: Path, groundcli: Run, tmp_path: Path) -> None:
    """What scores less stands in one file alone, and is counted; what was found is as without it."""
    command = ("annotate", photos / "one.png", "--no-overlays", "--no-report", "--format", "jsonl")
    groundcli(*command, "--out", tmp_path / "all")
    scores = sorted(a["score"] for a in json.loads((tmp_path / "all/annotations.json").read_text())["annotations"])
    least = (scores[0] + scores[1]) / 2
    done = groundcli(*command, "--out", tmp_path / "some", "--min-score", least)
    assert done.stdout.splitlines()[-1].endswith("; 1 phrase not found")
    missing = [json.loads(line) for line in (tmp_path / "some/not_found.jsonl").read_text().splitlines()]
    assert [phrase["score"] for phrase in missing] == scores[:1]
    assert missing[0]["reason"] == f"its score {scores[0]:.2f} is under {least:g}"
    assert missing[0]["caption"][slice(*missing[0]["span"])] == missing[0]["phrase"]
    kept = json.loads((tmp_path / "some/annotations.json").read_text())["annotations"]
    assert sorted(a["score"] for a in kept) == scores[1:]
    assert len((tmp_path / "some/phrases.jsonl").read_text().splitlines()) == len(scores) - 1
