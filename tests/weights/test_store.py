import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from groundcli.errors import GroundcliError
from groundcli.model.elmo import Elmo
from groundcli.recipe import ElmoConfig
from groundcli.weights.elmo import save_elmo
from groundcli.weights.fetch import PLACES
from groundcli.weights.store import (
    PUBLISHED,
    SHIPPED,
    find,
    find_model,
    hash_of,
    here,
    kind_of,
    open_model,
    store,
    weights_in,
)

TINY = ElmoConfig(filters=((1, 4), (2, 8)), character_dim=4, highways=1, activation="relu", hidden=16, projection=8)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GROUNDCLI_WEIGHTS", str(tmp_path))
    return tmp_path


def test_what_ships_is_there() -> None:
    assert {"lite", "efficientnet_lite2", "minilm_words"} <= weights_in(SHIPPED).keys()


def test_without_a_setting_the_store_is_among_the_users_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GROUNDCLI_WEIGHTS", raising=False)
    assert store().parts[-2:] == ("groundcli", "weights")


def test_names_are_found_in_the_store_and_then_as_paths(own: Path, tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, own / "mine.safetensors")
    save_elmo(Elmo(TINY), own / "elmo_mine")
    assert find("mine") == own / "mine.safetensors"
    assert find("elmo_mine") == own / "elmo_mine"
    assert find(str(own / "mine.safetensors")) == own / "mine.safetensors"


def test_what_ships_is_found_first(own: Path) -> None:
    save_file({"a": torch.zeros(1)}, own / "lite.safetensors")
    assert find("lite").parent == SHIPPED


def test_what_is_not_whole_yet_has_no_name(own: Path) -> None:
    save_elmo(Elmo(TINY), own / "elmo_mine.partial")
    (own / "vgg16.safetensors.partial").touch()
    assert here().keys() == weights_in(SHIPPED).keys()


def test_a_missing_published_part_is_told_with_the_way_to_get_it(own: Path) -> None:
    with pytest.raises(GroundcliError) as error:
        find("vgg16")
    assert str(error.value) == (
        "vgg16: not here; run `groundcli weights fetch vgg16`, or download "
        "https://download.pytorch.org/models/vgg16-397923af.pth elsewhere and run "
        "`groundcli weights import vgg16-397923af.pth`"
    )


def test_a_model_that_is_not_there_suggests_models(own: Path) -> None:
    (own / "mine.safetensors").write_bytes(find("lite").read_bytes())
    (own / "damaged.safetensors").touch()
    with pytest.raises(GroundcliError) as error:
        find_model("nope")
    assert str(error.value) == ("nope: no model of this name, and no such file or folder of a run; here: mine, lite")


def test_a_run_is_its_best_model(own: Path) -> None:
    (own / "run").mkdir()
    assert find_model(str(own / "run")) == own / "run" / "best.safetensors"
    assert find_model("lite") == SHIPPED / "lite.safetensors"


def test_a_published_name_is_no_path(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (own / "vgg16").mkdir()
    monkeypatch.chdir(own)
    with pytest.raises(GroundcliError, match="vgg16: not here; run"):
        find("vgg16")


def test_a_pipe_is_no_file(own: Path) -> None:
    os.mkfifo(own / "pipe")  # reading it would wait for ever
    with pytest.raises(GroundcliError, match="no weights of this name and no such file"):
        find(str(own / "pipe"))


def test_all_is_published_over_https_at_the_listed_places() -> None:
    urls = [url for part in PUBLISHED.values() for url in part.urls]
    assert len(urls) == 12
    assert all(url.startswith(PLACES) for url in urls)
    assert all(place.startswith("https://") and place.count("/") > 2 for place in PLACES)
    assert urls[0] == "https://download.pytorch.org/models/vgg16-397923af.pth"
    assert urls[-1] == (
        "https://s3-us-west-2.amazonaws.com/allennlp/models/elmo/2x4096_512_2048cnn_2xhighway_5.5B/"
        "elmo_2x4096_512_2048cnn_2xhighway_5.5B_options.json"
    )
    assert (PUBLISHED["vgg16"].sha256, PUBLISHED["pnasnet5large"].sha256) == ("397923af", "bf079911")


def test_torch_is_not_imported() -> None:
    code = "import sys; from groundcli.weights.store import *; kind_of(find('lite')); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_an_unknown_name_lists_what_there_is(own: Path) -> None:
    with pytest.raises(GroundcliError, match=r"^nothing: no weights of this name.*lite.*vgg16.* can be fetched$"):
        find("nothing")


@pytest.mark.parametrize(
    ("name", "kind"), [("lite", "model"), ("efficientnet_lite2", "backbone"), ("minilm_words", "words")]
)
def test_kinds_are_told_by_content(name: str, kind: str) -> None:
    assert kind_of(find(name)) == kind


def test_an_elmos_hash_is_that_of_its_weights_under_any_name(tmp_path: Path) -> None:
    save_elmo(Elmo(TINY), tmp_path)
    digest = hash_of(tmp_path / "lm_weights.hdf5")
    assert hash_of(tmp_path) == digest
    (tmp_path / "lm_weights.hdf5").rename(tmp_path / "elmo_tiny_weights.hdf5")
    (tmp_path / "options.json").rename(tmp_path / "elmo_tiny_options.json")
    assert hash_of(tmp_path) == digest


def test_an_export_is_of_one_checkpoint() -> None:
    lite = open_model("lite")
    said = json.loads((lite.export / "export.json").read_text())
    assert lite.made(said)
    del said["model"]["text"]["bilstm"]  # as one that was written before there was such a setting
    assert lite.made(said)
    assert not lite.made(said | {"crc32": "00000000"})
    assert not lite.made(said | {"model": said["model"] | {"spread": 1.0}})
    assert not lite.made({})
    assert not open_model("lite", ["model.smooth=false"]).made(said)
    assert open_model("lite", ["model.calibration=[]"]).made(said)
