from pathlib import Path

import pytest
from PIL import ExifTags, Image

from groundcli.data.boxes import scale_of, scaled


@pytest.mark.parametrize(
    ("orientation", "scale"),
    [(1, (2, 0.5)), (3, (2, 0.5)), (6, (0.5, 2)), (8, (0.5, 2))],  # 6 and 8 lie on their sides
)
def test_the_upright_image_counts(tmp_path: Path, orientation: int, scale: tuple[float, float]) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.new("RGB", (200, 50)).save(tmp_path / "a.jpg", exif=exif)
    assert scale_of(tmp_path / "a.jpg", (100, 100)) == scale


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"not an image")
    assert scale_of(tmp_path / "a.jpg", (3, 4)) == scale_of(tmp_path / "b.jpg", (3, 4)) == (1, 1)


def test_all_four_numbers_are_scaled() -> None:
    assert scaled((1, 2, 3, 4), (10, 100)) == (10, 200, 30, 400)
