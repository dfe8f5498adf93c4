"""What a folder of results may hold, and what its files are called."""

import json
from pathlib import Path

import pytest

from groundcli.annotation.folder import HEATMAPS, OVERLAYS, PER_IMAGE, THUMBNAILS, look
from groundcli.errors import UsageError


@pytest.mark.parametrize("folder", [OVERLAYS, THUMBNAILS, HEATMAPS])
def test_pictures_of_different_images_are_different_files(folder: str) -> None:
    """No picture is another's, and none is where a folder of others has to be."""
    odd = ["a.png", "a.jpg", "a.png.jpg", "a.png.jpg.jpg", "a.PNG.JPG/b.jpeg", "a.png.npz/b.png", "a.png.jpg+/b.png"]
    names = [*odd, "a.png.jpg/b.png", "x" * 251 + ".jpg", "x" * 251 + ".png", "x" * 250 + "y.png", "ü" * 125 + ".tif"]
    paths = [PER_IMAGE[folder](name) for name in names]
    assert len(set(paths)) == len(names)
    assert not {path.as_posix() for name in paths for path in Path(name).parents}.intersection(paths)
    assert max(len(part.encode()) for path in paths for part in path.split("/")) <= 255


def test_names_of_overlays() -> None:
    assert PER_IMAGE[OVERLAYS]("trip.jpg/a.JPG") == "trip.jpg+/a.JPG"
    assert PER_IMAGE[OVERLAYS]("trip/a.jpeg") == "trip/a.jpeg"
    assert PER_IMAGE[OVERLAYS]("trip/a.png") == "trip/a.png.jpg"


def test_no_run_is_in_that_of_another(tmp_path: Path) -> None:
    run = {"version": "1", "weights": {}, "arguments": {}, "files": ["run.json"]}
    (tmp_path / "run.json").write_text(json.dumps(run))
    for inside in ("a", "a/b"):
        with pytest.raises(
            UsageError, match=rf"{inside}: is in {tmp_path}, the folder of another run; name one outside"
        ):
            look(tmp_path / inside)
    (tmp_path / "run.json").write_text(json.dumps({"by": "another program"}))
    (tmp_path / "a").mkdir()
    assert look(tmp_path / "a").files == {}


@pytest.mark.parametrize("target", ["loop", "nowhere"])
def test_a_link_that_leads_nowhere(tmp_path: Path, target: str) -> None:
    (tmp_path / "loop").symlink_to(target)
    with pytest.raises(UsageError, match="a link that leads nowhere; name a folder"):
        look(tmp_path / "loop")
