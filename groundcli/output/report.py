"""One page to look through all results of a run, opened from disk: it needs no server and no network."""

import json
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from PIL import Image

from groundcli.files import beside, replacing
from groundcli.output.overlays import COLORS
from groundcli.output.record import Record, Writer

REPORT, FOLDER = "report.html", "report"
THUMBNAILS = f"{FOLDER}/thumbnails"
THUMBNAIL = 640  # longer side, in pixels; a card of the page shows some 340, twice as many on a screen of a phone
CHUNK = 100  # images whose details are in one file

_PAGE = Path(__file__).parent / "report_page"


@contextmanager
def report(out: Path, failures: Collection[tuple[str, str]]) -> Iterator[Writer]:
    """Writes `report.html` and what it loads from the folder `report` beside it.

    `report/index.js` has one line per image: name, size, captions, and of each phrase where in the caption it is and
    its score, and its thumbnail where that isn't its name with .jpg; then the failures. `report/data-0001.js` and so on
    have the details of `CHUNK` images each: points, boxes and heat maps; no more of them are in memory at a time. Equal
    records give equal bytes.

    `failures` are (path, reason) of what couldn't be used; they are read once all records are there. Raises OSError.
    """
    folder = out / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    chunk: list[str] = []
    numbers = count(1)

    def end_chunk() -> None:
        number = next(numbers)
        with replacing(_data(folder, number)) as data:
            data.writelines([f"keepDetails({number}, [\n", *chunk, "]);\n"])
        chunk.clear()

    with replacing(folder / "index.js") as index:
        index.write("const IMAGES = [\n")

        def write(record: Record) -> None:
            index.write(f"{_script(_listed(record))},\n")
            chunk.append(f"{_script(_details(record))},\n")
            if len(chunk) == CHUNK:
                end_chunk()

        yield write
        if chunk:
            end_chunk()
        index.write("];\nconst FAILURES = [\n")
        index.writelines(f"{_script([path, reason])},\n" for path, reason in sorted(failures))
        index.write("];\n")
    while (stale := _data(folder, next(numbers))).exists():  # of a longer run before
        stale.unlink()
    parts = {
        "settings": f"const COLORS = {_script(COLORS)}, CHUNK = {CHUNK};",
        "style": read_style(),
        "script": (_PAGE / "page.js").read_text("utf-8"),
    }
    page = (_PAGE / "page.html").read_text("utf-8")
    with replacing(out / REPORT) as file:
        # In one go, so that a part that looks like a place for another one stays what it is.
        file.write(re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], page))


def thumbnail(image: Image.Image) -> Image.Image:
    """A copy of an upright RGB image of at most `THUMBNAIL` pixels on its longer side, for the page."""
    small = image.copy()
    small.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.BICUBIC, reducing_gap=2.0)
    return small


def _data(folder: Path, number: int) -> Path:
    return folder / f"data-{number:04}.js"


def _listed(record: Record) -> list[Any]:
    """An image's line of the index."""
    captions = []
    for caption in record["captions"]:
        text, numbers = caption["caption"], list[float]()
        for phrase in caption["phrases"]:  # JavaScript counts in UTF-16
            ends = [len(text[:end].encode("utf-16-le", "surrogatepass")) // 2 for end in phrase["span"]]
            numbers += [*ends, round(phrase["score"], 3)]
        captions.append([text, numbers])
    name = record["file_name"]
    picture = beside(name, ".jpg")
    return [name, record["width"], record["height"], captions, *([picture] if picture != f"{name}.jpg" else [])]


def _details(record: Record) -> list[Any]:
    """What an image's line of the index leaves out, a list per caption of lists per phrase."""

    def of(phrase: Record) -> list[Any]:
        boxes = [[*box["bbox"], round(box["score"], 3)] for box in phrase["boxes"]]
        heat = phrase.get("heat") or {"side": 0, "data": ""}
        return [*phrase["keypoints"][:2], phrase["level"], boxes, heat["side"], heat["data"]]

    return [[of(phrase) for phrase in caption["phrases"]] for caption in record["captions"]]


def _script(value: object) -> str:
    """A value as JavaScript, in ASCII, that holds nothing that could end a script or a line."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def read_style() -> str:
    """The style sheet of our pages."""
    return (_PAGE / "page.css").read_text("utf-8")
