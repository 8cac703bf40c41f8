"""When somebody asked that a turn ends; whoever holds its lease sees it, also after a take-over."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TIMESTAMP

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column("turns", sa.Column("cancel_requested_at", TIMESTAMP(timezone=True)))
