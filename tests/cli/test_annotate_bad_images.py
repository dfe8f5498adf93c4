"""Images of every odd kind in one folder: each works or is reported, and none spoils another's result."""

import json
import os
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.conftest import Run
from tests.shapes import draw_shape, write_shapes

QUIET = ("--no-report",)


def encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def rotated(picture: Image.Image) -> bytes:
    """Lies on its side in the file, and is turned upright by EXIF: 240 x 180 as people see it."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(picture.rotate(90, expand=True), "JPEG", exif=exif, quality=95)


def good() -> dict[str, tuple[bytes, tuple[int, int]]]:
    """Files that are to work, and the size that coordinates are to refer to."""
    shape = draw_shape("red", "circle", (150, 90))
    deep = Image.fromarray(np.asarray(shape.convert("L")).astype(np.uint16) * 257)
    frames = [draw_shape("blue", "square", (0, 0)).quantize()]
    return {
        "animated.gif": (encoded(shape.quantize(), "GIF", save_all=True, append_images=frames), (240, 180)),
        "cmyk.jpg": (encoded(shape.convert("CMYK"), "JPEG"), (240, 180)),
        "deep.png": (encoded(deep, "PNG"), (240, 180)),
        "dot.png": (encoded(shape.crop((160, 100, 161, 101)), "PNG"), (1, 1)),
        "long.png": (encoded(shape.resize((3000, 2)), "PNG"), (3000, 2)),
        "mislabelled.jpg": (encoded(shape, "PNG"), (240, 180)),
        "palette.png": (encoded(shape.quantize(), "PNG"), (240, 180)),
        "rotated.jpg": (rotated(shape), (240, 180)),
        "täst 1, \u201cred\u201d #2.png": (encoded(shape, "PNG"), (240, 180)),
    }


def bad() -> dict[str, tuple[bytes, str]]:
    """Files that can't work, and what is to be said of them."""
    jpeg = encoded(draw_shape("red", "circle", (150, 90)), "JPEG")
    return {
        "a_bomb.png": (encoded(Image.new("1", (20_000, 20_000)), "PNG"), "more than 178,956,970 pixels"),
        "empty.jpg": (b"", "the file is empty (0 bytes)"),
        "text.jpg": (b"no picture at all", "not an image that can be read"),
        "truncated.jpg": (jpeg[: len(jpeg) // 2], "the image is damaged or cut short"),
    }


def write(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
        (folder / name).with_suffix(".txt").write_text("a red circle\n")
    return folder


def test_every_odd_image_works_or_is_reported(groundcli: Run, tmp_path: Path) -> None:
    fine = {name: content for name, (content, _) in good().items()}
    broken = {name: content for name, (content, _) in bad().items()}
    alone = write(tmp_path / "alone", fine)
    mixed = write(tmp_path / "mixed", fine | broken)
    (mixed / "link.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (mixed / "folder.jpg").mkdir()
    groundcli("annotate", alone, "--out", tmp_path / "a", *QUIET)
    done = groundcli("annotate", mixed, "--out", tmp_path / "b", *QUIET, code=1)
    assert f"{len(fine) + 5} images found, {len(fine)} done, 0 resumed, 5 failed" in done.stdout

    coco = json.loads((tmp_path / "b" / "annotations.json").read_text())
    sizes = {image["file_name"]: (image["width"], image["height"]) for image in coco["images"]}
    assert sizes == {name: size for name, (_, size) in good().items()}
    for a in coco["annotations"]:
        width, height = next((i["width"], i["height"]) for i in coco["images"] if i["id"] == a["image_id"])
        x, y, _ = a["keypoints"]
        assert 0 <= x < width
        assert 0 <= y < height
    assert (tmp_path / "a" / "annotations.json").read_bytes() == (tmp_path / "b" / "annotations.json").read_bytes()

    lines = map(json.loads, (tmp_path / "b" / "failures.jsonl").read_text().splitlines())
    reasons = {line["path"]: line["reason"] for line in lines}
    assert reasons.keys() == {*broken, "link.jpg"}
    for name, (_, says) in bad().items():
        assert says in reasons[name]
    assert "which isn't there" in reasons["link.jpg"]
    for name in fine:
        overlay = tmp_path / "b" / "overlays" / (name if name.endswith(".jpg") else f"{name}.jpg")
        with Image.open(overlay) as picture:
            assert picture.width == 1120


def test_the_point_is_in_the_upright_picture(groundcli: Run, tmp_path: Path) -> None:
    """The circle lies at the lower right of what people see, whatever the order of the file's rows."""
    write(tmp_path / "photos", {"rotated.jpg": good()["rotated.jpg"][0]})
    groundcli("annotate", tmp_path / "photos", "--out", tmp_path / "out", *QUIET, "--no-overlays")
    x, y, _ = json.loads((tmp_path / "out" / "annotations.json").read_text())["annotations"][0]["keypoints"]
    assert 140 <= x <= 220
    assert 80 <= y <= 160


def test_a_full_disk_loses_nothing(groundcli: Run, tmp_path: Path) -> None:
    """A process that may write no file above some size fails as on a full disk; with room again the run goes on."""
    resource = pytest.importorskip("resource")
    write_shapes(tmp_path / "photos", copies=2)
    command = ("annotate", tmp_path / "photos", "--out", tmp_path / "out", "--no-overlays", "--no-report")
    command += ("--batch-size", 2)
    groundcli(*command[:3], tmp_path / "whole", *command[4:])
    limit = (tmp_path / "whole" / "annotations.jsonl").stat().st_size // 2
    done = subprocess.run(
        [sys.executable, "-m", "groundcli", *map(str, command)],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 3
    assert "can't be written (File too large); what was done is kept" in done.stderr
    assert "Traceback" not in done.stderr
    again = groundcli(*command)
    resumed = int(again.stdout.split(" resumed")[0].split()[-1])
    assert 2 <= resumed < 16
    for name in ("annotations.json", "results.json", "annotations.jsonl"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize("which", ["below a file", "read-only"])
def test_a_folder_that_cannot_be_written_to(groundcli: Run, tmp_path: Path, which: str) -> None:
    write_shapes(tmp_path / "photos", copies=1)
    place = tmp_path / "place"
    if which == "read-only":
        if os.geteuid() == 0:
            pytest.skip("permissions don't bind root")
        place.mkdir(mode=0o500)
    else:
        place.write_text("a file")
    done = groundcli("annotate", tmp_path / "photos", "--out", place / "out", code=3)
    assert len(done.stderr.splitlines()) == 1
    assert f"{place / 'out'}: can't be written" in done.stderr


def test_results_among_the_photographs(groundcli: Run, tmp_path: Path) -> None:
    """A folder of results is not annotated itself, and nothing is written among the user's own files."""
    write_shapes(tmp_path, copies=1)
    command = ("annotate", tmp_path, *QUIET, "--out")
    groundcli(*command, tmp_path / "out")
    done = groundcli(*command, tmp_path / "out")
    assert "8 images found, 0 done, 8 resumed, 0 failed" in done.stdout
    refused = groundcli(*command, tmp_path, code=2)
    assert "holds your own files" in refused.stderr


def test_images_that_yolo_cannot_tell_apart_are_named_at_once(groundcli: Run, tmp_path: Path) -> None:
    shape = draw_shape("red", "circle", (150, 90))
    write(tmp_path / "photos", {"one.png": encoded(shape, "PNG"), "one.jpg": encoded(shape, "JPEG")})
    out = tmp_path / "out"
    refused = groundcli("annotate", tmp_path / "photos", "--out", out, "--format", "yolo", code=3)
    assert "one.jpg and one.png: YOLO can't tell them apart" in refused.stderr
    assert not (out / "annotations.jsonl").exists()
