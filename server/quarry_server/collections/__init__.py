"""CollectionService and DocumentService: collections, their documents, and reindexing."""
