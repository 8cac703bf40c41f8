"""`python -m backend` is `outcrop`."""

from backend.cli import main

main()
