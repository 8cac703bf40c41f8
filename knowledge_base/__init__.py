"""Documents that answers rest on: loaded once, searched by word and by meaning, cited exactly, deleted truly.

PostgreSQL says what exists; a vector store is derived from it and can be made anew. This package knows neither the
agent nor the service: it is given a connection pool and a tenant, and returns passages.
"""
