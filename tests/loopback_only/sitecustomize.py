"""Put this folder on PYTHONPATH and a Python process cannot reach beyond loopback."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from loopback import refuse_beyond_loopback

sys.path.pop(0)
refuse_beyond_loopback()
