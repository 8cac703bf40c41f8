"""Real PostgreSQL, real Redis and the PF360 simulator as our own child processes.

Nothing here is on the path of a turn: it starts servers before the application and stops them after it. The rest of
the project sees two URLs and cannot tell an embedded store from any other.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backend.embedded.data_folder import EmbeddedError
    from backend.embedded.stores import Stores, embedded_stores

__all__ = ["EmbeddedError", "Stores", "embedded_stores"]


def __getattr__(name: str) -> object:
    # On demand: the simulator is a package below this one, and its process must not load the stores' drivers (1 s).
    if name == "EmbeddedError":
        from backend.embedded.data_folder import EmbeddedError

        return EmbeddedError
    if name in ("Stores", "embedded_stores"):
        from backend.embedded import stores

        return getattr(stores, name)
    raise AttributeError(name)
