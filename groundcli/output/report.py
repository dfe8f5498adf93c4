"""One page to look through all results of a run, opened from disk: it needs no server and no network."""

import base64
import html
import json
import re
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from groundcli.files import replacing
from groundcli.output.overlays import COLORS
from groundcli.output.record import Record, Records

REPORT, FOLDER = "report.html", "report"
THUMBNAILS = f"{FOLDER}/thumbnails"
THUMBNAIL = 640  # longer side, in pixels; a card of the page shows some 340, twice as many on a screen of a phone
CHUNK = 100  # images whose details are in one file

_PAGE = Path(__file__).parent / "report_page"


def write_report(out: Path, records: Records, failures: Iterable[tuple[str, str]], title: str) -> None:
    """Writes `report.html` and what it loads from the folder `report` beside it.

    `report/index.js` has a line an image: name, size, captions, and of each phrase where in the caption it is and its
    score; then the failures. `report/data-0001.js` and so on have the details of `CHUNK` images each: points, boxes
    and heat maps; no more of them are in memory at a time. Equal records give equal bytes.

    Args:
        out: the run's folder.
        records: an iterator over the images in order, as `annotations.jsonl` has them.
        failures: (path, reason) of what couldn't be used.
        title: of the page.

    Raises:
        OSError: the folder can't be written to.
    """
    folder = out / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    images = records()
    chunks = 0
    with replacing(folder / "index.js") as index:
        index.write("const IMAGES = [\n")
        while chunk := list(islice(images, CHUNK)):
            chunks += 1
            index.writelines(f"{_script(_listed(record))},\n" for record in chunk)
            with replacing(_data(folder, chunks)) as data:
                data.write(f"keepDetails({chunks}, [\n")
                data.writelines(f"{_script(_details(record))},\n" for record in chunk)
                data.write("]);\n")
        index.write("];\nconst FAILURES = [\n")
        index.writelines(f"{_script([path, reason])},\n" for path, reason in failures)
        index.write("];\n")
    while (stale := _data(folder, chunks := chunks + 1)).exists():  # of a longer run before
        stale.unlink()
    with replacing(out / REPORT) as file:
        file.write(_page(title))


def thumbnail_path(out: Path, name: str) -> Path:
    """Where the page looks for an image's thumbnail.

    Args:
        out: the run's folder.
        name: the image's relative path with forward slashes.
    """
    return out / THUMBNAILS / f"{name}.jpg"


def write_thumbnail(image: Image.Image, path: Path) -> None:
    """Writes an image as a JPEG of at most `THUMBNAIL` pixels on its longer side, and the folders that it needs.

    Args:
        image: upright, of mode RGB.
        path: see `thumbnail_path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    small = image.copy()
    small.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.BICUBIC, reducing_gap=2.0)
    with replacing(path, "wb") as file:
        small.save(file, "JPEG", quality=80)


def quantised_heat(heatmap: np.ndarray) -> Record:
    """A heat map in few bytes, the value of a phrase's `heat`.

    Args:
        heatmap: (M, M), non-negative.

    Returns:
        side: M; data: base64 of M * M bytes row by row, 255 at the maximum, all 0 where there is no heat.
    """
    levels = np.rint(heatmap * (255 / max(float(heatmap.max()), 1e-12))).astype(np.uint8)
    return {"side": len(levels), "data": base64.b64encode(levels.tobytes()).decode("ascii")}


def _data(folder: Path, number: int) -> Path:
    return folder / f"data-{number:04}.js"


def _listed(record: Record) -> list[Any]:
    """An image's line of the index."""
    captions = []
    for caption in record["captions"]:
        numbers: list[float] = []
        for phrase in caption["phrases"]:
            ends = [_utf16_length(caption["caption"][:end]) for end in phrase["span"]]
            numbers += [*ends, round(phrase["score"], 3)]
        captions.append([caption["caption"], numbers])
    return [record["file_name"], record["width"], record["height"], captions]


def _details(record: Record) -> list[Any]:
    """What an image's line of the index leaves out, a list a caption of lists a phrase."""
    return [[_phrase_details(phrase) for phrase in caption["phrases"]] for caption in record["captions"]]


def _phrase_details(phrase: Record) -> list[Any]:
    boxes = [[*box["bbox"], round(box["score"], 3)] for box in phrase["boxes"]]
    heat = phrase.get("heat") or {"side": 0, "data": ""}
    return [*phrase["keypoints"][:2], phrase["level"], boxes, heat["side"], heat["data"]]


def _utf16_length(text: str) -> int:
    """The length of a text as JavaScript counts it."""
    return len(text) + sum(char > "\uffff" for char in text)


def _script(value: object) -> str:
    """A value as JavaScript, in ASCII, that holds nothing that could end a script or a line."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _page(title: str) -> str:
    """The page in one file."""
    parts = {
        "title": html.escape(title).encode("ascii", "xmlcharrefreplace").decode("ascii"),
        "settings": f"const COLORS = {_script(COLORS)}, CHUNK = {CHUNK};",
        "style": read_style(),
        "script": (_PAGE / "page.js").read_text("utf-8"),
    }
    return fill((_PAGE / "page.html").read_text("utf-8"), parts)


def read_style() -> str:
    """The style sheet of our pages."""
    return (_PAGE / "page.css").read_text("utf-8")


def fill(page: str, parts: Mapping[str, str]) -> str:
    """A page with its parts in their places, `{{name}}`."""
    # In one go, so that a title that looks like a place for another part stays a title.
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], page)
