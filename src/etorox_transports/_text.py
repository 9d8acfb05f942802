"""What other people's text becomes before a terminal gets it. Needs no extra, so that every message can use it."""

from __future__ import annotations

__all__ = ["printable"]


def printable(text: str) -> str:
    r"""The text with whatever could steer a terminal written out, as `\x1b` and the like; line ends stay.

    Servers, files and environments bring text that nobody has checked.
    """
    return "".join(
        character if character.isprintable() or character == "\n" else character.encode("unicode_escape").decode()
        for character in text
    )
