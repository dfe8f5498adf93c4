"""Pictures of coloured shapes, made for tests: what is where is known."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

COLOURS = {"red": (220, 30, 30), "green": (30, 160, 50), "blue": (40, 60, 220), "yellow": (240, 220, 40)}
SIZE = (240, 180)
SIDE = 60


def draw_shape(colour: str, shape: str, corner: tuple[int, int]) -> Image.Image:
    """A shape of 60 x 60 pixels at a corner of a grey picture of 240 x 180."""
    picture = Image.new("RGB", SIZE, (150, 150, 150))
    box = [*corner, corner[0] + SIDE - 1, corner[1] + SIDE - 1]
    canvas = ImageDraw.Draw(picture)
    (canvas.ellipse if shape == "circle" else canvas.rectangle)(box, fill=COLOURS[colour])
    return picture


def write_shapes(folder: Path, copies: int = 4, seed: int = 0) -> dict[str, tuple[int, int, int, int]]:
    """Writes pictures with sidecar captions "a red circle"; returns the true box (x0, y0, x1, y1) by file name."""
    draw = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    boxes = {}
    for colour in COLOURS:
        for shape in ("circle", "square"):
            for copy in range(copies):
                x, y = int(draw.integers(SIZE[0] - SIDE)), int(draw.integers(SIZE[1] - SIDE))
                name = f"{colour}_{shape}_{copy}.png"
                draw_shape(colour, shape, (x, y)).save(folder / name)
                (folder / name).with_suffix(".txt").write_text(f"a {colour} {shape}\n")
                boxes[name] = (x, y, x + SIDE, y + SIDE)
    return boxes


def write_flickr30k(root: Path, splits: dict[str, int], seed: int = 0) -> None:
    """Writes Flickr30k Entities' layout: shapes with one marked phrase and its box, so many a split, IDs from 1000."""
    draw = np.random.default_rng(seed)
    for folder in ("Flickr30k_Images", "Flickr30k_Splits", "Flickr30k_Entities/Sentences"):
        (root / folder).mkdir(parents=True)
    (root / "Flickr30k_Entities/Annotations").mkdir()
    number = 1000
    for split, count in splits.items():
        ids = [str(number + i) for i in range(count)]
        number += count
        (root / f"Flickr30k_Splits/{split}.txt").write_text("".join(f"{name}\n" for name in ids))
        for name in ids:
            colour, shape = draw.choice(list(COLOURS)), draw.choice(["circle", "square"])
            x, y = int(draw.integers(SIZE[0] - SIDE)), int(draw.integers(SIZE[1] - SIDE))
            draw_shape(colour, shape, (x, y)).save(root / f"Flickr30k_Images/{name}.jpg")
            sentence = f"[/EN#1/other a {colour} {shape}] on grey\n"
            (root / f"Flickr30k_Entities/Sentences/{name}.txt").write_text(sentence)
            corners = f"<xmin>{x}</xmin><ymin>{y}</ymin><xmax>{x + SIDE}</xmax><ymax>{y + SIDE}</ymax>"
            (root / f"Flickr30k_Entities/Annotations/{name}.xml").write_text(
                f"<annotation><size><width>{SIZE[0]}</width><height>{SIZE[1]}</height></size>"
                f"<object><name>1</name><bndbox>{corners}</bndbox></object></annotation>"
            )
