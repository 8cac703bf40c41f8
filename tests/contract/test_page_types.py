"""The page is compiled against the server's own types."""

import subprocess
import sys
from pathlib import Path

GENERATOR = Path(__file__).parents[2] / "frontend" / "scripts" / "generate_types.py"


def test_the_pages_types_are_those_of_the_server() -> None:
    """`frontend/src/shared/api-types.ts` is what the events and the OpenAPI document give today."""
    check = subprocess.run([sys.executable, str(GENERATOR), "--check"], capture_output=True, text=True, check=False)
    assert check.returncode == 0, check.stderr
