"""groundcli points at what a caption talks about.

from groundcli import Grounder
grounder = Grounder.load("lite")
answer = grounder.ground("street.jpg", "[a man] rides [a brown horse]")
answer.phrases[0].point
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from groundcli.annotation.export import Outcome
    from groundcli.answer import Answer as Answer
    from groundcli.evaluation.rows import Evaluation
    from groundcli.grounder import Grounder as Grounder

__version__ = "0.1.0"
__all__ = ["Answer", "Grounder", "annotate", "evaluate"]


def annotate(images: Any, out: Any, **options: Any) -> "Outcome":
    """Points at every phrase of every caption of images: the command `groundcli annotate`.

    `images` is a path or several, as the command takes them, `out` the folder of results; the options are those of
    `groundcli.annotation.AnnotateOptions`, such as `overlays=False`. Gives what became of the images.

    Raises:
        groundcli.errors.GroundcliError: what the command would say.
    """
    from groundcli.annotation import AnnotateOptions
    from groundcli.annotation.run import annotate as run

    return run(AnnotateOptions.make(images=images, out=out, **options))


def evaluate(dataset: str, data: Any, **options: Any) -> "Evaluation":
    """Measures how well a model points: the command `groundcli eval`.

    `dataset` is the data set's name, `data` its folder; the options are those of
    `groundcli.evaluation.EvaluateOptions`, such as `protocol="authors"`. Gives all numbers, and the table that they
    are made of.

    Raises:
        groundcli.errors.GroundcliError: what the command would say.
    """
    from groundcli.evaluation import EvaluateOptions
    from groundcli.evaluation.rows import evaluate as run

    return run(EvaluateOptions.make(dataset=dataset, data=data, **options))


def __getattr__(name: str) -> Any:
    """Imports what needs numpy when it is first asked for: `groundcli --help` doesn't."""
    homes = {"Grounder": "groundcli.grounder", "Answer": "groundcli.answer"}
    if name in homes:
        return getattr(import_module(homes[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
