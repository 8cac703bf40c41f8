"""Put this folder on PYTHONPATH and a Python process cannot reach beyond loopback."""

import runpy
from pathlib import Path

runpy.run_path(str(Path(__file__).parents[1] / "loopback.py"))["refuse_beyond_loopback"]()
