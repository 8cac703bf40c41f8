"""Parsed documents cut into the pieces that are searched and cited."""

from knowledge_base.chunking.config import ChunkingConfig
from knowledge_base.chunking.cutting import chunk

__all__ = ["ChunkingConfig", "chunk"]
