"""How a network is asked, and left untouched."""
