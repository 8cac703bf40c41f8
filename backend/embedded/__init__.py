"""Real PostgreSQL, real Redis and the PF360 simulator as our own child processes.

Nothing here is on the path of a turn: it starts servers before the application and stops them after it. The rest of
the project sees two URLs and cannot tell an embedded store from any other.
"""

from backend.embedded.data_folder import EmbeddedError
from backend.embedded.stores import Stores, embedded_stores

__all__ = ["EmbeddedError", "Stores", "embedded_stores"]
