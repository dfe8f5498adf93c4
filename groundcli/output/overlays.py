"""One picture per image for people to look at: each caption, where its phrases are, and the heat that says so."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from groundcli.data.sample import Box

if TYPE_CHECKING:
    from groundcli.answer import Answer, GroundedPhrase

Color = tuple[int, int, int]
Area = tuple[int, int, int, int]  # left, top, right, bottom in pixels of the page, the last two excluded

WIDTH = 1120  # of the page, in pixels
MAX_HEIGHT = 30_000  # captions that would make the page higher are counted, not drawn; JPEG ends at 65,535
MOST_PANELS = 200  # of one caption, so that it is no higher than JPEG can be
MARGIN = 24
GAP = 14
PHOTO = (680, 620)  # room for the photograph beside its panels
WIDE = 1.9  # photographs wider than this many heights have their panels below
MIN_PANEL = 130  # a panel's least width
TITLE = 24  # height of a panel's title
LINE = 32  # height of a line of the caption
MAX_LINES = 8

PAGE: Color = (250, 250, 248)
INK: Color = (33, 37, 41)
FAINT: Color = (120, 126, 132)

# Told apart also by colour-blind people as far as ten colours can be; the first five best of all.
COLORS: tuple[Color, ...] = (
    (245, 158, 11),
    (56, 152, 236),
    (232, 80, 150),
    (0, 178, 125),
    (250, 226, 60),
    (150, 105, 225),
    (226, 84, 32),
    (90, 214, 232),
    (170, 206, 50),
    (178, 134, 104),
)


def draw(photo: Image.Image, answers: Sequence[Answer]) -> Image.Image:
    """Draws what was found on an image; what was not found is left out.

    Each caption is a block: its text with the phrases in their colours, the photograph with every phrase's best box
    and point, and one panel per phrase with its heat. Captions that are one phrase each share a block.

    Args:
        photo: upright, of mode RGB: the image that the answers' points and boxes refer to.
        answers: in the order to show them; may be empty.

    Returns:
        RGB picture, `WIDTH` pixels wide; small images are enlarged, large ones reduced.
    """
    answers = [replace(answer, phrases=tuple(p for p in answer.phrases if p.found)) for answer in answers]
    height = MARGIN
    blocks: list[Image.Image] = []
    joined = (replace(group, phrases=group.phrases[:MOST_PANELS]) for group in _joined(answers))
    groups: list[Answer | None] = [*joined] or [None]
    for group in groups:
        block = _block(photo, group)
        if blocks and height + block.height > MAX_HEIGHT:
            break
        blocks.append(block)
        height += block.height + MARGIN
    left_out = len(groups) - len(blocks)
    page = Image.new("RGB", (WIDTH, height + (LINE if left_out else 0)), PAGE)
    top = MARGIN
    for block in blocks:
        page.paste(block, (MARGIN, top))
        top += block.height + MARGIN
    if left_out:
        ImageDraw.Draw(page).text((MARGIN, top), f"and {left_out} more captions", FAINT, _font(18))
    return page


def color(index: int) -> Color:
    """The colour of a caption's phrase number `index`, counted from 0: RGB, 0 to 255."""
    return COLORS[index % len(COLORS)]


def _joined(answers: Sequence[Answer]) -> list[Answer]:
    """The answers, with runs of captions that are a single phrase made one caption: "a car · a dog"."""
    groups: list[Answer] = []
    for alone, run in groupby(answers, lambda a: len(a.phrases) == 1 and a.phrases[0].text == a.caption):
        several = list(run)
        groups += [several[0].followed_by(several[1:], "  ·  ")] if alone else several
    return groups


# --- Layout


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where a block's pictures go, from below its caption: (x, y) of corners and (width, height) of sizes, pixels."""

    photo: tuple[int, int]
    photo_left: int
    panel: tuple[int, int]
    panels: tuple[int, int]
    columns: int

    def corner(self, index: int) -> tuple[int, int]:
        """Of a panel with its title."""
        row, column = divmod(index, self.columns)
        return self.panels[0] + column * (self.panel[0] + GAP), self.panels[1] + row * (self.panel[1] + TITLE + GAP)

    def height(self, count: int) -> int:
        """Of the photograph and `count` panels."""
        return max(self.photo[1], self.corner(count - 1)[1] + TITLE + self.panel[1] if count else 0)


