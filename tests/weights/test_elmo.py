import json
from pathlib import Path

import pytest
import torch

from groundcli.errors import GroundcliError
from groundcli.model.elmo import Elmo
from groundcli.recipe import ElmoConfig
from groundcli.weights.elmo import load_elmo, load_options, save_elmo
from groundcli.weights.store import PUBLISHED, elmo_paths

TINY = ElmoConfig(filters=((1, 4), (2, 8)), character_dim=4, highways=2, activation="relu", hidden=16, projection=8)
FILTERS = "[[1, 32], [2, 32], [3, 64], [4, 128], [5, 256], [6, 512], [7, 1024]]"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_elmo(Elmo(TINY), tmp_path)
    return tmp_path


def test_files_round_trip(tmp_path: Path) -> None:
    elmo = Elmo(TINY)
    save_elmo(elmo, tmp_path)
    again = load_elmo(tmp_path)
    assert again.config == TINY
    assert all(torch.equal(a, b) for a, b in zip(elmo.state_dict().values(), again.state_dict().values(), strict=True))


@pytest.mark.parametrize(
    ("options", "weights"),
    [
        ("options.json", "lm_weights.hdf5"),
        ("options.json", "weights.hdf5"),
        ("elmo_2x16_8_options.json", "elmo_2x16_8_weights.hdf5"),
    ],
)
def test_files_are_found_by_the_names_people_have(folder: Path, options: str, weights: str) -> None:
    (folder / "options.json").rename(folder / options)
    (folder / "lm_weights.hdf5").rename(folder / weights)
    assert elmo_paths(folder) == (folder / options, folder / weights)
    assert load_elmo(folder).config == TINY


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("options.json", r"an ELMo's options, options.json or \*_options.json; has none"),
        ("lm_weights.hdf5", r"an ELMo's weights, lm_weights.hdf5 or weights.hdf5 or \*_weights.hdf5; has none"),
    ],
)
def test_a_missing_file_is_one_line(folder: Path, name: str, expected: str) -> None:
    (folder / name).unlink()
    with pytest.raises(GroundcliError, match=rf"{folder.name}: needs one file with {expected}"):
        load_elmo(folder)


def test_two_files_of_weights_are_one_too_many(folder: Path) -> None:
    (folder / "weights.hdf5").touch()
    with pytest.raises(GroundcliError, match=r"has lm_weights.hdf5, weights.hdf5$"):
        load_elmo(folder)


def test_weights_of_another_size_are_refused(folder: Path) -> None:
    options = json.loads((folder / "options.json").read_text())
    options["lstm"]["dim"] = 32
    (folder / "options.json").write_text(json.dumps(options))
    with pytest.raises(GroundcliError, match=r"lm_weights.hdf5: RNN_0.*/W_0 has shape \(16, 64\), .* says \(16, 128\)"):
        load_elmo(folder)


def test_weights_with_fewer_layers_are_refused(folder: Path) -> None:
    options = json.loads((folder / "options.json").read_text())
    options["lstm"]["n_layers"] = 3
    (folder / "options.json").write_text(json.dumps(options))
    with pytest.raises(GroundcliError, match=r"lm_weights.hdf5: has no array RNN_0.*Cell2"):
        load_elmo(folder)


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.99])
def test_cut_off_weights_are_one_line(folder: Path, kept: float) -> None:
    whole = (folder / "lm_weights.hdf5").read_bytes()
    (folder / "lm_weights.hdf5").write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(GroundcliError, match=r"lm_weights.hdf5: can't be read as HDF5"):
        load_elmo(folder)


@pytest.mark.parametrize("seed", range(8))
def test_spoilt_weights_are_one_line(folder: Path, seed: int) -> None:
    spoilt = bytearray((folder / "lm_weights.hdf5").read_bytes())
    draw = torch.Generator().manual_seed(seed)
    for place in torch.randint(len(spoilt), (200,), generator=draw).tolist():
        spoilt[place] ^= 255
    (folder / "lm_weights.hdf5").write_bytes(spoilt)
    with pytest.raises(GroundcliError, match=r"lm_weights.hdf5: "):
        load_elmo(folder)


