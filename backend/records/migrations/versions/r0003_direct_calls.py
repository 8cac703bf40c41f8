"""Turns that a program began by naming a tool: whoever takes one over must know that no model belongs in it."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSON

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("turns", sa.Column("call", JSON(), nullable=True))
