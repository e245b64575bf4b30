"""How relevance passes one operation: one formula each."""
