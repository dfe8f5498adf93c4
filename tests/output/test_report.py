import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from groundcli.output.overlays import color
from groundcli.output.record import quantised
from groundcli.output.report import THUMBNAILS, report, thumbnail
from tests.shapes import SIDE, SIZE, write_shapes

Record = dict[str, Any]
Open = Callable[..., webdriver.Chrome]

FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
ODD = ["100% #1?.png", "a b/c d.jpg", "ü熊 'n\" & co.jpg", "a.jpg", "a.jpg.png", "back\\slash.png"]
HOSTILE = "</script><img src=x onerror=hacked=1><script>hacked=1</script>\u2028\"'`${hacked=1}{{script}}<!--"


# --- Records, as the journal has them


def heat_at(x: float, y: float, side: int = 8) -> Record:
    """Heat around a place given as shares of the image."""
    middles = (np.arange(side, dtype=np.float32) + 0.5) / side
    far = (middles[None, :] - x) ** 2 + (middles[:, None] - y) ** 2
    return quantised(0.3 * np.exp(-50 * far))


def phrase(caption: str, text: str, corner: tuple[int, int] = (40, 30), score: float = 0.5) -> Record:
    box = [*corner, SIDE, SIDE]
    x, y = (at + SIDE / 2 for at in corner)
    start = caption.index(text)
    return {
        "bbox": box,
        "keypoints": [x, y, 2],
        "score": score,
        "phrase": text,
        "span": [start, start + len(text)],
        "level": 1,
        "boxes": [{"bbox": box, "score": 0.9}, {"bbox": [0, 0, 50, 40], "score": 0.2}],
        "heat": heat_at(x / SIZE[0], y / SIZE[1]),
    }


def record(name: str, *captions: tuple[str, Sequence[Record]]) -> Record:
    listed = [{"caption": text, "phrases": list(phrases)} for text, phrases in captions]
    return {"file_name": name, "width": SIZE[0], "height": SIZE[1], "captions": listed}


def plain(name: str, caption: str = "a dog near a cat", scores: tuple[float, float] = (0.5, 0.5)) -> Record:
    return record(
        name, (caption, [phrase(caption, text, score=s) for text, s in zip(("a dog", "a cat"), scores, strict=True)])
    )


def write(out: Path, records: Sequence[Record], failures: Sequence[tuple[str, str]] = ()) -> Path:
    grey = Image.new("RGB", (80, 60), (150, 150, 150))
    for item in records:
        if not thumbnail_path(out, item["file_name"]).exists():
            write_thumbnail(grey, out, item["file_name"])
    with report(out, failures) as add:
        for item in records:
            add(item)
    return out


def thumbnail_path(out: Path, name: str) -> Path:
    return out / THUMBNAILS / f"{name}.jpg"


def write_thumbnail(picture: Image.Image, out: Path, name: str) -> None:
    path = thumbnail_path(out, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    thumbnail(picture).save(path, "JPEG")


def shapes(out: Path) -> Path:
    """A small run on real pictures: "a red circle" and its like, each where it truly is."""
    folder = out / "photos"
    records = []
    for i, (name, (x0, y0, _, _)) in enumerate(sorted(write_shapes(folder, copies=1).items())):
        with Image.open(folder / name) as picture:
            write_thumbnail(picture, out, name)
        text = (folder / name).with_suffix(".txt").read_text().strip()
        records.append(record(name, (f"{text} on grey", [phrase(text, text, (x0, y0), 0.1 * (i + 1))])))
    return write(out, records, [("torn.png", "the image is damaged or cut short; replace it")])


# --- The browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("no chromium and chromedriver; on Debian: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in [*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = webdriver.Chrome(options=options, service=Service(driver))
    yield started
    started.quit()


@pytest.fixture
def open_page(browser: webdriver.Chrome) -> Iterator[Open]:
    """Opens a run's report; afterwards nothing may be in the console."""

    def opened(
        out: Path, view: str = "", width: int = 1280, height: int = 900, touch: bool = False
    ) -> webdriver.Chrome:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": touch}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": touch})
        browser.get("about:blank")
        browser.get(f"{(out / 'report.html').as_uri()}{view}")
        return browser

    browser.get_log("browser")
    yield opened
    assert browser.get_log("browser") == []
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    browser.execute_script("localStorage.clear()")


