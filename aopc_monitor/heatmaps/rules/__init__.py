"""How relevance passes one operation: one formula each; `table` says which operation gets which."""
