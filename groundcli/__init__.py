"""groundcli points at what a caption talks about.

from groundcli import Grounder
grounder = Grounder.load("lite")
answer = grounder.ground("street.jpg", "[a man] rides [a brown horse]")
answer.phrases[0].point
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from groundcli.grounder import Grounder as Grounder

__version__ = "0.1.0"
__all__ = ["Grounder"]


def __getattr__(name: str) -> Any:
    """Imports the Grounder, and torch with it, when it is first asked for: `groundcli --help` needs neither."""
    if name == "Grounder":
        from groundcli.grounder import Grounder

        return Grounder
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