def wait(browser: webdriver.Chrome, condition: Callable[[], Any]) -> Any:
    return WebDriverWait(browser, 20, poll_frequency=0.05).until(lambda _: condition())


def find(browser: webdriver.Chrome, selector: str) -> list[WebElement]:
    return browser.find_elements(By.CSS_SELECTOR, selector)


def texts(browser: webdriver.Chrome, selector: str) -> list[str]:
    script = "return [...document.querySelectorAll(arguments[0])].map((found) => found.textContent)"
    return [text.replace("\u00a0", " ") for text in browser.execute_script(script, selector)]


def names(browser: webdriver.Chrome) -> list[str]:
    return texts(browser, ".card .name")


def count(browser: webdriver.Chrome) -> str:
    return texts(browser, "#count")[0]


def expect_count(browser: webdriver.Chrome, text: str) -> None:
    wait(browser, lambda: count(browser) == text)


def press(browser: webdriver.Chrome, *keys: str) -> None:
    for key in keys:
        ActionChains(browser).send_keys(key).perform()


def state(browser: webdriver.Chrome) -> str:
    return browser.execute_script("return location.hash")


def is_dark(frame: WebElement) -> bool:
    """Whether a heat map is drawn: it darkens the grey of the corners."""
    return bool(picture(frame)[[8, 8, -8, -8], [8, -8, 8, -8]].sum(axis=1).min() < 0.6 * 450)


def picture(frame: WebElement) -> np.ndarray:
    """(H, W, 3) what is to be seen of an image."""
    with Image.open(BytesIO(frame.screenshot_as_png)) as shot:
        return np.asarray(shot.convert("RGB")).astype(int)


def shown(browser: webdriver.Chrome, frame: WebElement, heat: bool = True) -> np.ndarray:
    """The picture, once points and boxes are drawn over it, or a phrase's heat, and have faded in."""
    wait(browser, lambda: frame.find_element(By.TAG_NAME, "canvas").value_of_css_property("opacity") == "1")
    wait(browser, lambda: is_dark(frame) == heat)
    return picture(frame)


# --- What a phrase shows


def test_every_image_is_there_with_its_caption(tmp_path: Path, open_page: Open) -> None:
    browser = open_page(shapes(tmp_path))
    assert len(names(browser)) == 8
    assert count(browser) == "8 images, 8 phrases"
    assert texts(browser, ".caption")[0] == "a blue circle 0.10 on grey"
    assert browser.title == tmp_path.name
    wait(browser, lambda: browser.execute_script("return [...document.images].every((i) => i.naturalWidth === 240)"))


@pytest.mark.parametrize("how", ["hover", "focus", "tap"])
def test_a_phrase_shows_where_it_is(tmp_path: Path, open_page: Open, how: str) -> None:
    browser = open_page(shapes(tmp_path), touch=how == "tap")
    chip, frame = find(browser, ".chip")[0], find(browser, ".frame")[0]
    wait(browser, lambda: browser.execute_script("return document.images[0].complete"))
    before = shown(browser, frame, heat=False)
    if how == "hover":
        ActionChains(browser).move_to_element(chip).perform()
    elif how == "focus":
        press(browser, "j", Keys.TAB)
        assert browser.switch_to.active_element == chip
    else:
        area = chip.rect
        at = {"x": area["x"] + 9, "y": area["y"] + 9 - browser.execute_script("return scrollY")}
        browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [at]})
        browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    after = shown(browser, frame)

    _, (x0, y0, _, _) = sorted(write_shapes(tmp_path / "photos", copies=1).items())[0]
    scale = before.shape[1] / SIZE[0]
    x, y = round((x0 + SIDE / 2) * scale), round((y0 + SIDE / 2) * scale)
    assert tuple(after[y, x]) == color(0)  # the point
    edge = after[y, round(x0 * scale) - 2 : round(x0 * scale) + 3]
    assert (abs(edge - color(0)).sum(axis=1) < 40).any()  # the box
    blue = before[y + 12, x + 12]
    hot, cold = after[y + 12, x + 12], after[-8, -8] if y < before.shape[0] / 2 else after[8, -8]
    assert hot.sum() > 0.8 * blue.sum()
    assert hot[0] > blue[0] + 20  # tinted in the phrase's orange
    assert cold.sum() < 0.6 * 450  # the grey ground, darkened


