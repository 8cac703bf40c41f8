"""What loading needs of the environment, where nothing of the service runs. Keys and defaults are the service's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

import knowledge_base
from knowledge_base.bases import KnowledgeConfig
from knowledge_base.chunking import ChunkingConfig
from knowledge_base.chunking.config import ChunkingKind
from knowledge_base.embedding.opening import EmbeddingConfig
from knowledge_base.embedding.opening import Kind as EmbeddingKind
from knowledge_base.errors import InvalidRequest
from knowledge_base.loading.orders import SourcePolicy
from knowledge_base.parsing import Limits
from knowledge_base.stores.opening import StoreKind

CONTENT = Path(knowledge_base.__file__).parent / "content"


class Environment(BaseModel):
    """DATABASE_URL, TENANT and the KB_ keys, by their names in small letters."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    database_url: str | None = None
    tenant: str = Field(default="default", pattern=r"^[a-z0-9-]{1,40}$")
    outcrop_data_dir: Path = Path(".outcrop")
    kb_store: StoreKind = "pgvector"
    kb_chroma_url: str | None = None
    kb_embedding: EmbeddingKind = "embedded"
    kb_embedding_model: str | None = None
    kb_embedding_url: str | None = None
    kb_embedding_key: SecretStr | None = None
    kb_embedding_sha256: str | None = None
    kb_embedding_dimensions: int | None = Field(default=None, ge=16, le=4000)
    kb_embedding_per_second: float | None = Field(default=None, gt=0)
    kb_chunking: ChunkingKind = "sections"
    kb_chunk_chars: int = 1000
    kb_content: Path = CONTENT
    kb_allowed_hosts: str = ""
    kb_max_file_mb: int = Field(default=50, ge=1, le=1000)
    kb_max_pages: int = Field(default=2000, ge=1)
    kb_parse_seconds: float = Field(default=60.0, gt=0)
    kb_delete_percent: float = Field(default=30.0, ge=0, le=100)

    @property
    def config(self) -> KnowledgeConfig:
        """What bases are made with."""
        key = self.kb_embedding_key
        return KnowledgeConfig(
            store=self.kb_store,
            chroma_url=self.kb_chroma_url,
            embedding=EmbeddingConfig(
                kind=self.kb_embedding,
                model=self.kb_embedding_model,
                url=self.kb_embedding_url,
                key=key.get_secret_value() if key else None,
                sha256=self.kb_embedding_sha256,
                data_dir=self.outcrop_data_dir,
                dimensions=self.kb_embedding_dimensions,
                texts_per_second=self.kb_embedding_per_second,
            ),
            chunking=ChunkingConfig(self.kb_chunking, self.kb_chunk_chars),
        )

    @property
    def limits(self) -> Limits:
        """What one document may cost."""
        return Limits(self.kb_max_file_mb * 2**20, self.kb_max_pages, self.kb_parse_seconds)

    @property
    def allowed_hosts(self) -> list[str]:
        """Private hosts that pages may come from."""
        return [part.strip() for part in self.kb_allowed_hosts.split(",") if part.strip()]

    @property
    def policy(self) -> SourcePolicy:
        """Where orders may lead."""
        return SourcePolicy(self.limits.max_bytes, self.kb_content, self.allowed_hosts)


def read_environment(environment: Mapping[str, str]) -> Environment:
    """The keys; `InvalidRequest` names the first wrong one. Empty values are as good as none."""
    given = {key.lower(): value for key, value in environment.items() if value}
    if not given.get("database_url", "").startswith(("postgresql://", "postgres://")):
        raise InvalidRequest("DATABASE_URL", "must look like postgresql://user:password@host:5432/name")
    try:
        return Environment.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise InvalidRequest(str(first["loc"][0]).upper(), first["msg"]) from None
