"""ELMo run by AllenNLP's own code, as the authors ran it, in place of groundcli.model.elmo.

AllenNLP is no longer maintained and asks for versions of torch that Python 3.11 can't install; its ELMo runs on today's
torch all the same once it is installed without its dependencies.
"""

from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from types import ModuleType

from torch import Tensor, nn

from groundcli.errors import GroundcliError, first_line
from groundcli.model.elmo import without_boundaries
from groundcli.weights.elmo_files import check_elmo, elmo_paths

INSTALL = "pip install 'groundcli[allennlp]' && pip install --no-deps allennlp==2.10.1"


def _allennlp() -> ModuleType:
    try:
        import allennlp.modules.elmo
    except ImportError as error:
        raise GroundcliError(f"AllenNLP can't be imported ({first_line(error)}); install it: {INSTALL}") from None
    return allennlp.modules.elmo


class AllenNlpElmo(nn.Module):
    """Tokenised captions -> the layers of each word, and each LSTM layer's sentence vector; frozen.

    Attributes:
        config: the sizes.
        width: of every layer, twice the projection.
    """

    def __init__(self, options: Path, weights: Path):
        super().__init__()
        module = _allennlp()
        self.config = check_elmo(options, weights)
        self.width = 2 * self.config.projection
        self.batch_to_ids = module.batch_to_ids
        self.bilm = module._ElmoBiLm(str(options), str(weights))
        self._alone = Lock()  # for calls of several threads, as it keeps a state
        self.eval().requires_grad_(False)

    def _ids(self, captions: Sequence[Sequence[str]]) -> Tensor:
        """Character ids (C, T, 50)."""
        return self.batch_to_ids([list(c) for c in captions]).to(next(self.parameters()).device)

    def word_vectors(self, words: Sequence[str]) -> Tensor:
        """Words out of context -> (U, P)."""
        return self.bilm._token_embedder(self._ids([words]))["token_embedding"][0, 1:-1]

    def layers(self, captions: Sequence[Sequence[str]]) -> tuple[list[Tensor], Tensor]:
        """All layers with sentence boundaries, (C, T + 2, 2 P) each; their mask."""
        with self._alone:
            self.bilm._elmo_lstm.reset_states()  # else this call would begin where the one before ended
            out = self.bilm(self._ids(captions))
        return out["activations"], out["mask"]

    def forward(self, captions: Sequence[Sequence[str]]) -> tuple[list[Tensor], list[Tensor]]:
        """Layers of words (W, 2 P) and of sentences (C, 2 P), without boundaries, as those of Elmo."""
        return without_boundaries(*self.layers(captions))


def load_allennlp_elmo(folder: Path) -> AllenNlpElmo:
    """Reads an ELMo's folder. Raises GroundcliError where AllenNLP isn't installed or the files are no ELMo's."""
    return AllenNlpElmo(*elmo_paths(folder))