def _layout(size: tuple[int, int], count: int, width: int) -> _Layout:
    """Panels beside the photograph where they fit and can be seen, or else below it."""
    aspect = size[0] / size[1]
    photo = _fit(size, PHOTO)
    left = photo[0] + GAP
    options = {columns: _beside(count, columns, aspect, (width - left, photo[1])) for columns in range(1, 7)}
    columns = max(options, key=options.__getitem__)
    if count and aspect <= WIDE and options[columns] >= MIN_PANEL:
        return _Layout(photo, 0, _panel(options[columns], aspect), (left, 0), columns)
    photo = _fit(size, (width, PHOTO[1]))
    columns = min(max(count, 3), 5)
    panel = _panel(_across(width, columns), aspect)
    return _Layout(photo, (width - photo[0]) // 2, panel, (0, photo[1] + GAP), columns)


def _beside(count: int, columns: int, aspect: float, room: tuple[int, int]) -> int:
    """The width of panels that are as large as `count` of them fit into a room."""
    row = (room[1] + GAP) / math.ceil(max(count, 1) / columns)
    return min(_across(room[0], columns), int((row - GAP - TITLE) * aspect))


def _across(width: int, columns: int) -> int:
    return (width - (columns - 1) * GAP) // columns


def _panel(width: int, aspect: float) -> tuple[int, int]:
    return width, min(max(1, round(width / aspect)), PHOTO[1])


def _fit(size: tuple[int, int], room: tuple[int, int]) -> tuple[int, int]:
    """The largest size of the same shape in a room."""
    scale = min(room[0] / size[0], room[1] / size[1])
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _block(photo: Image.Image, answer: Answer | None) -> Image.Image:
    """One caption on the photograph, or the photograph alone, as wide as the page between its margins."""
    width = WIDTH - 2 * MARGIN
    count = len(answer.phrases) if answer else 0
    layout = _layout(photo.size, count, width)
    lines = _lines(answer, width) if answer else []
    top = len(lines) * LINE + (GAP if lines else 0)
    block = Image.new("RGB", (width, top + layout.height(count)), PAGE)
    shown = _resized(photo, layout.photo)
    if answer:
        _write_caption(block, lines)
        shown = _marked(shown, answer)
        small = _panel_photo(photo, layout.panel)
        for i, phrase in enumerate(answer.phrases):
            left, down = layout.corner(i)
            _draw_panel(block, small, phrase, answer.size, color(i), (left, top + down))
    block.paste(shown, (layout.photo_left, top))
    return block


def _resized(photo: Image.Image, size: tuple[int, int]) -> Image.Image:
    return photo.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)


# --- The caption


@dataclass(frozen=True, slots=True)
class _Piece:
    """A word of the caption on a line: where it starts, how wide it is, and its phrase's number, or -1."""

    text: str
    x: float
    width: float
    phrase: int


def _lines(answer: Answer, width: int) -> list[list[_Piece]]:
    """The caption, broken into lines of whole words; at most MAX_LINES."""
    font = _font(22)
    space = font.getlength(" ") + 3  # room for the bands of two phrases
    lines: list[list[_Piece]] = []
    x = float(width)
    for text, phrase, spaced in _pieces(answer):
        advance = font.getlength(text)
        if not lines or x + advance > width - space:
            if len(lines) == MAX_LINES:
                lines[-1].append(_Piece("…", min(x, width - 2 * space), font.getlength("…"), -1))
                break
            lines.append([])
            x = 3.0
        lines[-1].append(_Piece(text, x, advance, phrase))
        x += advance + (space if spaced else 3)
    return lines


def _pieces(answer: Answer) -> list[tuple[str, int, bool]]:
    """Words, the numbers of their phrases, and whether a space follows; words longer than a line are cut."""
    owner = np.full(len(answer.caption), -1)
    for i in reversed(range(len(answer.phrases))):  # of phrases that overlap, the first has the word
        owner[slice(*answer.phrases[i].span)] = i
    pieces: list[tuple[str, int, bool]] = []
    start = 0
    for end in range(1, len(owner) + 1):
        spaced = answer.caption[end : end + 1].isspace()
        if spaced or end == len(owner) or owner[end] != owner[start] or end - start == 60:
            text = answer.caption[start:end].strip()
            if text:
                pieces.append((text, int(owner[end - 1]), spaced))
            start = end
    return pieces


