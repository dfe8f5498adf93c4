from pathlib import Path

import pytest

from groundcli.data.sample import Caption, Sample
from groundcli.errors import GroundcliError, UsageError
from groundcli.training.preflight import check_data, check_leaks
from tests.shapes import draw_shape


def images(folder: Path, count: int) -> list[Sample]:
    folder.mkdir()
    for i in range(count):
        draw_shape("red", "circle", (10 * i, 5 * i)).save(folder / f"{folder.name}{i}.png")
    return [Sample(f.name, f, (Caption("a red circle"),)) for f in sorted(folder.iterdir())]


def test_it_says_what_it_found(tmp_path: Path) -> None:
    samples = images(tmp_path / "a", 5)
    samples[1].image.write_bytes(b"no picture")
    samples[3].image.unlink()
    assert list(check_data(samples)) == [
        "5 images to learn from, 5 captions",
        "1 images have no file and will be skipped: a3.png",
        "decoded 3 of 5 images tried, not a1.png, a3.png",
    ]


@pytest.mark.parametrize(
    ("count", "content", "message"),
    [
        (1, None, "1 images with captions: training tells pairs apart"),
        (3, b"no picture", "none of 3 images tried can be decoded: a0.png, a1.png, a2.png"),
        (3, b"", "a0.png: no such file, nor any other of the 3 images"),
    ],
)
def test_data_that_nothing_can_be_learned_from(tmp_path: Path, count: int, content: bytes, message: str) -> None:
    samples = images(tmp_path / "a", count)
    for sample in samples:
        if content:
            sample.image.write_bytes(content)
        elif content is not None:
            sample.image.unlink()
    with pytest.raises(GroundcliError, match=message):
        list(check_data(samples))


def test_images_of_an_evaluation_split_are_refused(tmp_path: Path) -> None:
    learning, evaluation = images(tmp_path / "a", 3), images(tmp_path / "b", 1)
    with pytest.raises(UsageError, match="1 images to learn from are also in flickr30k val: a0"):
        check_leaks(learning, {"flickr30k val": evaluation})  # the same picture under another name
    line = check_leaks(learning[1:], {"flickr30k val": evaluation})
    assert line == "no image to learn from is in flickr30k val (1 images)"
    assert "compared with no evaluation data" in check_leaks(learning, {})
