"""Vectors that an embedding service made, by the text they are of: what was paid for once is not paid for again.

Rows are found by their key alone. Which were not used for long is known to the day, so that reading writes little.
"""

from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE kb_embeddings (
            tenant text NOT NULL,
            model text NOT NULL,
            hash bytea NOT NULL,
            vector bytea NOT NULL,
            used_on date NOT NULL DEFAULT current_date,
            PRIMARY KEY (tenant, model, hash)
        )
        """
    )
    # A vector of 768 numbers or fewer stays in its row; numbers do not compress.
    op.execute("ALTER TABLE kb_embeddings ALTER vector SET STORAGE EXTERNAL")
    # Deleting a document asks for its texts whatever the model.
    op.execute("CREATE INDEX kb_embeddings_of_text ON kb_embeddings (tenant, hash)")
