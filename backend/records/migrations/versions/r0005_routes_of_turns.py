"""By which route a turn was answered, and what its models cost."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("turns", sa.Column("route", sa.Text(), nullable=False, server_default=""))
    op.add_column("turns", sa.Column("arm", sa.Text(), nullable=False, server_default=""))  # primary, canary, ...
    op.add_column("turns", sa.Column("cost_usd", sa.Float(), nullable=False, server_default="0"))
