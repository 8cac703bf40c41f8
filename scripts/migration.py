"""Write an empty migration with the next number.

make migration NAME="add notes"
"""

import re
import sys
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

MIGRATIONS = Path(__file__).resolve().parents[1] / "backend" / "records" / "migrations"


def main(name: str) -> None:
    """Create `versions/r<number>_<name>.py` after the newest one, and say what is left to do."""
    slug = re.sub(r"\W+", "_", name.lower()).strip("_")
    if not slug:
        sys.exit('A migration needs a name: make migration NAME="add notes"')
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("file_template", "r%%(rev)s_%%(slug)s")
    head = ScriptDirectory.from_config(config).get_current_head()
    number = f"{int(head or '0') + 1:04}"
    command.revision(config, message=name.strip(), rev_id=number)
    print(f'Fill it in, then set HEAD = "{number}" in backend/records/migrate.py.')


if __name__ == "__main__":
    main(" ".join(sys.argv[1:]))
