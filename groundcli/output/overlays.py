"""One picture per image for people to look at: its captions, and where their phrases are.

Compact: the photograph once, the captions beneath it. Detailed: it comes with each caption, and with the heat of each
phrase.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache, lru_cache
from itertools import chain, groupby
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from groundcli.data import Box

if TYPE_CHECKING:
    from groundcli.answer import Answer, GroundedPhrase

Color = tuple[int, int, int]
Style = Literal["compact", "detailed"]
Area = tuple[int, int, int, int]  # left, top, right, bottom in pixels of the page, the last two excluded

SIZE = 960  # a compact picture's photograph: its longer side in pixels, if nothing is said
SMALLEST = 480  # to which it is enlarged; and the least width of captions
WIDTH = 1120  # of a detailed page, in pixels
MAX_HEIGHT = 30_000  # captions that would make the page higher are counted, not drawn; JPEG ends at 65,535
MOST_PANELS = 200  # of one caption, so that it is no higher than JPEG can be
MARGIN = 24
GAP = 14
PHOTO = (680, 620)  # room for the photograph beside its panels
WIDE = 1.9  # photographs wider than this many heights have their panels below
MIN_PANEL = 130  # a panel's least width
TITLE = 24  # height of a panel's title
LINE = 32  # height of a line of the caption
TEXT, SMALL = 22, 15  # size of its letters, and of the scores in it
RADIUS = 11  # of a point's marker
OWN_SIGNS = frozenset("©«°±´·»‘’“”…‹›⁄™")  # that Pillow's own font has beside ASCII
MAX_LINES = 8

PAGE: Color = (250, 250, 248)
INK: Color = (33, 37, 41)
FAINT: Color = (120, 126, 132)

# Told apart also by colour-blind people as far as ten colours can be; the first five best of all.
COLORS: tuple[Color, ...] = (
    *((245, 158, 11), (56, 152, 236), (232, 80, 150), (0, 178, 125), (250, 226, 60)),
    *((150, 105, 225), (226, 84, 32), (90, 214, 232), (170, 206, 50), (178, 134, 104)),
)


def draw(photo: Image.Image, answers: Sequence[Answer], style: Style = "compact", size: int = SIZE) -> Image.Image:
    """Draws what was found on an image; what was not found is left out.

    Every phrase's best box and point are drawn on the photograph, in the colour that it has in its caption. Captions
    that are one phrase each are written as one.

    Args:
        photo: upright, of mode RGB: the image that the answers' points and boxes refer to.
        answers: in the order to show them; may be empty.
        style: compact: the photograph once, all captions beneath (beside it, where it is high and narrow), with scores.
            detailed: a block per caption, `WIDTH` pixels wide, with a panel per phrase for its heat.
        size: of a compact picture: the photograph's longer side in pixels; smaller ones are enlarged to `SMALLEST` at
            most.

    Returns:
        RGB picture.
    """
    found = [replace(answer, phrases=tuple(p for p in answer.phrases if p.found)) for answer in answers]
    joined = _joined(found)
    return _compact(photo, joined, size) if style == "compact" else _detailed(photo, joined)


def _compact(photo: Image.Image, answers: Sequence[Answer], size: int) -> Image.Image:
    """Phrases of the same words at the same place, as of several captions, have one colour and one mark."""
    marks: list[GroundedPhrase] = []
    colors = [[_mark(phrase, marks) for phrase in answer.phrases] for answer in answers]
    longer = min(max(*photo.size, SMALLEST), size)
    shown = _marked(_resized(photo, _fit(photo.size, (longer, longer))), marks, photo.size, crowded=True)
    beside = 2 * shown.width < shown.height
    width = max(SMALLEST, 0 if beside else shown.width)
    left, top = MARGIN + (shown.width + MARGIN if beside else 0), MARGIN + (0 if beside else shown.height + GAP)
    captions: list[tuple[int, list[list[_Piece]]]] = []
    for answer, numbers in zip(answers, colors, strict=True):
        if top > MAX_HEIGHT:
            break
        names = [f"{number + 1}: " if len(marks) > len(COLORS) else "" for number in numbers]
        scores = [f"{name}{p.score:.2f}" for name, p in zip(names, answer.phrases, strict=True)]
        lines = _lines(answer, width, numbers, scores)
        captions.append((top, lines))
        top += len(lines) * LINE + GAP // 2
    left_out = len(answers) - len(captions)
    high = max(top + (LINE if left_out else 0), MARGIN + shown.height)
    page = Image.new("RGB", (left + width + MARGIN, high + MARGIN // 2), PAGE)
    page.paste(shown, (MARGIN, MARGIN))
    for at, lines in captions:
        _write_caption(page, lines, (left, at))
    if left_out:
        ImageDraw.Draw(page).text((left, top), f"and {left_out} more captions", FAINT, _font(18))
    return page


def _mark(phrase: GroundedPhrase, marks: list[GroundedPhrase]) -> int:
    """The number of the mark that a phrase shares, or of its own, which is added."""
    near = math.hypot(*phrase.size) / 50
    for i, other in enumerate(marks):
        same = phrase.text.casefold() == other.text.casefold()
        if same and phrase.point and other.point and math.dist(phrase.point, other.point) < near:
            return i
    marks.append(phrase)
    return len(marks) - 1


def _detailed(photo: Image.Image, answers: Sequence[Answer]) -> Image.Image:
    top = MARGIN
    blocks: list[tuple[int, Image.Image]] = []
    shown: Sequence[Answer | None] = answers or [None]
    for answer in shown:
        block = _block(photo, answer)
        if blocks and top + block.height > MAX_HEIGHT:
            break
        blocks.append((top, block))
        top += block.height + MARGIN
    left_out = len(shown) - len(blocks)
    page = Image.new("RGB", (WIDTH, top + (LINE if left_out else 0)), PAGE)
    for at, block in blocks:
        page.paste(block, (MARGIN, at))
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


def _fit(size: tuple[int, int], room: tuple[int, int]) -> tuple[int, int]:
    """The largest size of the same shape in a room."""
    scale = min(room[0] / size[0], room[1] / size[1])
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _block(photo: Image.Image, answer: Answer | None) -> Image.Image:
    """One caption on the photograph, or the photograph alone, as wide as the page between its margins.

    Panels are beside the photograph where they fit and can be seen, or else below it.
    """
    width = WIDTH - 2 * MARGIN
    phrases = answer.phrases[:MOST_PANELS] if answer else ()
    lines = _lines(replace(answer, phrases=phrases), width, range(len(phrases)), [""] * len(phrases)) if answer else []
    aspect = photo.width / photo.height
    shown = _fit(photo.size, PHOTO)
    room = width - shown[0] - GAP, shown[1]
    columns = max(range(1, 7), key=lambda columns: _panel_width(len(phrases), columns, aspect, room))
    wide = _panel_width(len(phrases), columns, aspect, room)
    if phrases and aspect <= WIDE and wide >= MIN_PANEL:
        photo_left, left, below = 0, shown[0] + GAP, 0
    else:
        shown = _fit(photo.size, (width, PHOTO[1]))
        columns = min(max(len(phrases), 3), 5)
        wide = _column(width, columns)
        photo_left, left, below = (width - shown[0]) // 2, 0, shown[1] + GAP
    panel = wide, min(max(1, round(wide / aspect)), PHOTO[1])

    top = len(lines) * LINE + (GAP if lines else 0)
    corners = [
        (left + i % columns * (panel[0] + GAP), top + below + i // columns * (panel[1] + TITLE + GAP))
        for i in range(len(phrases))
    ]
    bottom = max([top + shown[1], *(y + TITLE + panel[1] for _, y in corners)])
    block = Image.new("RGB", (width, bottom), PAGE)
    _write_caption(block, lines, (0, 0))
    block.paste(_marked(_resized(photo, shown), phrases, photo.size), (photo_left, top))
    small = _resized(photo, _fit(photo.size, panel))  # of a high and narrow one a part of the panel
    for i, (phrase, corner) in enumerate(zip(phrases, corners, strict=True)):
        _draw_title(ImageDraw.Draw(block), phrase, color(i), corner, panel[0])
        block.paste(_panel(small, phrase, photo.size, color(i)), (corner[0], corner[1] + TITLE))
    return block


def _panel_width(count: int, columns: int, aspect: float, room: tuple[int, int]) -> int:
    """Of panels that are as large as `count` of them fit into a room, with a title each."""
    row = (room[1] + GAP) / math.ceil(max(count, 1) / columns)
    return min(_column(room[0], columns), int((row - GAP - TITLE) * aspect))


def _column(width: int, columns: int) -> int:
    return (width - (columns - 1) * GAP) // columns


def _resized(photo: Image.Image, size: tuple[int, int]) -> Image.Image:
    return photo.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)


# --- The caption


class _Piece(NamedTuple):
    """A word of a caption on a line, or a phrase's score after it; its phrase's colour, or -1; heights are pixels.

    `leftwards`: read from right to left, as the score of such a word is, too.
    """

    text: str
    x: float
    width: float
    color: int
    height: int = TEXT
    leftwards: bool = False


def _lines(answer: Answer, width: int, colors: Sequence[int], scores: Sequence[str]) -> list[list[_Piece]]:
    """The caption, broken into lines of whole words, each phrase followed by its score; at most MAX_LINES."""
    space = _font(TEXT).getlength(" ") + 3  # room for the bands of two phrases
    lines: list[list[_Piece]] = []
    leftwards = _leftwards(answer.caption, False)
    x = float(width)
    pieces = _pieces(answer)
    for i, (text, phrase, spaced) in enumerate(pieces):
        last = phrase >= 0 and (i + 1 == len(pieces) or pieces[i + 1][1] != phrase)
        score = scores[phrase] if last else ""
        parts = [(word, height) for word, height in ((text, TEXT), (score, SMALL)) if word]
        widths = [_font(height, word).getlength(word) for word, height in parts]
        hangs = i and not pieces[i - 1][2] and len(text) < 3 and not text.isalnum()  # no full stop starts a line
        if not lines or (x + sum(widths) > width - space and not hangs):
            if len(lines) == MAX_LINES:
                lines[-1].append(_Piece("…", min(x, width - 2 * space), _font(TEXT).getlength("…"), -1))
                break
            lines.append([])
            x = 3.0
        way = _leftwards(text, leftwards)
        for (word, height), advance in zip(parts, widths, strict=True):
            lines[-1].append(_Piece(word, x, advance, colors[phrase] if phrase >= 0 else -1, height, way))
            x += advance + 5
        x += (space if spaced else 3) - 5
    return [_mixed_ways(_turned(line, 0, width) if leftwards else line, leftwards) for line in lines]


def _leftwards(text: str, otherwise: bool) -> bool:
    """Whether a text is read from right to left, as its first letter says."""
    kinds = (unicodedata.bidirectional(char) for char in text)
    return next((kind != "L" for kind in kinds if kind in ("L", "R", "AL")), otherwise)


def _turned(pieces: Sequence[_Piece], start: float, end: float) -> list[_Piece]:
    """What was laid out from `start` on, from `end` on."""
    return [piece._replace(x=start + end - piece.x - piece.width) for piece in reversed(pieces)]


def _mixed_ways(line: Sequence[_Piece], leftwards: bool) -> list[_Piece]:
    """A line in which the words of the other way, next to each other, are read their own way."""
    pieces: list[_Piece] = []
    for way, group in groupby(line, lambda piece: piece.leftwards):
        run = [*group]
        pieces += run if way == leftwards else _turned(run, run[0].x, run[-1].x + run[-1].width)
    return pieces


def _pieces(answer: Answer) -> list[tuple[str, int, bool]]:
    """Words, the numbers of their phrases, and whether a space follows.

    Words longer than a line are cut, and so is Chinese or Japanese, which has no spaces, after each sign.
    """
    owner = np.full(len(answer.caption), -1)
    for i in reversed(range(len(answer.phrases))):  # of phrases that overlap, the first has the word
        owner[slice(*answer.phrases[i].span)] = i
    pieces: list[tuple[str, int, bool]] = []
    start = 0
    for end in range(1, len(owner) + 1):
        spaced = answer.caption[end : end + 1].isspace()
        wide = unicodedata.east_asian_width(answer.caption[start]) in "WF"
        if spaced or end == len(owner) or owner[end] != owner[start] or end - start == 60 or wide:
            text = answer.caption[start:end].strip()
            if text:
                pieces.append((text, int(owner[end - 1]), spaced))
            start = end
    return pieces


def _write_caption(page: Image.Image, lines: Sequence[Sequence[_Piece]], corner: tuple[int, int]) -> None:
    """Dark text; a phrase lies on a band of its colour, made light, and is underlined in it."""
    canvas = ImageDraw.Draw(page)
    left, top = corner
    for pieces in lines:
        for i, piece in enumerate(pieces):
            if piece.color < 0:
                continue
            joined = i + 1 < len(pieces) and pieces[i + 1].color == piece.color
            start, end = left + piece.x - 3, left + (pieces[i + 1].x if joined else piece.x + piece.width + 3)
            tint = tuple(round(0.28 * a + 0.72 * b) for a, b in zip(color(piece.color), PAGE, strict=True))
            canvas.rectangle((start, top + 1, end, top + LINE - 5), tint)
            canvas.rectangle((start, top + LINE - 6, end, top + LINE - 4), color(piece.color))
        for piece in pieces:
            font = _font(piece.height, piece.text)
            canvas.text((left + piece.x, top + LINE - 10), piece.text, INK, font, anchor="ls")
        top += LINE


# --- The photograph with all phrases


def _marked(
    shown: Image.Image, phrases: Sequence[GroundedPhrase], size: tuple[int, int], crowded: bool = False
) -> Image.Image:
    """The photograph as it is shown, drawn upon: every phrase's best box, its point and its label.

    A point that would hide another one stands beside its place, with a line to it. Where there are more phrases than
    colours, they are numbered. Where it is crowded, labels that would hide others, or points, are left out: the
    captions name them too. `size` is the image's own.
    """
    scale = shown.width / size[0], shown.height / size[1]
    canvas = ImageDraw.Draw(shown)
    radius = max(4, min(RADIUS, min(shown.size) // 10))
    boxes = [area(phrase.boxes[0], scale) if phrase.boxes else None for phrase in phrases]
    places = [scaled(phrase.point, scale, shown.size) for phrase in phrases if phrase.point]  # as all were found
    points = spread(places, radius, shown.size)
    for i, box in enumerate(boxes):
        if box:
            draw_box(canvas, box, color(i), 3 if radius == RADIUS else 2)
    for i, (place, point) in enumerate(zip(places, points, strict=True)):
        if math.dist(place, point) > radius / 2:
            canvas.line((*place, *point), (20, 20, 20), 4)
            canvas.line((*place, *point), color(i), 2)
            draw_marker(shown, place, color(i), radius // 3)
    for i, point in enumerate(points):
        draw_marker(shown, point, color(i), radius)
        if len(phrases) > len(COLORS):
            canvas.text(point, str(i + 1), INK, _font(radius), anchor="mm")
    reach = radius + 1
    taken = [(x - reach, y - reach, x + reach, y + reach) for x, y in points]
    for i, phrase in enumerate(phrases):
        pill = _pill(_shortened(phrase.text, 16, min(260, shown.width - 24)), color(i))
        if pill.width > shown.width or pill.height > shown.height:
            continue
        corners = np.array(_label_corners(boxes[i], points[i], pill.size))
        corners = np.maximum(2, np.minimum(corners, np.subtract(shown.size, pill.size) - 2))
        labels = np.concatenate([corners, corners + pill.size], axis=1)  # (K, 4)
        hidden = _overlaps(labels, np.array(taken)).sum(1)
        left, top, right, bottom = labels[hidden.argmin()].tolist()
        if not crowded or hidden.min() <= pill.height**2 / 4:  # less than half a point, however long the label
            taken.append((left, top, right, bottom))
            shown.paste(pill, (left, top), pill)
    return shown


def spread(places: Iterable[tuple[int, int]], radius: int, room: tuple[int, int]) -> list[tuple[int, int]]:
    """Where markers of a radius go, so that each is seen as a whole: at its place, or at the nearest that is free.

    In a picture without room for them all, the last ones lie on others.
    """
    taken: list[tuple[int, int]] = []
    for place in places:
        ways = (_within(way, radius, room) for way in chain([place], _around(place, 2 * radius + 1)))
        free = (way for way in ways if all(math.dist(way, other) > 2 * radius for other in taken))
        taken.append(next(free, _within(place, radius, room)))
    return taken


def _around(place: tuple[int, int], step: int) -> Iterator[tuple[int, int]]:
    """Places in rings around one, from the inside."""
    for ring in range(1, 7):
        for turn in range(6 * ring):
            angle = 2 * math.pi * turn / (6 * ring)
            across, down = ring * step * math.cos(angle), ring * step * math.sin(angle)
            yield place[0] + round(across), place[1] + round(down)


def _within(place: tuple[int, int], radius: int, room: tuple[int, int]) -> tuple[int, int]:
    x, y = (
        min(max(at, radius), side - 1 - radius) if side > 2 * radius else side // 2
        for at, side in zip(place, room, strict=True)
    )
    return x, y


def _label_corners(box: Area | None, point: tuple[int, int], size: tuple[int, int]) -> list[tuple[int, int]]:
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


def _overlaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Pixels that areas (K, 4) and (N, 4) share: (K, N)."""
    low = np.maximum(first[:, None, :2], second[:, :2])
    high = np.minimum(first[:, None, 2:], second[:, 2:])
    return (high - low).clip(0).prod(-1)


