"""The images of the recipes."""
