"""Heatmaps under many scores: which scores agree, and which contradict each other?"""