# --- One panel per phrase


def _panel(photo: Image.Image, phrase: GroundedPhrase, size: tuple[int, int], fill: Color) -> Image.Image:
    """The photograph in dark grey that has colour, tinted by the phrase's, where there is heat."""
    ground = photo.convert("L").point([grey // 2 + 12 for grey in range(256)]).convert("RGB")
    lit = Image.blend(photo, Image.new("RGB", photo.size, fill), 0.65)
    share = np.asarray(phrase.heatmap, dtype=np.float32) / max(float(phrase.heatmap.max()), 1e-12)
    heat = Image.fromarray(np.rint(255 * share).astype(np.uint8)).resize(photo.size, Image.Resampling.BICUBIC)
    panel = Image.composite(lit, ground, heat)
    scale = panel.width / size[0], panel.height / size[1]
    if phrase.boxes:
        draw_box(ImageDraw.Draw(panel), area(phrase.boxes[0], scale), fill, 2)
    if phrase.point:
        draw_marker(panel, _within(scaled(phrase.point, scale, panel.size), 7, panel.size), fill, 7)
    return panel


def _draw_title(
    canvas: ImageDraw.ImageDraw, phrase: GroundedPhrase, fill: Color, corner: tuple[int, int], width: int
) -> None:
    left, top = corner
    score = f"{phrase.score:.2f}"
    text = _shortened(phrase.text, 15, width - 18 - int(_font(15).getlength(score)) - 8)
    canvas.rounded_rectangle((left, top + 4, left + 11, top + 15), 3, fill)
    canvas.text((left + 18, top + 15), text, INK, _font(15, text), anchor="ls")
    canvas.text((left + width, top + 15), score, FAINT, _font(15), anchor="rs")


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
    font = _font(16, text)
    width, height = int(font.getlength(text)) + 20, 25
    large = Image.new("L", (width * 4, height * 4))
    ImageDraw.Draw(large).rounded_rectangle((0, 0, width * 4 - 1, height * 4 - 1), height * 2, 255)
    pill = Image.new("RGBA", (width, height), (*fill, 0))
    pill.putalpha(large.resize((width, height), Image.Resampling.BOX))
    light = fill[0] * 0.299 + fill[1] * 0.587 + fill[2] * 0.114 > 125
    ImageDraw.Draw(pill).text((width / 2, 18), text, INK if light else (255, 255, 255), font, anchor="ms")
    return pill


Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def _font(size: int, text: str = "") -> Font:
    """A font for a text: Pillow's own where it is English, else of the system's the one that has most of its signs."""
    signs = "" if text.isascii() else "".join(sorted({char for char in text if char > "\x7f"} - OWN_SIGNS))
    return _font_of(size, signs)


@lru_cache(maxsize=1024)
def _font_of(size: int, signs: str) -> Font:
    if signs:
        for path in _faces(signs):
            with suppress(OSError):  # a font of pictures in sizes of its own
                return ImageFont.truetype(path, size)
    return ImageFont.load_default(size)


@lru_cache(maxsize=1024)
def _faces(signs: str) -> list[str]:
    """Files of fonts that have any of these signs: those with most of them first, then those that look like ours."""
    having = {path: sum(ord(char) in known for char in signs) for path, known in _system_fonts().items()}
    return sorted(
        (path for path, count in having.items() if count),
        key=lambda path: (-having[path], "Sans" not in path, "Mono" in path, len(path), path),
    )


@cache
def _system_fonts() -> dict[str, frozenset[int]]:
    """Upright fonts of this machine, each with the characters that it has; read once, when a text needs one."""
    from matplotlib import font_manager
    from matplotlib.ft2font import FT2Font

    fonts = {}
    for path in sorted(font_manager.findSystemFonts()):
        with suppress(Exception):  # whatever is wrong with somebody's font, others will do
            font = FT2Font(path)
            if font.style_name in ("Regular", "Book", "Medium", "Normal"):
                fonts[path] = frozenset(font.get_charmap())
    return fonts


def _shortened(text: str, size: int, width: int) -> str:
    """The text in a size, or as much of it as fits, and an ellipsis."""
    text = text[:200]
    font = _font(size, text)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text.rstrip() + "…"


def area(box: Box, scale: tuple[float, float]) -> Area:
    """A box of the image on a page where it is shown at a scale (across, down); at least a pixel."""
    x, y, width, height = box
    left, top = round(x * scale[0]), round(y * scale[1])
    return left, top, max(left + 1, round((x + width) * scale[0])), max(top + 1, round((y + height) * scale[1]))


def scaled(point: tuple[float, float], scale: tuple[float, float], room: tuple[int, int]) -> tuple[int, int]:
    """A point of the image on a page where it is shown at a scale (across, down), (width, height) pixels large."""
    x, y = (min(max(round(at * by), 0), side - 1) for at, by, side in zip(point, scale, room, strict=True))
    return x, y
