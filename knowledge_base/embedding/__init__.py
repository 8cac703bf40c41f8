"""Texts as vectors: an embedded model, services, and a cache."""
