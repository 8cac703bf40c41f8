"""How good retrieval is, measured on questions with known answers."""