@pytest.mark.parametrize(
    ("name", "highways", "hidden", "projection"),
    [
        ("elmo_small", 1, 1024, 128),
        ("elmo_medium", 1, 2048, 256),
        ("elmo_original", 2, 4096, 512),
        ("elmo_original_5.5b", 2, 4096, 512),
    ],
)
def test_published_options_are_read(tmp_path: Path, name: str, highways: int, hidden: int, projection: int) -> None:
    lstm = f'"projection_dim": {projection}, "cell_clip": 3, "proj_clip": 3, "dim": {hidden}, "n_layers": 2'
    cnn = f'"activation": "relu", "filters": {FILTERS}, "n_highway": {highways}, "embedding": {{"dim": 16}}'
    (tmp_path / "options.json").write_text(
        f'{{"lstm": {{"use_skip_connections": true, {lstm}}}, '
        f'"char_cnn": {{{cnn}, "n_characters": 262, "max_characters_per_token": 50}}}}'
    )
    assert load_options(tmp_path / "options.json") == PUBLISHED[name].elmo


@pytest.mark.parametrize("content", ["", "{}", '{"lstm": 1}'])
def test_options_of_something_else_are_refused(folder: Path, content: str) -> None:
    (folder / "options.json").write_text(content)
    with pytest.raises(GroundcliError, match=r"options.json: not the options of an ELMo"):
        load_elmo(folder)


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [("lstm", "use_skip_connections", False), ("lstm", "proj_clip", 5), ("char_cnn", "activation", "gelu")],
)
def test_options_of_another_elmo_are_refused(folder: Path, part: str, key: str, value: object) -> None:
    options = json.loads((folder / "options.json").read_text())
    options[part][key] = value
    (folder / "options.json").write_text(json.dumps(options))
    says = r"needs skip|char_cnn.activation = .gelu.; expected relu or tanh"
    with pytest.raises(GroundcliError, match=rf"options.json: not the options of an ELMo \(({says})"):
        load_elmo(folder)


@pytest.mark.parametrize(
    ("part", "key", "value", "reason"),
    [
        ("lstm", "dim", 0, "lstm.dim = 0; expected 1 to 16384"),
        ("lstm", "dim", -1, "lstm.dim = -1; expected 1 to 16384"),
        ("lstm", "dim", "many", "lstm.dim = 'many' is of the wrong type; expected int"),
        ("lstm", "n_layers", 10_000_000, "lstm.n_layers = 10000000; expected 1 to 64"),
        ("lstm", "n_layers", None, "lstm.n_layers = None is of the wrong type; expected int"),
        ("char_cnn", "n_highway", -1, "char_cnn.n_highway = -1; expected 0 to 64"),
        ("char_cnn", "filters", [], "char_cnn.filters has 0 values; expected 1 to 64"),
        ("char_cnn", "filters", [[1, 4, 2]], "char_cnn.filters has 3 values; expected 2"),
        ("char_cnn", "filters", [[51, 4]], "char_cnn.filters = 51; expected 1 to 50"),
        ("char_cnn", "embedding", {"dim": True}, "char_cnn.embedding.dim = True is of the wrong type; expected int"),
        ("char_cnn", "embedding", 3, "'int' object is not subscriptable"),
    ],
)
def test_sizes_that_can_not_be_are_one_line(folder: Path, part: str, key: str, value: object, reason: str) -> None:
    options = json.loads((folder / "options.json").read_text())
    options[part][key] = value
    (folder / "options.json").write_text(json.dumps(options))
    with pytest.raises(GroundcliError) as error:
        load_elmo(folder)
    assert str(error.value) == (
        f"{folder}/options.json: not the options of an ELMo ({reason}); expected AllenNLP's options.json"
    )


@pytest.mark.parametrize("clip", [0, float("nan")])
def test_a_bound_that_bounds_nothing_is_refused(folder: Path, clip: float) -> None:
    options = json.loads((folder / "options.json").read_text())
    options["lstm"] |= {"cell_clip": clip, "proj_clip": clip}
    (folder / "options.json").write_text(json.dumps(options))
    with pytest.raises(GroundcliError, match=r"options.json: not the options of an ELMo"):
        load_elmo(folder)