def _write_caption(block: Image.Image, lines: Sequence[Sequence[_Piece]]) -> None:
    """Dark text; a phrase lies on a band of its colour, made light, and is underlined in it."""
    canvas = ImageDraw.Draw(block)
    font = _font(22)
    for row, pieces in enumerate(lines):
        top = row * LINE
        for i, piece in enumerate(pieces):
            if piece.phrase < 0:
                continue
            joined = i + 1 < len(pieces) and pieces[i + 1].phrase == piece.phrase
            end = pieces[i + 1].x if joined else piece.x + piece.width + 3
            tint = _mixed(color(piece.phrase), PAGE, 0.28)
            canvas.rectangle((piece.x - 3, top + 1, end, top + LINE - 5), tint)
            canvas.rectangle((piece.x - 3, top + LINE - 6, end, top + LINE - 4), color(piece.phrase))
        for piece in pieces:
            canvas.text((piece.x, top + LINE - 10), piece.text, INK, font, anchor="ls")


# --- The photograph with all phrases


def _marked(shown: Image.Image, answer: Answer) -> Image.Image:
    """The photograph, drawn upon: every phrase's best box, its point and its label."""
    scale = shown.width / answer.size[0], shown.height / answer.size[1]
    canvas = ImageDraw.Draw(shown)
    boxes = [area(phrase.boxes[0], scale) if phrase.boxes else None for phrase in answer.phrases]
    points = [_place(phrase, scale, shown.size) for phrase in answer.phrases]
    for i, box in enumerate(boxes):
        if box:
            draw_box(canvas, box, color(i), 3)
    for i, point in enumerate(points):
        draw_marker(shown, point, color(i), 11)
    taken = [(x - 12, y - 12, x + 12, y + 12) for x, y in points]
    for i, phrase in enumerate(answer.phrases):
        _draw_label(shown, phrase.text, color(i), boxes[i], points[i], taken)
    return shown


def _draw_label(
    shown: Image.Image, text: str, fill: Color, box: Area | None, point: tuple[int, int], taken: list[Area]
) -> None:
    """Puts a phrase's label at its box, or point, where it hides the least of the labels and points in `taken`."""
    pill = _pill(_shortened(text, _font(16), min(260, shown.width - 24)), fill)
    if pill.width > shown.width or pill.height > shown.height:
        return
    places = [_inside(place, pill.size, shown.size) for place in _label_places(box, point, pill.size)]
    areas = [(x, y, x + pill.width, y + pill.height) for x, y in places]
    best = min(areas, key=lambda area: sum(_overlap(area, other) for other in taken))
    taken.append(best)
    shown.paste(pill, best[:2], pill)


