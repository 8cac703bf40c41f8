"""Calls that the client of a conversation has to run: any replica may take the result, and none is asked for twice."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSON, TIMESTAMP, UUID

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "client_actions",
        sa.Column("id", UUID(), primary_key=True),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("conversation_id", UUID(), sa.ForeignKey("conversations.id", ondelete="CASCADE"), nullable=False),
        sa.Column("turn_id", UUID(), nullable=False),
        sa.Column("call_key", sa.Text(), nullable=False),
        sa.Column("call_id", sa.Text(), nullable=False),
        sa.Column("tool", sa.Text(), nullable=False),
        sa.Column("args", JSON(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False, server_default="open"),
        sa.Column("result", JSON(), nullable=True),
        sa.Column("created_at", TIMESTAMP(timezone=True), nullable=False, server_default=sa.text("now()")),
        sa.Column("expires_at", TIMESTAMP(timezone=True), nullable=False),
        sa.Column("answered_at", TIMESTAMP(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('open', 'answered', 'expired')", name="client_action_state"),
    )
    op.create_index("one_client_action", "client_actions", ["tenant", "call_key"], unique=True)
    op.create_index("client_actions_of_conversation", "client_actions", ["conversation_id"])
