"""Runnable studies of AOPC as a training monitor: `python -m recipes.NAME`."""
