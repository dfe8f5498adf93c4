"""What tests may need from outside the checkout, where it is absent they skip; and what several rooms' need."""

import os
from pathlib import Path

import pytest

SHARED = Path(os.environ.get("GROUNDCLI_SHARED", Path(__file__).resolve().parents[2] / "shared"))


def _folder(path: Path) -> Path:
    if not path.is_dir():
        pytest.skip(f"{path} is absent; set GROUNDCLI_SHARED to the folder that holds oracles/ and data/")
    return path


@pytest.fixture(scope="session")
def oracles() -> Path:
    """Outputs of the authors' and other people's code."""
    return _folder(SHARED / "oracles")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Real data sets, each in its own folder: flickr30k, coco."""
    return _folder(SHARED / "data")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An own store, so that tests change no other."""
    monkeypatch.setenv("GROUNDCLI_WEIGHTS", str(tmp_path / "store"))
    return tmp_path / "store"
