"""Arras et al. 2016: which words does a network sort documents by?"""
