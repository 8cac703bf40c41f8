"""Words of any script, and how well they match (BM25)."""