def test_the_picture_is_itself_again(tmp_path: Path, open_page: Open) -> None:
    browser = open_page(shapes(tmp_path))
    chip, frame = find(browser, ".chip")[0], find(browser, ".frame")[0]
    ActionChains(browser).move_to_element(chip).perform()
    shown(browser, frame)
    ActionChains(browser).move_to_element(find(browser, "h1")[0]).perform()
    wait(browser, lambda: not is_dark(frame))
    chip.click()  # holds it
    ActionChains(browser).move_to_element(find(browser, "h1")[0]).perform()
    assert chip.get_attribute("aria-pressed") == "true"
    assert is_dark(frame)
    press(browser, Keys.ESCAPE)
    assert chip.get_attribute("aria-pressed") == "false"
    wait(browser, lambda: not is_dark(frame))


def near(picture: np.ndarray, colour: tuple[int, ...]) -> np.ndarray:
    """(H, W) which pixels are of a colour."""
    found: np.ndarray = abs(picture - colour).sum(axis=2) < 40
    return found


@pytest.mark.parametrize(("width", "touch"), [(1280, False), (360, True)], ids=["desktop", "phone"])
def test_the_grid_shows_points_and_named_boxes(tmp_path: Path, open_page: Open, width: int, touch: bool) -> None:
    caption = "a dog near a cat"
    phrases = [phrase(caption, "a dog", (10, 10)), phrase(caption, "a cat", (150, 100))]
    later = ("a cow", [phrase("a cow", "a cow", (90, 50))])
    browser = open_page(write(tmp_path, [record("a.jpg", (caption, phrases), later)]), width=width, touch=touch)
    after = shown(browser, find(browser, ".frame")[0], heat=False)
    scale = after.shape[1] / SIZE[0]
    for i, (left, top) in enumerate([(10, 10), (150, 100)]):
        x, y = round((left + SIDE / 2) * scale), round((top + SIDE / 2) * scale)
        assert tuple(after[y, x]) == color(i)  # the point
        sides = [after[y - 2 : y + 3, round(at * scale) - 2 : round(at * scale) + 3] for at in (left, left + SIDE)]
        assert all(near(side, color(i)).any() for side in sides)
        name = after[round(top * scale) + 3 : round(top * scale) + 16, round(left * scale) + 3 : x]
        assert near(name, color(i)).mean() > 0.4  # the name's ground,
        assert (name.sum(axis=2) < 200).sum() > 20  # and its letters
    middle = after[round((50 + SIDE / 2) * scale), round((90 + SIDE / 2) * scale)]
    assert (abs(middle - 150) <= 2).all()  # another caption's phrases wait


def test_points_at_one_place_are_all_seen(tmp_path: Path, open_page: Open) -> None:
    caption = "a dog, a cat, a cow"
    phrases = [phrase(caption, text, (40, 30)) for text in ("a dog", "a cat", "a cow")]
    browser = open_page(write(tmp_path, [record("a.jpg", (caption, phrases))]))
    after = shown(browser, find(browser, ".frame")[0], heat=False)
    scale = after.shape[1] / SIZE[0]
    row = after[round((30 + SIDE / 2) * scale)]
    dots = {i: np.flatnonzero(near(row[None], color(i))[0]) for i in range(3)}
    inner = {i: [x for x in at if 45 * scale < x < 95 * scale] for i, at in dots.items()}
    assert all(len(at) >= 5 for at in inner.values())
    assert inner[0][-1] < inner[1][0] < inner[1][-1] < inner[2][0]


def test_a_point_at_the_edge_is_whole(tmp_path: Path, open_page: Open) -> None:
    top = {**phrase("a dog", "a dog", (40, 60)), "keypoints": [120, 0, 2]}
    browser = open_page(write(tmp_path, [record("a.jpg", ("a dog", [top]))]))
    after = shown(browser, find(browser, ".frame")[0], heat=False)
    column = after[:, round(120 * after.shape[1] / SIZE[0])]
    dot = np.flatnonzero(near(column[None, :40], color(0))[0])
    assert 2 < dot[0] < dot[-1] < 14


