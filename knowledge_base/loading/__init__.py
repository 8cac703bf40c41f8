"""From a source to the store, document by document; every stage is kept."""
