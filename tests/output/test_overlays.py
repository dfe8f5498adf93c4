from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image

from groundcli.answer import Answer, GroundedPhrase
from groundcli.data import Box
from groundcli.output import overlays
from groundcli.output.overlays import FAINT, LINE, MAX_HEIGHT, SIZE, WIDTH, Style, color, draw, spread


def grounded(text: str, start: int, at: tuple[float, float], size: tuple[int, int], box: bool = True) -> GroundedPhrase:
    """A phrase whose heat, point and box are at a place given as shares of the image."""
    x, y = at[0] * size[0], at[1] * size[1]
    heat = np.zeros((9, 9), dtype=np.float32)
    heat[int(at[1] * 9), int(at[0] * 9)] = 1
    boxes: tuple[Box, ...] = ((x - size[0] / 8, y - size[1] / 8, size[0] / 4, size[1] / 4),) if box else ()
    return GroundedPhrase(text, (start, start + len(text)), size, (x, y), boxes, (0.5,) * len(boxes), 0.5, 0, heat)


def answer(words: Sequence[str], places: Sequence[tuple[float, float]], size: tuple[int, int]) -> Answer:
    caption = "see " + " and ".join(words) + " ."
    phrases = [grounded(word, caption.index(word), at, size) for word, at in zip(words, places, strict=True)]
    return Answer(caption, size, tuple(phrases))


def grey(size: tuple[int, int]) -> Image.Image:
    return Image.new("RGB", size, (128, 128, 128))


def pixels_of(picture: np.ndarray, index: int) -> np.ndarray:
    """(N, 2) rows and columns of the pixels that have exactly a phrase's colour."""
    return np.argwhere((picture == color(index)).all(axis=2))


BOTH = pytest.mark.parametrize("style", ["compact", "detailed"])


@BOTH
@pytest.mark.parametrize("size", [(500, 375), (60, 45), (3000, 2250), (375, 500), (1200, 300)])
def test_points_and_boxes_lie_where_the_answer_says(size: tuple[int, int], style: Style) -> None:
    places = [(0.25, 0.5), (0.75, 0.5)]
    picture = np.asarray(draw(grey(size), [answer(["a dog", "a cat"], places, size)], style))
    photo = np.argwhere((picture == 128).all(axis=2))  # nothing else on the page is this grey
    (top, left), (bottom, right) = photo.min(axis=0), photo.max(axis=0)
    assert (right - left) / (bottom - top) == pytest.approx(size[0] / size[1], rel=0.02)
    for i, (x, y) in enumerate(places):
        row, column = round(top + y * (bottom - top)), round(left + x * (right - left))
        assert tuple(picture[row, column]) == color(i)  # the marker's middle
        half = round((right - left) / 8)
        frame = picture[row - 20 : row - 12, column - half - 5 : column - half + 6].reshape(-1, 3)
        assert (frame == color(i)).all(axis=1).any()  # the box's left edge


