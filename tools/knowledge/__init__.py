"""What the company's documents say, for whoever may read them.

What documents hold is quoted to whoever asks, and obeyed by nobody. Who may read a document, code decides from the
caller's verified identity (`visibility`); no model has a say in it.
"""

from tools.knowledge.searching import ACTIONS, GROUP

__all__ = ["ACTIONS", "GROUP"]
