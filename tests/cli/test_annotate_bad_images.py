"""Images of every odd kind in one folder: each works or is reported, and none spoils another's result."""

import json
import os
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.conftest import Run, small_files
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


@cache
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


@cache
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


@pytest.mark.slow
def test_every_odd_image_works_or_is_reported(groundcli: Run, tmp_path: Path) -> None:
    fine = {name: content for name, (content, _) in good().items()}
    broken = {name: content for name, (content, _) in bad().items()}
    alone = write(tmp_path / "alone", fine)
    mixed = write(tmp_path / "mixed", fine | broken)
    (mixed / "link.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (mixed / "folder.jpg").mkdir()
    groundcli("annotate", alone, "--out", tmp_path / "a", *QUIET, "--no-overlays")
    done = groundcli("annotate", mixed, "--out", tmp_path / "b", *QUIET, code=1)
    count = f"{len(fine) + 5} images found, {len(fine)} done, 0 resumed, 5 failed"
    assert done.stdout.splitlines()[-1] == f"{tmp_path / 'b'}: {count}"

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
        assert reasons[name].startswith(f"{mixed / name}: {says}")
    assert reasons["link.jpg"] == f"a link to {tmp_path / 'nowhere.jpg'}, which isn't there"
    for name in fine:
        overlay = tmp_path / "b" / "overlays" / (name if name.endswith(".jpg") else f"{name}.jpg")
        with Image.open(overlay) as picture:
            picture.load()
            assert picture.width >= 480  # captions have room


def test_the_point_is_in_the_upright_picture(groundcli: Run, tmp_path: Path) -> None:
    """The circle lies at the lower right of what people see, whatever the order of the file's rows."""
    write(tmp_path / "photos", {"rotated.jpg": good()["rotated.jpg"][0]})
    groundcli("annotate", tmp_path / "photos", "--out", tmp_path / "out", *QUIET, "--no-overlays")
    x, y, _ = json.loads((tmp_path / "out" / "annotations.json").read_text())["annotations"][0]["keypoints"]
    assert 140 <= x <= 220
    assert 80 <= y <= 160


@pytest.mark.slow
def test_a_full_disk_loses_nothing(groundcli: Run, tmp_path: Path) -> None:
    """With room again the run goes on where the journal ends."""
    write_shapes(tmp_path / "photos", copies=1)
    command = ("annotate", tmp_path / "photos", "--no-overlays", "--no-report", "--batch-size", 2, "--out")
    groundcli(*command, tmp_path / "whole")
    journal = (tmp_path / "whole" / "annotations.jsonl").read_bytes()
    limit = len(journal) * 2 // 3
    with small_files(limit):
        full = groundcli(*command, tmp_path / "out", code=3)
    said = f"error: {tmp_path / 'out'}: can't be written (File too large); what was done is kept"
    assert full.stderr.splitlines()[-1] == said
    assert journal.startswith((tmp_path / "out" / "annotations.jsonl").read_bytes())
    kept = journal[:limit].count(b"\n") // 2 * 2  # whole batches
    assert kept == 4
    again = groundcli(*command, tmp_path / "out")
    count = f"8 images found, {8 - kept} done, {kept} resumed, 0 failed"
    assert again.stdout.splitlines()[-1] == f"{tmp_path / 'out'}: {count}"
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
    reason = "Permission denied" if which == "read-only" else "Not a directory"
    assert done.stderr == f"error: {place / 'out'}: can't be written ({reason}); what was done is kept\n"


def test_results_among_the_photographs(groundcli: Run, tmp_path: Path) -> None:
    """A folder of results is not annotated itself, and nothing is written among the user's own files."""
    write(tmp_path / "photos", {"one.png": good()["palette.png"][0]})
    command = ("annotate", tmp_path / "photos", "--out")
    groundcli(*command, tmp_path / "photos" / "out")
    done = groundcli(*command, tmp_path / "photos" / "out")
    assert "1 image found, 0 done, 1 resumed, 0 failed" in done.stdout
    refused = groundcli(*command, tmp_path / "photos", code=2)
    assert refused.stderr == (
        f"error: --out {tmp_path / 'photos'}: holds files that groundcli did not write (one.png, one.txt, "
        "out/annotations.json, ...); name a new folder, or move them elsewhere\n"
    )


def test_images_that_yolo_cannot_tell_apart_are_named_at_once(groundcli: Run, tmp_path: Path) -> None:
    shape = draw_shape("red", "circle", (150, 90))
    write(tmp_path / "photos", {"one.png": encoded(shape, "PNG"), "one.jpg": encoded(shape, "JPEG")})
    out = tmp_path / "out"
    refused = groundcli("annotate", tmp_path / "photos", "--out", out, "--format", "yolo", code=3)
    assert refused.stderr == "error: one.jpg and one.png: YOLO can't tell them apart; rename one of them\n"
    assert not out.exists()