def test_panels_are_lit_where_the_heat_is() -> None:
    size = (500, 375)
    one = answer(["a dog"], [(0.2, 0.5)], size)
    picture = np.asarray(draw(grey(size), [one], "detailed")).astype(int)
    panel = picture[100:380, 720:1096]  # beside the photograph
    orange = (panel[:, :, 0] - panel[:, :, 2]) > 60
    assert orange[:, : panel.shape[1] // 2].sum() > 20 * max(1, orange[:, panel.shape[1] // 2 :].sum())


def test_captions_are_written_in_the_colours_of_their_phrases() -> None:
    size = (500, 375)
    picture = np.asarray(draw(grey(size), [answer(["a dog", "a cat"], [(0.3, 0.3), (0.7, 0.7)], size)]))
    heading = picture[-60:]
    assert pixels_of(heading, 0)[:, 1].max() < pixels_of(heading, 1)[:, 1].min()  # in the caption's order
    assert len(pixels_of(heading, 2)) == 0


def test_labels_keep_clear_of_each_other() -> None:
    size = (500, 375)
    same = answer(["a dog", "a cat", "a cow"], [(0.5, 0.5)] * 3, size)
    picture = np.asarray(draw(grey(size), [same], "detailed"))[:600, :704]
    areas = [len(pixels_of(picture, i)) for i in range(3)]
    assert min(areas) > 600  # each label's ground is to be seen


@pytest.mark.parametrize("room", [(960, 720), (64, 48), (24, 960), (3, 1)])
def test_markers_stay_inside_and_apart(room: tuple[int, int]) -> None:
    places = [(room[0] - 1, 0)] * 12 + [(0, room[1] - 1)]
    markers = spread(places, radius := 4, room)
    assert markers == spread(places, radius, room)
    for at, side in zip(zip(*markers, strict=True), room, strict=True):
        assert all(min(radius, side // 2) <= value <= max(side - 1 - radius, side // 2) for value in at)
    if min(room) > 2 * radius:
        apart = [np.hypot(*np.subtract(a, b)) for i, a in enumerate(markers) for b in markers[:i]]
        assert min(apart) > 2 * radius
    assert spread([(0, 0), (50, 40)], 4, (64, 48)) == [(4, 4), (50, 40)]


def test_one_photograph_for_all_captions() -> None:
    size = (500, 375)
    five = [answer(["a dog", word], [(0.3, 0.3), (0.7, 0.7)], size) for word in ("a cat", "a cow", "an owl")]
    picture = np.asarray(draw(grey(size), five))
    assert len(picture) < size[1] + 200
    assert (picture == 128).all(axis=2).sum() < size[0] * size[1]
    assert all(len(pixels_of(picture, i)) > 100 for i in range(4))  # the dog of all captions is one
    assert len(pixels_of(picture, 4)) == 0


@pytest.mark.parametrize(
    ("size", "most", "photo"),
    [
        ((4000, 3000), SIZE, (960, 720)),
        ((4000, 3000), 320, (320, 240)),
        ((64, 48), SIZE, (480, 360)),
        ((64, 48), 200, (200, 150)),
        ((2000, 200), SIZE, (960, 96)),
        ((200, 2000), SIZE, (96, 960)),
        ((500, 375), SIZE, (500, 375)),
    ],
)
def test_sizes(size: tuple[int, int], most: int, photo: tuple[int, int]) -> None:
    picture = np.asarray(draw(grey(size), [Answer("no phrase in here", size, ())], size=most))
    shown = np.argwhere((picture == 128).all(axis=2))
    assert tuple(shown.max(axis=0) - shown.min(axis=0) + 1) == photo[::-1]
    assert picture.shape[0] < photo[1] + 120
    beside = 480 + 24 if size == (200, 2000) else 0
    assert picture.shape[1] == max(photo[0] + beside, 480) + 48


def test_more_phrases_than_colours_are_numbered() -> None:
    size = (500, 375)
    names = [f"thing {chr(97 + i)}" for i in range(11)]
    places = [(0.1 + 0.08 * i, 0.5) for i in range(11)]
    ten, eleven = (np.asarray(draw(grey(size), [answer(names[:n], places[:n], size)])) for n in (10, 11))
    middle = 24 + round(0.5 * 375), 24 + round(0.1 * 500)
    around = (slice(middle[0] - 4, middle[0] + 5), slice(middle[1] - 4, middle[1] + 5))
    assert (ten[around] == color(0)).all()
    assert not (eleven[around] == color(0)).all()  # a number is on it


@pytest.mark.parametrize("text", ["мужчина", "ein Bär", "רכב אדום"])
def test_scripts_that_a_font_of_this_machine_has(text: str) -> None:
    if not overlays._faces("".join(sorted({char for char in text if not char.isascii()}))):
        pytest.skip("no font here has these letters")
    size = (500, 375)
    written = np.asarray(draw(grey(size), [Answer(text, size, ())]))
    unknown = np.asarray(draw(grey(size), [Answer("".join(c if c.isascii() else "\ue000" for c in text), size, ())]))
    shape = written[-60:], unknown[-60:]
    assert shape[0].shape != shape[1].shape or (shape[0] != shape[1]).any()
    if text.startswith("ר"):  # read from right to left
        assert np.argwhere((written[-60:] < 100).all(axis=2))[:, 1].max() > 480


def test_words_of_two_directions_are_read_each_their_way() -> None:
    if not overlays._faces("".join(sorted({*"רכבאדום"}))):
        pytest.skip("no font here has these letters")
    size = (500, 375)
    one, both = (np.asarray(draw(grey(size), [Answer(text, size, ())]))[-60:] for text in ("a אדום", "a רכב אדום"))
    width = np.argwhere((one < 100).all(axis=2))[:, 1].max()  # the last word in Hebrew stands first, next to the "a"
    assert np.array_equal(one[:, :width], both[:, :width])
    assert (both[:, width + 5 :] < 100).all(axis=2).any()


def test_a_panel_of_a_high_and_narrow_image_has_its_shape() -> None:
    size = (200, 2000)
    thing = GroundedPhrase("a dog", (4, 9), size, (100.0, 900.0), ((0, 0, *size),), (0.5,), 0.5, 0, np.ones((9, 9)))
    picture = np.asarray(draw(grey(size), [Answer("see a dog .", size, (thing,))], "detailed"))
    frame = pixels_of(picture[-640:], 0)
    high, wide = frame.max(axis=0) - frame.min(axis=0)
    assert high / wide == pytest.approx(10, rel=0.1)


def test_a_long_label_hides_no_point() -> None:
    size = (2000, 200)
    words = ["two men", "aprons", "a commercial-style kitchen", "chefs", "food", "another metallic style kitchen"]
    places = [(0.45, 0.7), (0.56, 0.5), (0.42, 0.4), (0.5, 0.7), (0.42, 0.5), (0.54, 0.5)]
    photo = np.asarray(draw(grey(size), [answer(words, places, size)]))[24:120, 24:984]
    for i, (x, y) in enumerate(spread([(round(x * 960), round(y * 96)) for x, y in places], 9, (960, 96))):
        assert tuple(photo[y, x]) == color(i)


@BOTH
@pytest.mark.parametrize(
    ("size", "answers"),
    [
        ((500, 375), []),  # nothing was asked
        ((500, 375), [Answer("no phrase in here", (500, 375), ())]),
        ((500, 375), [Answer("", (500, 375), ())]),
        ((1, 1), [answer(["a dog"], [(0.5, 0.5)], (1, 1))]),
        ((2000, 1), [answer(["a dog"], [(0.5, 0.5)], (2000, 1))]),
        ((1, 2000), [answer(["a dog", "a cat"], [(0.5, 0.5)] * 2, (1, 2000))]),
        ((500, 375), [answer([f"thing {chr(97 + i)}" for i in range(26)], [(0.1, 0.1)] * 26, (500, 375))]),
        ((500, 375), [answer(["long" * 500], [(0.99, 0.01)], (500, 375))]),  # a word wider than the page
        ((500, 375), [answer(["words " * 2000], [(0.01, 0.99)], (500, 375))]),
        ((500, 375), [answer(["a dog\tat\nnight", "ein Bär, 熊, 🐻"], [(0.0, 0.0), (0.5, 0.5)], (500, 375))]),
    ],
)
def test_anything_can_be_drawn(size: tuple[int, int], answers: list[Answer], style: Style) -> None:
    picture = draw(grey(size), answers, style)
    assert picture.mode == "RGB"
    assert picture.width == WIDTH or style == "compact"
    assert picture.height < 3000


def test_no_boxes_and_no_heat() -> None:
    size = (500, 375)
    cold = GroundedPhrase("a dog", (0, 5), size, (250.0, 190.0), (), (), 0.0, 0, np.zeros((9, 9), dtype=np.float32))
    picture = np.asarray(draw(grey(size), [Answer("a dog", size, (cold,))]))
    photo = np.argwhere((picture == 128).all(axis=2))
    (top, left), (bottom, right) = photo.min(axis=0), photo.max(axis=0)
    middle = round(top + 190 / 375 * (bottom - top)), round(left + (right - left) / 2)
    assert tuple(picture[middle]) == color(0)  # its point


def test_lone_phrases_share_a_block_and_captions_do_not() -> None:
    size = (500, 375)
    lone = [Answer(text, size, (grounded(text, 0, (0.5, 0.5), size),)) for text in ("a dog", "a cat", "a cow")]
    shared = np.asarray(draw(grey(size), lone, "detailed"))
    assert len(shared) == draw(grey(size), lone[:1], "detailed").height
    assert draw(grey(size), lone).height == draw(grey(size), lone[:1]).height
    assert all(len(pixels_of(shared[:60], i)) for i in range(3))  # the line of text names them all
    captions = [answer(["a dog"], [(0.5, 0.5)], size)] * 3
    assert draw(grey(size), captions, "detailed").height > 2.5 * draw(grey(size), captions[:1], "detailed").height


@pytest.mark.parametrize(("style", "many"), [("compact", 1000), ("detailed", 120)])
def test_a_page_does_not_outgrow_jpeg(style: Style, many: int) -> None:
    size = (60, 60)
    page = np.asarray(draw(grey(size), [answer(["a dog"], [(0.5, 0.5)], size)] * many, style))
    assert MAX_HEIGHT - 1000 < len(page) < 65_000
    assert (page[-LINE:] == FAINT).all(axis=2).any()  # "and N more captions"
    whole = np.asarray(draw(grey(size), [answer(["a dog"], [(0.5, 0.5)], size)] * 2, style))
    assert not (whole[-LINE:] == FAINT).all(axis=2).any()


def test_the_image_is_left_as_it_was() -> None:
    size = (680, 510)  # shown at its own size
    image = grey(size)
    first = draw(image, [answer(["a dog"], [(0.5, 0.5)], size)])
    assert image.tobytes() == grey(size).tobytes()
    assert first.tobytes() == draw(image, [answer(["a dog"], [(0.5, 0.5)], size)]).tobytes()


@pytest.mark.slow
@pytest.mark.parametrize("alone", [False, True])
def test_phrases_beyond_number_do_not_outgrow_jpeg_either(alone: bool) -> None:
    """Of one caption, and of as many captions of a phrase each."""
    size, words = (20, 90), [f"n{i}" for i in range(1000)]
    answers = [answer(words, [(0.5, 0.5)] * len(words), size)]
    if alone:
        answers = [Answer(word, size, (grounded(word, 0, (0.5, 0.5), size),)) for word in words]
    assert draw(grey(size), answers).height < 60_000