def test_a_filter_that_finds_nothing_says_how_to_clear_it(tmp_path: Path, open_page: Open) -> None:
    browser = open_page(write(tmp_path, [plain("a.jpg")], [("torn.png", "cut short")]), "#q=zebra&in=names&min=0.9")
    assert texts(browser, ".nothing p") == ["No image fits the filter."]
    press(browser, Keys.TAB)  # from the page's head on, by keys alone
    while browser.switch_to.active_element.text != "Clear the filter":
        press(browser, Keys.TAB)
    press(browser, Keys.ENTER)
    expect_count(browser, "1 image, 2 phrases")
    assert state(browser) == ""
    assert not find(browser, ".nothing")
    assert browser.switch_to.active_element == find(browser, "#q")[0]
    open_page(tmp_path, "#view=failures&q=zebra")
    find(browser, ".nothing button")[0].click()
    assert texts(browser, "#results b") == ["torn.png"]
    open_page(write(tmp_path / "empty", []))
    assert texts(browser, ".nothing") == ["There is no image."]
    assert not find(browser, ".nothing button")


def test_the_filter_chooses_what_the_grid_shows(tmp_path: Path, open_page: Open) -> None:
    low = plain("a.jpg", scores=(0.2, 0.9))
    low["captions"][0]["phrases"][0] |= {"keypoints": [200, 150, 2], "boxes": []}
    browser = open_page(write(tmp_path, [low]), "#min=0.5")
    after = shown(browser, find(browser, ".frame")[0], heat=False)
    assert not near(after, color(0)).any()
    assert near(after, color(1)).any()


def test_without_heat_points_and_boxes_are_shown(tmp_path: Path, open_page: Open) -> None:
    bare = plain("a.jpg")
    for item in bare["captions"][0]["phrases"]:
        del item["heat"]
        item["boxes"] = []
    browser = open_page(write(tmp_path, [bare]))
    find(browser, ".chip")[1].click()
    after = shown(browser, find(browser, ".frame")[0], heat=False)
    scale = after.shape[1] / SIZE[0]
    assert tuple(after[round(60 * scale), round(70 * scale)]) == color(1)
    assert (abs(after[-8, -8] - 150) <= 2).all()


def test_captions_that_are_phrases_share_a_line(tmp_path: Path, open_page: Open) -> None:
    lone = [(text, [phrase(text, text)]) for text in ("a dog", "a cat", "a cow")]
    nested = ("the man in a hat", [phrase("the man in a hat", text) for text in ("the man in a hat", "a hat")])
    browser = open_page(write(tmp_path, [record("a.jpg", *lone, nested, ("nothing here", []))]))
    assert texts(browser, ".caption") == [
        "a dog 0.50 · a cat 0.50 · a cow 0.50",
        "the man in a hat 0.50 a hat 0.50",
        "nothing here",
    ]
    colours = [chip.value_of_css_property("border-bottom-color") for chip in find(browser, ".chip")]
    assert [tuple(map(int, re.findall(r"\d+", c)[:3])) for c in colours] == [color(i) for i in (0, 1, 2, 0, 1)]


def test_spans_count_as_javascript_does(tmp_path: Path, open_page: Open) -> None:
    browser = open_page(write(tmp_path, [plain("a.jpg", "🐻🐻 熊 a dog, 🐻 a cat")]))
    assert texts(browser, ".chip") == ["a dog 0.50", "a cat 0.50"]


def test_captions_run_their_own_way(tmp_path: Path, open_page: Open) -> None:
    browser = open_page(write(tmp_path, [record("a.jpg", ("رجل في الشارع", []), ("一个男人", []))]))
    ways = [line.value_of_css_property("direction") for line in find(browser, ".caption")]
    assert ways == ["rtl", "ltr"]


@pytest.mark.skipif(os.name != "posix", reason="names that Windows doesn't allow")
def test_any_file_name_has_its_thumbnail(tmp_path: Path, open_page: Open) -> None:
    odd = [*ODD, os.fsdecode(b"latin-\xfc.jpg")]
    browser = open_page(write(tmp_path / "odd #%?", [plain(name) for name in odd]))
    wait(browser, lambda: browser.execute_script("return [...document.images].every((i) => i.naturalWidth === 80)"))
    assert texts(browser, ".card:not(:last-child) .name") == ODD


# --- Which images


