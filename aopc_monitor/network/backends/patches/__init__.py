"""Forwards of which only patches are computed, where images differ little from the last ones."""
