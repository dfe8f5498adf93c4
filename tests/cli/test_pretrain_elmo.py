from pathlib import Path

import pytest

from groundcli.weights.elmo import load_elmo
from tests.cli.conftest import Run

SIZES = """{"lstm": {"cell_clip": 3, "use_skip_connections": true, "n_layers": 2, "proj_clip": 3, "projection_dim": 8,
"dim": 16}, "char_cnn": {"embedding": {"dim": 4}, "filters": [[1, 4], [2, 4]], "n_highway": 1, "n_characters": 262,
"max_characters_per_token": 50, "activation": "relu"}}"""


@pytest.mark.slow
def test_an_elmo_from_a_text_file(groundcli: Run, tmp_path: Path) -> None:
    (tmp_path / "captions.txt").write_text("A dog runs .\nTwo red cats sleep .\n" * 30)
    (tmp_path / "sizes.json").write_text(SIZES)
    out = tmp_path / "elmo"
    options = ["--options", tmp_path / "sizes.json", "--epochs", 2, "--batch-size", 8]
    done = groundcli("pretrain-elmo", tmp_path / "captions.txt", "--out", out, *options)
    assert "held-out perplexity" in done.stdout
    assert load_elmo(out).width == 16


def test_a_missing_file_is_one_line(groundcli: Run, tmp_path: Path) -> None:
    done = groundcli("pretrain-elmo", tmp_path / "none.txt", "--out", tmp_path / "elmo", code=3)
    assert f"{tmp_path / 'none.txt'}: can't be read as lines of text (No such file or directory)" in done.stderr
    assert len(done.stderr.splitlines()) == 1
