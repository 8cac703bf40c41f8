"""What was decided about routes: canaries rolled back, promoted and reset, and the configurations they were in.

Append-only. A decision's number is one above that of the one it was based on, so that of several only one is taken.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSON, TIMESTAMP, UUID

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "route_decisions",
        sa.Column("id", UUID(), primary_key=True),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("route", sa.Text(), nullable=False),  # empty, likewise below, where it is the configuration's
        sa.Column("canary", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("decided_by", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("facts", JSON(), nullable=False),
        sa.Column("created_at", TIMESTAMP(timezone=True), nullable=False, server_default=sa.text("now()")),
        sa.CheckConstraint("action IN ('rolled_back', 'promoted', 'reset', 'configuration')", name="route_action"),
    )
    op.create_index("one_route_decision", "route_decisions", ["tenant", "route", "canary", "number"], unique=True)