def test_words_filter(tmp_path: Path, open_page: Open) -> None:
    records = [plain("one.jpg"), plain("two.jpg", "a dog below a cat"), record("three.jpg", ("Ein Bär", []))]
    browser = open_page(write(tmp_path, records))
    press(browser, "/", *"Below DOG")
    expect_count(browser, "1 of 3 images, 2 phrases")
    assert names(browser) == ["two.jpg"]
    assert state(browser) == "#q=Below+DOG"
    find(browser, "#in")[0].send_keys("in phrases")
    expect_count(browser, "0 of 3 images, 0 phrases")
    find(browser, "#q")[0].clear()
    press(browser, "/", *"dog")
    expect_count(browser, "2 of 3 images, 2 phrases")
    assert texts(browser, ".chip.other") == ["a cat 0.50"] * 2  # written, but not what was looked for
    open_page(tmp_path, "#q=three&in=names")
    expect_count(browser, "1 of 3 images, 0 phrases")
    open_page(tmp_path, f"#q={quote('BÄR')}")
    expect_count(browser, "1 of 3 images, 0 phrases")


def test_a_filter_shows_the_captions_that_it_found(tmp_path: Path, open_page: Open) -> None:
    many = [(f"a dog number {i}", [phrase(f"a dog number {i}", "a dog")]) for i in range(9)]
    browser = open_page(write(tmp_path, [record("a.jpg", *many)]))
    assert len(find(browser, ".card .caption")) == 3
    assert texts(browser, ".more") == ["6 more captions"]
    open_page(tmp_path, "#q=number+7")
    assert texts(browser, ".card .caption") == ["a dog 0.50 number 7"]
    find(browser, ".more")[0].click()
    assert len(find(browser, "dialog .caption")) == 9


def test_scores_filter_and_sort(tmp_path: Path, open_page: Open) -> None:
    records = [
        plain("b.jpg", scores=(0.2, 0.9)),
        plain("a10.jpg", scores=(0.4, 0.5)),
        plain("a9.jpg", scores=(0.3, 0.3)),
    ]
    browser = open_page(write(tmp_path, [*records, record("none.jpg")]))
    assert names(browser) == ["b.jpg", "a10.jpg", "a9.jpg", "none.jpg"]
    find(browser, "#min")[0].send_keys("0.35")
    expect_count(browser, "2 of 4 images, 3 phrases")
    find(browser, "#max")[0].send_keys("0.6")
    expect_count(browser, "1 of 4 images, 2 phrases")
    assert names(browser) == ["a10.jpg"]
    for view, order in (
        ("#sort=name", ["a9.jpg", "a10.jpg", "b.jpg", "none.jpg"]),
        ("#sort=best", ["b.jpg", "a10.jpg", "a9.jpg", "none.jpg"]),
        ("#sort=worst", ["b.jpg", "a9.jpg", "a10.jpg", "none.jpg"]),
        ("#sort=worst&min=0.25", ["a9.jpg", "a10.jpg", "b.jpg"]),
    ):
        open_page(tmp_path, view)
        assert names(browser) == order


def test_failures_are_listed(tmp_path: Path, open_page: Open) -> None:
    failures = [("torn.png", "cut short; replace it"), ("empty.png", "the file is empty (0 bytes)")]
    browser = open_page(write(tmp_path, [plain("a.jpg")], failures))
    find(browser, "[data-view=failures]")[0].click()
    assert texts(browser, "#results li") == ["empty.pngthe file is empty (0 bytes)", "torn.pngcut short; replace it"]
    press(browser, "/", *"bytes")
    expect_count(browser, "1 of 2 failures")
    find(browser, "[data-view=images]")[0].click()
    assert find(browser, "#min")[0].is_enabled()


def test_an_empty_run(tmp_path: Path, open_page: Open) -> None:
    browser = open_page(write(tmp_path, []))
    assert count(browser) == "0 images, 0 phrases"
    assert not find(browser, ".pager button:not([hidden] *)")