def _label_places(box: Area | None, point: tuple[int, int], size: tuple[int, int]) -> list[tuple[int, int]]:
    """Upper left corners for a label of a size, from the best on."""
    width, height = size
    x, y = point
    around_point = [(x + 16, y - height // 2), (x - 16 - width, y - height // 2), (x - width // 2, y + 16)]
    if box is None:
        return [*around_point, (x - width // 2, y - 16 - height)]
    left, top, right, bottom = box
    above, below = top - height - 2, bottom + 2
    corners = [(left, above), (left + 3, top + 3), (right - width, above), (right - width - 3, top + 3)]
    corners += [(left, below), (left + 3, bottom - height - 3), (right - width, below)]
    return [*corners, (right - width - 3, bottom - height - 3), *around_point]


def _inside(place: tuple[int, int], size: tuple[int, int], room: tuple[int, int]) -> tuple[int, int]:
    x, y = (max(2, min(at, total - side - 2)) for at, side, total in zip(place, size, room, strict=True))
    return x, y


def _overlap(first: Area, second: Area) -> int:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    return max(0, width) * max(0, height)


# --- One panel per phrase


def _panel_photo(photo: Image.Image, size: tuple[int, int]) -> tuple[Image.Image, Image.Image]:
    """The photograph at a panel's size, RGB, in colour and as its dark grey ground."""
    colored = _resized(photo, size)
    return colored, colored.convert("L").point([grey // 2 + 12 for grey in range(256)]).convert("RGB")


def _draw_panel(
    block: Image.Image,
    photo: tuple[Image.Image, Image.Image],
    phrase: GroundedPhrase,
    size: tuple[int, int],
    fill: Color,
    corner: tuple[int, int],
) -> None:
    """Title, then the photograph in dark grey that has colour, tinted by the phrase's, where there is heat."""
    colored, ground = photo
    lit = Image.blend(colored, Image.new("RGB", colored.size, fill), 0.65)
    panel = Image.composite(lit, ground, _heat(phrase.heatmap, colored.size))
    scale = panel.width / size[0], panel.height / size[1]
    if phrase.boxes:
        draw_box(ImageDraw.Draw(panel), area(phrase.boxes[0], scale), fill, 2)
    draw_marker(panel, _place(phrase, scale, panel.size), fill, 7)
    _draw_title(ImageDraw.Draw(block), phrase, fill, corner, panel.width)
    block.paste(panel, (corner[0], corner[1] + TITLE))


def _draw_title(
    canvas: ImageDraw.ImageDraw, phrase: GroundedPhrase, fill: Color, corner: tuple[int, int], width: int
) -> None:
    left, top = corner
    font = _font(15)
    score = f"{phrase.score:.2f}"
    room = width - 18 - int(font.getlength(score)) - 8
    canvas.rounded_rectangle((left, top + 4, left + 11, top + 15), 3, fill)
    canvas.text((left + 18, top + 15), _shortened(phrase.text, font, room), INK, font, anchor="ls")
    canvas.text((left + width, top + 15), score, FAINT, font, anchor="rs")


def _heat(heatmap: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """A heat map at a size (width, height): L, the maximum white, black where there is no heat."""
    share = np.asarray(heatmap, dtype=np.float32) / max(float(heatmap.max()), 1e-12)
    return Image.fromarray(np.rint(255 * share).astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)


# --- Marks


def draw_box(canvas: ImageDraw.ImageDraw, area: Area, fill: Color, width: int) -> None:
    """A frame with a dark edge on either side, so that it stands out on any ground."""
    left, top, right, bottom = area
    canvas.rectangle((left - 1, top - 1, right, bottom), outline=(20, 20, 20), width=width + 2)
    canvas.rectangle((left, top, right - 1, bottom - 1), outline=fill, width=width)


def draw_marker(picture: Image.Image, point: tuple[int, int], fill: Color, radius: int) -> None:
    """A dot at a point, in a ring."""
    marker = _marker(fill, radius)
    picture.paste(marker, (point[0] - marker.width // 2, point[1] - marker.height // 2), marker)


@lru_cache(maxsize=64)
def _marker(fill: Color, radius: int) -> Image.Image:
    """A dot of the colour in a white ring with a dark edge: seen on any photograph."""
    side = 2 * radius + 1
    large = Image.new("RGBA", (side * 4, side * 4), (0, 0, 0, 0))
    canvas = ImageDraw.Draw(large)
    for share, paint in ((1.0, (20, 20, 20, 255)), (0.86, (255, 255, 255, 255)), (0.58, (*fill, 255))):
        canvas.circle((side * 2, side * 2), side * 2 * share - 1, paint)
    return large.resize((side, side), Image.Resampling.BOX)


@lru_cache(maxsize=256)
def _pill(text: str, fill: Color) -> Image.Image:
    """A label with round ends: RGBA."""
    font = _font(16)
    width, height = int(font.getlength(text)) + 20, 25
    large = Image.new("L", (width * 4, height * 4))
    ImageDraw.Draw(large).rounded_rectangle((0, 0, width * 4 - 1, height * 4 - 1), height * 2, 255)
    pill = Image.new("RGBA", (width, height), (*fill, 0))
    pill.putalpha(large.resize((width, height), Image.Resampling.BOX))
    light = fill[0] * 0.299 + fill[1] * 0.587 + fill[2] * 0.114 > 125
    ImageDraw.Draw(pill).text((width / 2, 18), text, INK if light else (255, 255, 255), font, anchor="ms")
    return pill


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _shortened(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """The text, or as much of it as fits, and an ellipsis."""
    text = text[:200]
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text.rstrip() + "…"


def _mixed(first: Color, second: Color, share: float) -> Color:
    red, green, blue = (round(a * share + b * (1 - share)) for a, b in zip(first, second, strict=True))
    return red, green, blue


def area(box: Box, scale: tuple[float, float]) -> Area:
    """A box of the image on a page where it is shown at a scale (across, down); at least a pixel."""
    x, y, width, height = box
    left, top = round(x * scale[0]), round(y * scale[1])
    return left, top, max(left + 1, round((x + width) * scale[0])), max(top + 1, round((y + height) * scale[1]))


def scaled(point: tuple[float, float], scale: tuple[float, float], room: tuple[int, int]) -> tuple[int, int]:
    """A point of the image on a page where it is shown at a scale (across, down), (width, height) pixels large."""
    x, y = (min(max(round(at * by), 0), side - 1) for at, by, side in zip(point, scale, room, strict=True))
    return x, y


def _place(phrase: GroundedPhrase, scale: tuple[float, float], room: tuple[int, int]) -> tuple[int, int]:
    """The point of a phrase that was found, see `scaled`."""
    assert phrase.point is not None
    return scaled(phrase.point, scale, room)
