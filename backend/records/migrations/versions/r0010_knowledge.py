"""Knowledge bases: documents with all their stages, chunks, and the words they are found by.

Vectors are not here: each index of pgvector has a table of its own, which is made and dropped with it, so that this
migration runs where the extension `vector` is missing.
"""

from alembic import op

revision = "0010"
down_revision = "0009"

# In the order in which one refers to another. Whatever belongs to a base carries its number, which belongs to one
# tenant. Text in COLLATE "C" has one order everywhere; long values that are not worth compressing stay as they are.
STATEMENTS = (
    """
    CREATE TABLE kb_bases (
        number int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        tenant text NOT NULL,
        id text NOT NULL UNIQUE CHECK (id ~ '^[A-Z0-9]{10}$'),
        name text NOT NULL COLLATE "C",
        next_chunk bigint NOT NULL DEFAULT 1,
        created_at timestamptz NOT NULL DEFAULT now(),
        UNIQUE (tenant, name)
    )
    """,
    """
    CREATE TABLE kb_indexes (
        number int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        base int NOT NULL REFERENCES kb_bases ON DELETE CASCADE,
        state text NOT NULL CHECK (state IN ('live', 'building')),
        store text NOT NULL CHECK (store IN ('pgvector', 'chroma')),
        model text,
        dimension int,
        chunking jsonb NOT NULL,
        tokens_version int NOT NULL,
        next_segment int NOT NULL DEFAULT 1,
        documents bigint NOT NULL DEFAULT 0,
        chunks bigint NOT NULL DEFAULT 0,
        words bigint NOT NULL DEFAULT 0,
        created_at timestamptz NOT NULL DEFAULT now(),
        changed_at timestamptz
    )
    """,
    "CREATE UNIQUE INDEX kb_one_index ON kb_indexes (base, state)",
    """
    CREATE TABLE kb_documents (
        number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        base int NOT NULL REFERENCES kb_bases ON DELETE CASCADE,
        doc_id text NOT NULL COLLATE "C",
        source text NOT NULL COLLATE "C",
        uri text NOT NULL,
        title text NOT NULL,
        media_type text NOT NULL,
        language text NOT NULL,
        version int NOT NULL,
        state text NOT NULL CHECK (state IN ('live', 'deleted')),
        attributes jsonb NOT NULL,
        content_hash text NOT NULL,
        fingerprint text NOT NULL,
        stamp text NOT NULL,
        size bigint NOT NULL,
        characters bigint NOT NULL,
        loaded_at timestamptz NOT NULL DEFAULT now(),
        deleted_at timestamptz,
        UNIQUE (base, doc_id)
    )
    """,
    # Attributes are kept below the base's number, {"17": {"topic": "x"}}: the index leads to this base's only.
    "CREATE INDEX kb_attributes ON kb_documents USING gin (attributes jsonb_path_ops) WITH (fastupdate = off)",
    """
    CREATE TABLE kb_raw (
        document bigint PRIMARY KEY REFERENCES kb_documents ON DELETE CASCADE,
        content bytea NOT NULL,
        sidecar bytea
    )
    """,
    """
    CREATE TABLE kb_parsed (
        document bigint PRIMARY KEY REFERENCES kb_documents ON DELETE CASCADE,
        text text NOT NULL,
        context text NOT NULL,
        headings jsonb NOT NULL,
        pages jsonb NOT NULL
    )
    """,
    """
    CREATE TABLE kb_parts (
        index int NOT NULL REFERENCES kb_indexes ON DELETE CASCADE,
        document bigint NOT NULL REFERENCES kb_documents ON DELETE CASCADE,
        version int NOT NULL,
        first bigint NOT NULL,
        count int NOT NULL,
        PRIMARY KEY (index, document)
    )
    """,
    "CREATE INDEX kb_parts_of_document ON kb_parts (document)",
    # No foreign keys from here: these rows come by the hundred thousand, and go with their part by code.
    """
    CREATE TABLE kb_chunks (
        index int NOT NULL,
        number bigint NOT NULL,
        document bigint NOT NULL,
        ordinal int NOT NULL,
        occurrence int NOT NULL,
        start int NOT NULL,
        "end" int NOT NULL,
        page int,
        parent_start int,
        parent_end int,
        words int NOT NULL,
        key text NOT NULL,
        section text NOT NULL,
        context text NOT NULL,
        text text NOT NULL,
        PRIMARY KEY (index, number)
    )
    """,
    """
    CREATE TABLE kb_segments (
        index int NOT NULL,
        segment int NOT NULL,
        first bigint NOT NULL,
        last bigint NOT NULL,
        chunks int NOT NULL,
        PRIMARY KEY (index, segment)
    )
    """,
    """
    CREATE TABLE kb_postings (
        index int NOT NULL,
        term text NOT NULL COLLATE "C",
        segment int NOT NULL,
        n int NOT NULL,
        postings bytea NOT NULL,
        PRIMARY KEY (index, term, segment)
    )
    """,
    """
    CREATE TABLE kb_packs (
        index int NOT NULL,
        segment int NOT NULL,
        first bigint NOT NULL,
        last bigint NOT NULL,
        chunks int NOT NULL,
        terms text NOT NULL,
        counts bytea NOT NULL,
        postings bytea NOT NULL,
        PRIMARY KEY (index, segment)
    )
    """,
    "CREATE TABLE kb_dead (index int NOT NULL, number bigint NOT NULL, PRIMARY KEY (index, number))",
    # Vectors of indexes whose store is elsewhere, as float16: what that store is checked and rebuilt from.
    """
    CREATE TABLE kb_vector_copies (
        index int NOT NULL,
        number bigint NOT NULL,
        vector bytea NOT NULL,
        PRIMARY KEY (index, number)
    )
    """,
    # What that store still has to remove (number 0: all); it is told after the commit, and again until it has done so.
    "CREATE TABLE kb_orphans (collection text NOT NULL, number bigint NOT NULL, PRIMARY KEY (collection, number))",
    "ALTER TABLE kb_raw ALTER content SET STORAGE EXTERNAL",
    "ALTER TABLE kb_parsed ALTER text SET STORAGE EXTERNAL",
    "ALTER TABLE kb_postings ALTER postings SET STORAGE EXTERNAL",
    "ALTER TABLE kb_packs ALTER terms SET STORAGE EXTERNAL",
    "ALTER TABLE kb_packs ALTER postings SET STORAGE EXTERNAL",
    "ALTER TABLE kb_vector_copies ALTER vector SET STORAGE EXTERNAL",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
