import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, UnidentifiedImageError

from groundcli.data.images import as_image, decode, is_image, open_image
from groundcli.data.published import scale_of
from groundcli.errors import BadInput

RED, BLUE = (255, 0, 0), (0, 0, 255)


def halves(width: int = 40, height: int = 24) -> Image.Image:
    """Red on the left, blue on the right."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(BLUE, (width // 2, 0, width, height))
    return image


def pixels_of(path: Path) -> np.ndarray:
    """(H, W, 3) uint8."""
    picture = decode(path)
    assert picture.mode == "RGB"
    return np.asarray(picture)


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [
        ("RGB", "png"),
        ("RGB", "jpg"),
        ("P", "png"),  # palette
        ("P", "gif"),
        ("CMYK", "tif"),
        ("CMYK", "jpg"),  # stored inverted by convention
        ("YCbCr", "jpg"),
        ("LAB", "tif"),  # Pillow alone has no conversion
        ("RGBA", "png"),
        ("RGBA", "webp"),
    ],
)
def test_color_modes_become_the_same_rgb(tmp_path: Path, mode: str, suffix: str) -> None:
    image = halves()
    if mode == "LAB":
        image = Image.merge("LAB", [Image.new("L", image.size, v) for v in (138, 209, 195)])  # sRGB red
        image.save(tmp_path / "a.tif")
        assert np.abs(pixels_of(tmp_path / "a.tif")[0, 0].astype(int) - RED).max() < 16
        return
    image.convert(mode).save(tmp_path / f"a.{suffix}")
    pixels = pixels_of(tmp_path / f"a.{suffix}")
    assert pixels.shape == (24, 40, 3)
    assert np.abs(pixels[12, 4].astype(int) - RED).max() < 8
    assert np.abs(pixels[12, 35].astype(int) - BLUE).max() < 8


@pytest.mark.parametrize(
    ("dtype", "values", "expected"),
    [
        (np.uint8, [0, 128, 255], [0, 128, 255]),
        (np.uint16, [0, 32896, 65535], [0, 128, 255]),  # all 16 bits count, none is cut off
        (np.int32, [-1000, 0, 1000], [0, 128, 255]),  # no agreed white: stretched
        (np.float32, [0.0, 0.5, 1.0], [0, 128, 255]),
        (np.float32, [7.0, 7.0, 7.0], [0, 0, 0]),  # nothing to stretch
        (bool, [0, 1, 1], [0, 255, 255]),
    ],
)
def test_greyscale_of_any_depth(tmp_path: Path, dtype: type, values: list, expected: list[int]) -> None:
    Image.fromarray(np.array([values], dtype=dtype)).save(tmp_path / "a.tif")
    pixels = pixels_of(tmp_path / "a.tif")
    assert pixels.shape == (1, 3, 3)
    assert pixels[0].tolist() == [[value] * 3 for value in expected]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_laid_on_white(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 0)).convert("P" if mode == "P" else mode)
    image.save(tmp_path / "a.png", **({"transparency": 0} if mode == "P" else {}))
    assert (pixels_of(tmp_path / "a.png") == 255).all()


def test_half_transparent_black_on_white_is_grey(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (0, 0, 0, 128)).save(tmp_path / "a.png")
    assert pixels_of(tmp_path / "a.png")[0, 0].tolist() == [127] * 3


@pytest.mark.parametrize(
    ("orientation", "red_side"),
    [(1, "left"), (2, "right"), (3, "right"), (4, "left"), (5, "top"), (6, "top"), (7, "bottom"), (8, "bottom")],
)
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, red_side: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    halves().save(tmp_path / "a.png", exif=exif)
    pixels = pixels_of(tmp_path / "a.png")
    side = {"left": pixels[:, 0], "right": pixels[:, -1], "top": pixels[0], "bottom": pixels[-1]}[red_side]
    assert pixels.shape == ((24, 40, 3) if orientation < 5 else (40, 24, 3))
    assert (side == RED).all()


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_exif_does_not_spoil_the_picture(tmp_path: Path) -> None:
    halves().save(tmp_path / "a.jpg", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff\x12\x01nonsense")
    assert decode(tmp_path / "a.jpg").size == (40, 24)


@pytest.mark.parametrize("suffix", ["gif", "png", "webp"])
def test_first_frame_of_an_animation(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in (RED, BLUE)]
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:], lossless=True)
    assert pixels_of(tmp_path / f"a.{suffix}")[4, 4].tolist() == list(RED)


def encoded(suffix: str) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, format=suffix)
    return stream.getvalue()


def bomb() -> bytes:
    """A picture of 20,000 x 20,000 pixels in a few bytes of header."""
    return b"P6 20000 20000 255\n"


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("empty.jpg", b"", "empty"),
        ("text.jpg", b"this is no image", "not an image"),
        ("phone.heic", b"\x00\x00\x00\x18ftypheic nothing that is installed reads it", "convert it to JPEG"),
        ("half.jpg", encoded("jpeg")[:2000], "cut short"),
        ("half.png", encoded("png")[:2000], "cut short"),
        ("half.webp", encoded("webp")[:1000], "cut short|not an image"),
        ("damaged.png", encoded("png")[:200] + b"\x00" * 300 + encoded("png")[500:], "damaged"),
        ("bomb.ppm", bomb(), "178,956,970 pixels"),
    ],
)
def test_bad_files_are_named_in_one_line(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=says) as error:
        decode(tmp_path / name)
    assert name in str(error.value)
    assert "\n" not in str(error.value)


def test_folder_missing_file_and_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")  # reading it would wait for ever
    (tmp_path / "folder.jpg").mkdir()
    for name, says in [("folder.jpg", "folder"), ("missing.jpg", "no such file"), ("pipe.jpg", "not a file")]:
        with pytest.raises(BadInput, match=says):
            decode(tmp_path / name)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read any file")
def test_unreadable_file(tmp_path: Path) -> None:
    halves().save(tmp_path / "a.png")
    (tmp_path / "a.png").chmod(0)
    with pytest.raises(BadInput, match="permissions"):
        decode(tmp_path / "a.png")


@pytest.mark.parametrize(("name", "expected"), [("a.jpg", True), ("A.JPEG", True), ("a.txt", False), ("jpg", False)])
def test_is_image_goes_by_the_name(name: str, expected: bool) -> None:
    assert is_image(Path(name)) is expected


EPS = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 10 10
%%EndComments
showpage
%%EOF
"""


