"""The scores as functions, as their papers define them."""
