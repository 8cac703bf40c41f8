"""Effects whose turn is gone: how often somebody looked for their outcome, and when the next one may."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TIMESTAMP

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("tool_calls", sa.Column("looks", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("tool_calls", sa.Column("next_look_at", TIMESTAMP(timezone=True), nullable=True))
