import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.shapes import draw_shape

XML = """<annotation><filename>{id}.jpg</filename><size><width>240</width><height>180</height><depth>3</depth></size>
<object><name>7</name><bndbox><xmin>{x}</xmin><ymin>{y}</ymin><xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox></object>
</annotation>"""


@pytest.fixture
def flickr30k(tmp_path: Path) -> Path:
    """Two images in the data set's own layout."""
    root = tmp_path / "flickr30k"
    for folder in (
        "Flickr30k_Images",
        "Flickr30k_Entities/Annotations",
        "Flickr30k_Entities/Sentences",
        "Flickr30k_Splits",
    ):
        (root / folder).mkdir(parents=True)
    for name, colour, (x, y) in (("11", "red", (20, 30)), ("12", "blue", (150, 100))):
        draw_shape(colour, "circle", (x, y)).save(root / "Flickr30k_Images" / f"{name}.jpg")
        xml = XML.format(id=name, x=x, y=y, right=x + 60, bottom=y + 60)
        (root / "Flickr30k_Entities/Annotations" / f"{name}.xml").write_text(xml)
        sentence = f"[/EN#7/other A {colour} ball] on [/EN#0/notvisual the whole] .\n"
        (root / "Flickr30k_Entities/Sentences" / f"{name}.txt").write_text(sentence)
    (root / "Flickr30k_Splits" / "val.txt").write_text("11\n12\n")
    return root


def test_the_numbers_and_their_shape(flickr30k: Path, groundcli: Run, tmp_path: Path) -> None:
    file = tmp_path / "numbers.json"
    done = groundcli("eval", "--dataset", "flickr30k", "--data", flickr30k, "--json", file)
    assert "protocol default" in done.stdout
    numbers = json.loads(file.read_text())
    assert (numbers["dataset"], numbers["split"], numbers["weights"]) == ("flickr30k", "val", "lite")
    assert (numbers["images"], numbers["phrases"], numbers["skipped"]) == (2, 2, {"no_box": 2})
    pointing = numbers["pointing"]
    assert pointing["accuracy"] in (0, 0.5, 1)
    assert pointing["center"] == 0
    assert pointing["random"] == pytest.approx(60 * 60 / (240 * 180))
    assert pointing["by_category"]["other"]["phrases"] == 2
    assert sum(numbers["levels"].values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("options", "boxes"),
    [
        ([], "sides"),
        (["--boxes", "authors"], "authors"),
        (["--protocol", "authors"], "authors"),  # what is the authors' is measured with their boxes
        (["--protocol", "authors", "--boxes", "sides"], "sides"),
    ],
)
def test_ways_to_get_boxes(flickr30k: Path, groundcli: Run, tmp_path: Path, options: list[str], boxes: str) -> None:
    file = tmp_path / "numbers.json"
    groundcli("eval", "--dataset", "flickr30k", "--data", flickr30k, "--json", file, *options)
    assert json.loads(file.read_text())["boxes"] == boxes


def test_a_broken_image_is_counted_and_the_rest_goes_on(flickr30k: Path, groundcli: Run, tmp_path: Path) -> None:
    (flickr30k / "Flickr30k_Images" / "12.jpg").write_bytes(b"")
    file = tmp_path / "numbers.json"
    groundcli("eval", "--dataset", "flickr30k", "--data", flickr30k, "--json", file, code=1)
    assert json.loads(file.read_text())["skipped"]["image_failed"] == 2


def test_a_missing_split_is_one_line(flickr30k: Path, groundcli: Run) -> None:
    done = groundcli("eval", "--dataset", "flickr30k", "--data", flickr30k, "--split", "test", code=3)
    assert "test.txt: no such file; this folder has the splits val" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_shipped_weights_keep_their_promise(real_data: Path, groundcli: Run, tmp_path: Path) -> None:
    file = tmp_path / "numbers.json"
    groundcli("eval", "--dataset", "flickr30k", "--data", real_data / "flickr30k", "--json", file)
    numbers = json.loads(file.read_text())
    assert numbers["phrases"] == 3239
    assert numbers["pointing"]["accuracy"] >= 0.70
    for category in ("people", "animals", "clothing", "other"):
        row = numbers["pointing"]["by_category"][category]
        assert row["accuracy"] > row["center"]
