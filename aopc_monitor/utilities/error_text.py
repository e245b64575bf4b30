"""What an error says, whatever class it is of."""

from __future__ import annotations


def said_by(error: BaseException) -> str:
    """The text of an error; a user's own class may fail to make it.

    Example:
        >>> said_by(ValueError("no images"))
        'no images'
    """
    try:
        return str(error)
    except Exception:
        return "(an error whose text cannot be made)"


def shortened(text: str, most: int = 300) -> str:
    r"""The first line of a text, or of that what fits: errors may print a whole network.

    Example:
        >>> shortened("wrong shape\nNet(\n  (0): Linear)")
        'wrong shape'
    """
    line = text.strip().partition("\n")[0]
    return line if len(line) <= most else f"{line[:most]}..."