@pytest.mark.skipif(os.name == "nt", reason="the stand-in for Ghostscript is a shell script")
@pytest.mark.parametrize("name", ["photo.jpg", "photo.eps"])
def test_postscript_is_refused_and_nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\nexit 1\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)  # where Pillow remembers it
    (tmp_path / name).write_bytes(EPS)
    with pytest.raises(BadInput, match="not an image that can be read"):
        decode(tmp_path / name)
    with pytest.raises(UnidentifiedImageError):
        open_image(io.BytesIO(EPS))
    assert scale_of(tmp_path / name, (20, 20)) == (1, 1)
    assert not (tmp_path / "ran").exists()
    with pytest.raises(Exception, match=r"gs|Ghostscript"), Image.open(tmp_path / name) as picture:
        picture.load()
    assert (tmp_path / "ran").exists()  # the malice is real


@pytest.mark.parametrize("suffix", ["tga", "pcx", "ico", "sgi", "xbm", "pdf"])
def test_formats_that_hold_no_photographs_are_not_tried(tmp_path: Path, suffix: str) -> None:
    halves().convert("1" if suffix == "xbm" else "RGB").save(tmp_path / f"a.{suffix}")
    (tmp_path / f"a.{suffix}").rename(tmp_path / "a.jpg")
    with pytest.raises(BadInput, match="not an image that can be read"):
        decode(tmp_path / "a.jpg")


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "gif", "bmp", "tif", "ppm", "jp2", "avif", "mpo"])
def test_formats_of_photographs(tmp_path: Path, suffix: str) -> None:
    if suffix == "avif" and "AVIF" not in Image.SAVE:
        pytest.skip("this Pillow has no AVIF")
    halves().save(tmp_path / f"a.{suffix}")
    (tmp_path / f"a.{suffix}").rename(tmp_path / "a.jpg")  # whatever it is called
    assert np.abs(pixels_of(tmp_path / "a.jpg")[12, 4].astype(int) - RED).max() < 8


