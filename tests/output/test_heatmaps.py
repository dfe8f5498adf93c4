from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from groundcli.answer import Answer, GroundedPhrase
from groundcli.output.heatmaps import load_heatmaps, write_heatmaps

SIZE = (60, 40)


def phrase(text: str, start: int, heat: np.ndarray) -> GroundedPhrase:
    return GroundedPhrase(text, (start, start + len(text)), (0.0, 0.0), (), (), 0.5, 0, heat)


def test_heat_maps_come_back(tmp_path: Path) -> None:
    heat = np.random.default_rng(0).random((3, 18, 18)).astype(np.float32)
    one = Answer("a dog, ein Bär 😀", SIZE, (phrase("a dog", 0, heat[0]), phrase("ein Bär 😀", 7, heat[1])))
    two = Answer("well", SIZE, ())
    three = Answer('a\n"cat"', SIZE, (phrase('a\n"cat"', 0, heat[2]),))
    path = tmp_path / "a b #1.jpg.npz"
    write_heatmaps(path, [one, two, three])
    assert [file.name for file in tmp_path.iterdir()] == ["a b #1.jpg.npz"]

    found = load_heatmaps(path)
    assert found.heat.dtype == np.float16
    assert np.abs(found.heat - heat).max() < 0.0005
    assert found.phrase.tolist() == ["a dog", "ein Bär 😀", 'a\n"cat"']
    assert found.span.tolist() == [[0, 5], [7, 16], [0, 7]]
    assert found.caption.tolist() == [0, 0, 2]
    with np.load(path, allow_pickle=False) as arrays:
        assert sorted(arrays.files) == ["caption", "heat", "phrase", "span"]


@pytest.mark.parametrize("answers", [[], [Answer("well", SIZE, ())]])
def test_without_phrases(tmp_path: Path, answers: list[Answer]) -> None:
    write_heatmaps(tmp_path / "a.npz", answers)
    found = load_heatmaps(tmp_path / "a.npz")
    assert [array.shape for array in found] == [(0, 0, 0), (0,), (0, 2), (0,)]


def test_no_heat_stays_none(tmp_path: Path) -> None:
    write_heatmaps(tmp_path / "a.npz", [Answer("a dog", SIZE, (phrase("a dog", 0, np.zeros((4, 4), np.float32)),))])
    assert not load_heatmaps(tmp_path / "a.npz").heat.any()


def test_equal_answers_give_equal_bytes(tmp_path: Path) -> None:
    answers = [Answer("a dog", SIZE, (phrase("a dog", 0, np.eye(4, dtype=np.float32)),))]
    for name in ("a.npz", "b.npz"):
        write_heatmaps(tmp_path / name, answers)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_what_was_there_stays_until_the_new_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    (tmp_path / "a.npz").write_text("older")
    monkeypatch.setattr(np, "savez_compressed", fail)
    with pytest.raises(OSError, match="disk full"):
        write_heatmaps(tmp_path / "a.npz", [])
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a.npz", "older")]


def test_a_heat_map_over_its_image_as_documented(tmp_path: Path) -> None:
    heat = np.zeros((4, 4), dtype=np.float32)
    heat[0, 3] = 1  # the upper right of 4 x 4 cells
    write_heatmaps(tmp_path / "a.npz", [Answer("a dog", SIZE, (phrase("a dog", 0, heat),))])
    width, height = SIZE
    small = Image.fromarray(load_heatmaps(tmp_path / "a.npz").heat[0].astype(np.float32))
    large = np.asarray(small.resize((width, height), Image.Resampling.BILINEAR))
    assert large.shape == (40, 60)
    assert large[2, 57] == 1
    assert not large[:, :30].any()
