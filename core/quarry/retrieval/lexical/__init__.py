"""The lexical arm: how text becomes words, BM25 in Tantivy, and an exact index in memory beside it."""
