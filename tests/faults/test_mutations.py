"""Files that were damaged at random, with fixed seeds: each is read, or refused in one line; none ends anything."""

import io
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from groundcli.data.find import load
from groundcli.data.images import decode
from groundcli.errors import BadInput, GroundcliError
from tests.data.files import write
from tests.data.test_caption_files import IMAGES, LISTINGS
from tests.shapes import draw_shape

pytestmark = pytest.mark.slow
TRIED = 60  # of each format
LONGEST = 20  # seconds that one file may take, on a busy machine
FORMATS = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "GIF": ".gif", "BMP": ".bmp", "TIFF": ".tif", "PPM": ".ppm"}
FORMATS |= {"JPEG2000": ".jp2", "AVIF": ".avif", "MPO": ".jpg"}


def damaged(content: bytes, draw: np.random.Generator) -> bytes:
    """Some bytes changed, a piece cut out, doubled or zeroed, or the end cut off."""
    data = bytearray(content)
    start = int(draw.integers(len(data)))
    stop = min(len(data), start + int(2 ** draw.integers(12)))
    match int(draw.integers(6)):
        case 0:
            del data[start:]
        case 1:
            del data[start:stop]
        case 2:
            data[start:start] = data[start:stop]
        case 3:
            data[start:stop] = bytes(stop - start)
        case kind:
            near = min(len(data), 200) if kind == 4 else len(data)  # headers are at the beginning
            for place in draw.integers(near, size=int(draw.integers(1, 9))):
                data[place] = int(draw.integers(256))
    return bytes(data)


@pytest.mark.parametrize("kind", FORMATS)
def test_images(tmp_path: Path, kind: str, cases: int) -> None:
    file = io.BytesIO()
    Image.init()
    if kind not in Image.SAVE:
        pytest.skip(f"this Pillow has no {kind}")
    draw_shape("red", "circle", (150, 90)).save(file, kind)
    said: list[str] = []
    draw, read, path = np.random.default_rng(16), 0, tmp_path / f"a{FORMATS[kind]}"
    for number in range(TRIED * cases):
        path.write_bytes(damaged(file.getvalue(), draw))
        started = time.monotonic()
        try:
            picture = decode(path)
        except BadInput as error:
            said.append(str(error))
        else:
            assert picture.mode == "RGB", number
            read += 1
        assert time.monotonic() - started < LONGEST, number
    assert all(text.startswith(str(path)) and "\n" not in text for text in said)
    print(f"{kind}: {TRIED * cases} damaged, {read} read, the others refused", file=sys.stderr)


@pytest.mark.parametrize("name", LISTINGS)
def test_captions_files(tmp_path: Path, name: str, cases: int) -> None:
    draw, read = np.random.default_rng(16), 0
    write(tmp_path, IMAGES)
    for number in range(TRIED * cases):
        (tmp_path / name).write_bytes(damaged(LISTINGS[name].encode(), draw))
        with suppress(GroundcliError):  # no caption for any image
            found = load([tmp_path])
            assert found.images == 3, number
            assert all("\n" not in failure.reason for failure in found.failures), number
            read += bool(found.samples)
        with suppress(GroundcliError):
            load([tmp_path], tmp_path / name)
    print(f"{name}: {TRIED * cases} damaged, of {read} some captions are read", file=sys.stderr)
