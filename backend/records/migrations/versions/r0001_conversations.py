"""Conversations, turns, messages, the ledger of tool calls, pending actions, audit, callbacks.

Bodies are `json`, not `jsonb`: they are read back whole, in the order and form in which a model saw them.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSON, TIMESTAMP, UUID

revision = "0001"
down_revision = None

NOW = sa.text("now()")


def _id(name: str, *, null: bool = False, key: bool = False) -> "sa.Column[object]":
    return sa.Column(name, UUID(), nullable=null, primary_key=key)


def _text(name: str, *, null: bool = False, default: str | None = None) -> "sa.Column[object]":
    return sa.Column(name, sa.Text(), nullable=null, server_default=default)


def _count(name: str, *, null: bool = False) -> "sa.Column[object]":
    return sa.Column(name, sa.Integer(), nullable=null, server_default=None if null else "0")


def _at(name: str, *, null: bool = False, now: bool = False) -> "sa.Column[object]":
    return sa.Column(name, TIMESTAMP(timezone=True), nullable=null, server_default=NOW if now else None)


def _json(name: str, *, null: bool = False) -> "sa.Column[object]":
    return sa.Column(name, JSON(), nullable=null)


def upgrade() -> None:
    op.create_table(
        "conversations",
        _id("id", key=True),
        _text("tenant"),
        _text("owner"),
        _text("agent"),
        _text("external_id", null=True),  # the session id of a client of the prototype's API
        _count("last_turn"),  # highest number given out so far, likewise below
        _count("last_message"),
        _count("last_audit"),
        _at("created_at", now=True),
        _at("updated_at", now=True),
    )
    # By creation, which never changes: an index on updated_at would cost every turn an index write.
    op.create_index("conversations_of_owner", "conversations", ["tenant", "owner", sa.text("created_at DESC"), "id"])

    op.create_table(
        "turns",
        _id("id", key=True),
        _text("tenant"),
        sa.Column("conversation_id", UUID(), sa.ForeignKey("conversations.id", ondelete="CASCADE"), nullable=False),
        _count("seq"),
        _text("state"),
        _text("idempotency_key", null=True),
        _text("request_hash"),
        _text("text"),
        _id("decision_pending_id", null=True),
        sa.Column("decision_confirm", sa.Boolean(), nullable=True),
        _id("message_id"),
        _count("message_seq"),
        _json("principal"),  # who asked, so that another replica can go on with the turn; never a token
        _text("lease_owner", null=True),
        _count("lease_fence"),
        _at("lease_expires_at", null=True),
        _text("agent_version", default=""),
        _text("provider", default=""),
        _text("model", default=""),
        _text("specialist", default=""),
        _text("reply", default=""),
        _text("error_code", null=True),
        _count("input_tokens"),
        _count("output_tokens"),
        sa.Column("model_ms", sa.Float(), nullable=False, server_default="0"),
        sa.Column("tools_ms", sa.Float(), nullable=False, server_default="0"),
        sa.Column("total_ms", sa.Float(), nullable=False, server_default="0"),
        sa.Column("events", sa.LargeBinary(), nullable=True),  # the turn's events as JSON lines, written when it ends
        _at("created_at", now=True),
        _at("ended_at", null=True),
        sa.CheckConstraint(
            "state IN ('accepted', 'running', 'completed', 'waiting', 'failed', 'cancelled')", name="turn_state"
        ),
    )
    op.create_index("turn_number", "turns", ["conversation_id", "seq"], unique=True)
    op.create_index(
        "turn_idempotency",
        "turns",
        ["conversation_id", "idempotency_key"],
        unique=True,
        postgresql_where=sa.text("idempotency_key IS NOT NULL"),
    )
    op.create_index(
        "one_open_turn",
        "turns",
        ["conversation_id"],
        unique=True,
        postgresql_where=sa.text("state IN ('accepted', 'running')"),
    )

    op.create_table(
        "messages",
        sa.Column("conversation_id", UUID(), sa.ForeignKey("conversations.id", ondelete="CASCADE"), nullable=False),
        _count("seq"),
        _id("id"),
        _text("tenant"),
        _id("turn_id"),
        _text("role"),
        _json("body"),
        _at("created_at", now=True),
        sa.PrimaryKeyConstraint("conversation_id", "seq"),
    )

    op.create_table(
        "tool_calls",
        _id("id", key=True),
        _text("tenant"),
        sa.Column("conversation_id", UUID(), sa.ForeignKey("conversations.id", ondelete="CASCADE"), nullable=False),
        _id("turn_id"),
        _text("call_id"),
        _text("tool"),
        _text("effect"),
        _json("args"),
        _text("status"),  # intended, then ok | error | unknown; pending and refused for calls that never ran
        _json("result", null=True),
        _text("part", null=True),
        _text("effect_key", null=True),
        _text("basis", null=True),
        _id("pending_id", null=True),
        _count("upstream_status", null=True),
        sa.Column("duration_ms", sa.Float(), nullable=True),
        _at("started_at", now=True),
        _at("settled_at", null=True),
    )
    op.create_index("tool_calls_of_turn", "tool_calls", ["turn_id"])
    op.create_index(
        "one_effect",
        "tool_calls",
        ["tenant", "effect_key"],
        unique=True,
        postgresql_where=sa.text("effect_key IS NOT NULL"),
    )
    op.create_index(
        "unsettled_effects", "tool_calls", ["started_at"], postgresql_where=sa.text("status IN ('intended', 'unknown')")
    )

    op.create_table(
        "pending_actions",
        _id("id", key=True),
        _text("tenant"),
        sa.Column("conversation_id", UUID(), sa.ForeignKey("conversations.id", ondelete="CASCADE"), nullable=False),
        _id("turn_id"),
        _text("call_id"),
        _text("tool"),
        _json("args"),
        _json("restatement"),
        _text("summary"),
        _text("state"),
        _at("created_at"),
        _at("expires_at"),
        _id("settled_turn_id", null=True),
        _at("settled_at", null=True),
        sa.CheckConstraint(
            "state IN ('open', 'confirmed', 'declined', 'replaced', 'expired')", name="pending_action_state"
        ),
    )
    op.create_index(
        "open_pending_actions", "pending_actions", ["conversation_id"], postgresql_where=sa.text("state = 'open'")
    )

    op.create_table(
        "audit_events",
        sa.Column("conversation_id", UUID(), sa.ForeignKey("conversations.id", ondelete="CASCADE"), nullable=False),
        _count("seq"),
        _text("tenant"),
        _id("turn_id", null=True),
        _text("actor"),
        _text("type"),
        _json("body"),
        _at("at", now=True),
        sa.Column("prev_hash", sa.LargeBinary(), nullable=True),
        sa.Column("hash", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("conversation_id", "seq"),
    )

    op.create_table(
        "callbacks",
        _id("id", key=True),
        _text("tenant"),
        _text("owner"),
        sa.Column("conversation_id", UUID(), sa.ForeignKey("conversations.id", ondelete="CASCADE"), nullable=False),
        _text("effect_key"),
        _text("reference"),
        _text("reason"),
        _text("summary"),
        _text("state", default="open"),
        _at("created_at", now=True),
    )
    op.create_index("one_callback", "callbacks", ["tenant", "effect_key"], unique=True)


def downgrade() -> None:
    for table in ("callbacks", "audit_events", "pending_actions", "tool_calls", "messages", "turns", "conversations"):
        op.drop_table(table)
