"""Runs that load documents: what they were to read, how far they came, and what was wrong with which document."""

from alembic import op

revision = "0011"
down_revision = "0010"

STATEMENTS = (
    # Without `orders` somebody else runs it (a command, an orchestrator), and nobody takes it up again.
    """
    CREATE TABLE kb_jobs (
        id uuid PRIMARY KEY,
        tenant text NOT NULL,
        base int NOT NULL REFERENCES kb_bases ON DELETE CASCADE,
        source text NOT NULL,
        kind text NOT NULL CHECK (kind IN ('load', 'sync', 'reindex')),
        orders json,
        key text,
        state text NOT NULL CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled', 'interrupted')),
        attempts int NOT NULL DEFAULT 0,
        counts json NOT NULL DEFAULT '{}',
        problems int NOT NULL DEFAULT 0,
        error_code text,
        error_message text,
        created_at timestamptz NOT NULL DEFAULT now(),
        started_at timestamptz,
        heartbeat_at timestamptz,
        ended_at timestamptz,
        cancel_requested_at timestamptz,
        UNIQUE (base, key)
    )
    """,
    "CREATE INDEX kb_jobs_by_time ON kb_jobs (tenant, created_at)",
    "CREATE INDEX kb_jobs_of_base ON kb_jobs (base)",
    "CREATE INDEX kb_open_jobs ON kb_jobs (created_at) WHERE state IN ('queued', 'running')",
    """
    CREATE TABLE kb_job_documents (
        job uuid NOT NULL REFERENCES kb_jobs ON DELETE CASCADE,
        number int NOT NULL,
        doc_id text NOT NULL,
        uri text NOT NULL,
        outcome text NOT NULL CHECK (outcome IN ('refused', 'failed', 'warning')),
        reason text NOT NULL,
        message text NOT NULL,
        kept bool NOT NULL,
        PRIMARY KEY (job, number)
    )
    """,
    # Documents that came with the order; they go when it has ended.
    """
    CREATE TABLE kb_job_uploads (
        job uuid NOT NULL REFERENCES kb_jobs ON DELETE CASCADE,
        number int NOT NULL,
        doc_id text NOT NULL,
        name text NOT NULL,
        media_type text NOT NULL,
        content bytea NOT NULL,
        sidecar bytea,
        PRIMARY KEY (job, number)
    )
    """,
    "ALTER TABLE kb_job_uploads ALTER content SET STORAGE EXTERNAL",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
