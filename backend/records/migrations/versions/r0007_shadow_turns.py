"""How shadows of turns went, beside the real ones. Nothing that people wrote is in it."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSON, TIMESTAMP, UUID

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "shadow_turns",
        sa.Column("id", UUID(), primary_key=True),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("conversation_id", UUID(), sa.ForeignKey("conversations.id", ondelete="CASCADE"), nullable=False),
        sa.Column("turn_id", UUID(), nullable=False),
        sa.Column("route", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("cost_usd", sa.Float(), nullable=False),
        sa.Column("comparison", JSON(), nullable=False),
        sa.Column("created_at", TIMESTAMP(timezone=True), nullable=False, server_default=sa.text("now()")),
    )
    op.create_index("shadow_turns_by_age", "shadow_turns", ["created_at"])
    op.create_index("shadow_turns_of_conversation", "shadow_turns", ["conversation_id"])
