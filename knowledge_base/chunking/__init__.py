"""Parsed text as chunks, each a span of it."""