@pytest.mark.slow
def test_a_thousand_images(tmp_path: Path, open_page: Open) -> None:
    browser = open_page(write(tmp_path, [plain(f"{i:04}.jpg") for i in range(1000)]))
    assert (len(names(browser)), names(browser)[0]) == (50, "0000.jpg")
    assert len(list((tmp_path / "report").glob("data-*.js"))) == 10
    find(browser, ".pager button")[1].click()
    assert (len(names(browser)), names(browser)[0], state(browser)) == (50, "0050.jpg", "#page=2")
    field = find(browser, ".pager input")[0]
    field.send_keys(Keys.CONTROL + "a")
    field.send_keys("20\n")
    assert names(browser)[-1] == "0999.jpg"
    find(browser, ".chip")[0].click()
    shown(browser, find(browser, ".frame")[0])  # from data-0010.js
    assert browser.execute_script("return [...details.keys()].sort((a, b) => a - b)") == [1, 10]
    browser.back()
    wait(browser, lambda: names(browser)[0] == "0050.jpg")
    press(browser, "k")
    press(browser, "k")
    wait(browser, lambda: names(browser)[-1] == "0049.jpg")
    assert "0049.jpg" in str(browser.switch_to.active_element.get_attribute("aria-label"))


# --- The large view


def test_the_large_view(tmp_path: Path, open_page: Open) -> None:
    browser = open_page(shapes(tmp_path))
    find(browser, ".card > button")[2].click()
    assert state(browser) == "#image=3"
    assert texts(browser, "#large-name") == ["green_circle_0.png"]
    assert texts(browser, "#large-place") == ["3 of 8"]
    frame = find(browser, "dialog .frame")[0]
    assert frame.size["width"] > 2 * SIZE[0]
    shown(browser, frame, heat=False)
    find(browser, "dialog .chip")[0].click()
    wait(browser, lambda: texts(browser, "#note")[0].startswith("Score 0.300, level 1, point (x, y): "))
    press(browser, Keys.ARROW_RIGHT, "j")
    assert texts(browser, "#large-name") == ["red_circle_0.png"]
    press(browser, Keys.ESCAPE)
    wait(browser, lambda: not find(browser, "dialog[open]"))
    assert state(browser) == ""
    assert "red_circle_0.png" in str(browser.switch_to.active_element.get_attribute("aria-label"))
    open_page(tmp_path, "#image=8&q=yellow")
    assert texts(browser, "#large-place") == ["2 of 2"]
    find(browser, "#close")[0].click()
    wait(browser, lambda: state(browser) == "#q=yellow")


def test_back_closes_the_large_view(tmp_path: Path, open_page: Open) -> None:
    browser = open_page(shapes(tmp_path), "#sort=name")
    find(browser, ".card > button")[0].click()
    assert find(browser, "dialog[open]")
    browser.back()
    wait(browser, lambda: not find(browser, "dialog[open]"))
    assert state(browser) == "#sort=name"


def test_keys_move_between_cards(tmp_path: Path, open_page: Open) -> None:
    browser = open_page(shapes(tmp_path), width=1100)  # three cards a row
    moves = [("j", "blue_circle"), (Keys.ARROW_RIGHT, "blue_square"), (Keys.ARROW_DOWN, "red_circle")]
    for key, name in [*moves, ("k", "green_square"), (Keys.ARROW_UP, "blue_circle")]:
        press(browser, key)
        assert str(browser.switch_to.active_element.get_attribute("aria-label")).startswith(name)
    press(browser, Keys.ENTER)
    assert find(browser, "dialog[open]")


# --- Everywhere


@pytest.mark.skipif(os.name != "posix", reason="names that Windows doesn't allow")
def test_hostile_texts_stay_texts(tmp_path: Path, open_page: Open) -> None:
    caption = f"{HOSTILE} a dog"
    hostile = record(f"{HOSTILE.replace('/', '')}.jpg", (caption, [phrase(caption, HOSTILE), phrase(caption, "a dog")]))
    out = write(tmp_path / HOSTILE.replace("/", ""), [hostile], [(HOSTILE, HOSTILE)])
    browser = open_page(out, f"#q={quote(HOSTILE)}&image=1")
    wait(browser, lambda: find(browser, "dialog[open] .chip"))
    find(browser, "dialog .chip")[0].click()
    shown(browser, find(browser, "dialog .frame")[0])
    assert texts(browser, ".card .caption") == [f"{HOSTILE} 0.50 a dog 0.50"]
    assert browser.execute_script("return typeof hacked") == "undefined"
    open_page(out, "#view=failures")
    assert texts(browser, "#results b") == [HOSTILE]
    assert texts(browser, "h1") == [out.name]
    for path in (out / "report").glob("*.js"):
        assert not {"<", "\u2028"} & set(path.read_text("utf-8"))
    assert browser.execute_script("return typeof hacked") == "undefined"