def test_strips_make_the_picture_that_the_whole_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    values = draw.normal(size=(60, 40)).astype(np.float32)
    Image.fromarray(values).save(tmp_path / "float.tif")
    Image.fromarray(draw.integers(0, 256, (60, 40, 4), dtype=np.uint8)).save(tmp_path / "alpha.png")
    Image.fromarray(draw.integers(0, 256, (60, 40, 3), dtype=np.uint8)).quantize(9).save(
        tmp_path / "palette.png", transparency=3
    )
    for name in ("float.tif", "alpha.png", "palette.png"):
        whole = np.asarray(decode(tmp_path / name))
        with monkeypatch.context() as patch:
            patch.setattr("groundcli.data.images.STRIP", 7 * 40)
            assert np.array_equal(np.asarray(decode(tmp_path / name)), whole), name
    low, high = values.min(), values.max()
    expected = np.rint((values.astype(np.float64) - low) * (255 / (np.float64(high) - low)))
    assert np.array_equal(np.asarray(decode(tmp_path / "float.tif"))[..., 0], expected)


# --- Images that are not files


def png(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "png")
    return file.getvalue()


def tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array.reshape(*array.shape[:2], -1).transpose(2, 0, 1).copy())


def opaque(array: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(array).convert("RGBA"))


@pytest.mark.parametrize("shape", [(6, 8), (6, 8, 3)], ids=["grey", "colour"])
@pytest.mark.parametrize(
    "form",
    [
        Image.fromarray,
        lambda array: Image.fromarray(array).convert("RGBA"),
        lambda array: array,
        opaque,
        lambda array: array.reshape(*array.shape[:2], -1),
        lambda array: array[::-1, ::-1].copy()[::-1, ::-1],  # laid out backwards in memory
        lambda array: array / 255,
        lambda array: (array / 255).astype(np.float16),
        tensor,
        lambda array: tensor(array) / 255,
        lambda array: (tensor(array) / 255).requires_grad_(),
        lambda array: (tensor(array) / 255).bfloat16(),
        png,
        lambda array: bytearray(png(array)),
        lambda array: memoryview(png(array)),
        lambda array: io.BytesIO(png(array)),
    ],
)
def test_any_form_of_an_image(form: Callable[[np.ndarray], Any], shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    picture = as_image(form(array))
    assert (picture.mode, picture.size) == ("RGB", (8, 6))
    expected = np.asarray(Image.fromarray(array).convert("RGB")).astype(int)
    np.testing.assert_allclose(np.asarray(picture).astype(int), expected, atol=1)  # bfloat16 has 8 bits


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (None, TypeError, "not NoneType"),
        ([[0, 1], [1, 0]], TypeError, "not list"),
        (np.zeros((3, 6, 8), np.uint8), TypeError, "expected an array"),
        (np.zeros((0, 8), np.uint8), TypeError, "expected an array"),
        (np.zeros((6, 8), np.uint16), TypeError, "not uint16"),
        (np.full((6, 8), 255.0), TypeError, "have to be uint8"),
        (np.full((6, 8), np.nan), TypeError, "from 0 to 1"),
        (torch.zeros(1, 3, 6, 8), TypeError, "expected an array"),
        (io.StringIO("text"), TypeError, "mode 'rb'"),
        (b"text", BadInput, "not an image"),
    ],
)
def test_what_is_no_image(value: object, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        as_image(value)