@pytest.mark.parametrize("view", ["", "#view=failures", "#image=1", f"#q={'w' * 200}"])
def test_a_phone_needs_no_sideways_scrolling(tmp_path: Path, open_page: Open, view: str) -> None:
    long = "w" * 300
    records = [plain(f"{long[:200]}.jpg", f"a dog {long} a cat"), *(plain(f"{i}.jpg") for i in range(60))]
    browser = open_page(write(tmp_path / long[:200], records, [(long, long)]), view, 360, 740, touch=True)
    widths = "[document.documentElement.scrollWidth, document.querySelector('dialog').scrollWidth, innerWidth]"
    page, dialog, room = browser.execute_script(f"return {widths}")
    assert (page, room) == (360, 360)
    assert dialog <= 360
    assert bool(dialog) == ("image" in view)


def test_dark_and_light(tmp_path: Path, open_page: Open) -> None:
    browser = open_page(shapes(tmp_path))

    def ground() -> int:
        colour = find(browser, "body")[0].value_of_css_property("background-color")
        return sum(map(int, re.findall(r"\d+", colour)[:3]))

    assert ground() > 700
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    assert ground() < 100
    find(browser, "#theme")[0].click()
    assert ground() > 700
    open_page(tmp_path)
    assert ground() > 700  # remembered


def test_what_is_missing_is_said(tmp_path: Path, open_page: Open) -> None:
    browser = open_page(write(tmp_path, [plain("a.jpg")]), "#view=failures")
    (tmp_path / "report" / "data-0001.js").unlink()
    open_page(tmp_path)
    wait(browser, lambda: "data-0001.js can't be read" in texts(browser, "#problem")[0])
    shutil.rmtree(tmp_path / "report")
    open_page(tmp_path)
    assert "keep the folder" in texts(browser, "#problem")[0]
    browser.get_log("browser")


# --- The files


def test_equal_records_give_equal_bytes(tmp_path: Path) -> None:
    first, second = shapes(tmp_path / "one"), shapes(tmp_path / "two")
    files = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert len(files) == 2 * 8 + 8 + 3  # photographs with captions, thumbnails, page, index and details
    for name in files:
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_a_line_an_image(tmp_path: Path) -> None:
    write(tmp_path, [plain("a.jpg", scores=(0.123456, 0.5)), plain("b.jpg")], [("c.jpg", "empty")])
    lines = (tmp_path / "report" / "index.js").read_text("ascii").splitlines()
    assert json.loads(lines[1].rstrip(",")) == [
        "a.jpg",
        240,
        180,
        [["a dog near a cat", [0, 5, 0.123, 11, 16, 0.5]]],
    ]
    assert [len(lines), lines[-2]] == [7, '["c.jpg","empty"],']


def test_a_longer_run_before_leaves_nothing(tmp_path: Path) -> None:
    write(tmp_path, [plain(f"{i}.jpg") for i in range(250)])
    write(tmp_path, [plain("0.jpg")])
    assert sorted(path.name for path in (tmp_path / "report").glob("*.js")) == ["data-0001.js", "index.js"]


def test_nothing_is_replaced_before_it_is_whole(tmp_path: Path) -> None:
    write(tmp_path, [plain("a.jpg")])
    index = (tmp_path / "report" / "index.js").read_bytes()
    with pytest.raises(KeyError):
        write(tmp_path, [plain("a.jpg", "another caption: a dog, a cat"), {"file_name": "a.jpg"}])
    assert (tmp_path / "report" / "index.js").read_bytes() == index
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith(".partial")]


@pytest.mark.parametrize(
    ("size", "small"),
    [((1280, 960), (640, 480)), ((960, 1280), (480, 640)), ((300, 200), (300, 200)), ((3000, 1), (640, 1))],
)
def test_thumbnails_fit(size: tuple[int, int], small: tuple[int, int]) -> None:
    image = Image.new("RGB", size, (99, 99, 99))
    fitted = thumbnail(image)
    assert image.size == size
    assert fitted.size == small
    assert (np.asarray(fitted) == 99).all()
