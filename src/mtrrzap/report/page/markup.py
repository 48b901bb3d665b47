"""HTML as text, escaped unless it is known to be HTML already."""

import json
from html import escape


class Markup(str):
    """Text that is HTML. Any other text is escaped when it becomes part of an element."""

    __slots__ = ()


def join(*children: object) -> Markup:
    """Concatenate; None is left out, what is no ``Markup`` is escaped."""
    return Markup(
        "".join(
            child if isinstance(child, Markup) else escape(str(child))
            for child in children
            if child is not None
        )
    )


def el(name: str, *children: object, **attributes: object) -> Markup:
    """Return an element; ``class_`` is ``class``, ``aria_label`` is ``aria-label``.

    An attribute that is None or False is left out, one that is True has no value.
    """
    words = [name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.rstrip("_").replace("_", "-")
        words.append(key if value is True else f'{key}="{escape(str(value))}"')
    return Markup(f"<{' '.join(words)}>{join(*children)}</{name}>")


def data_block(value: object) -> Markup:
    """Return JSON for a ``script`` element: nothing in it can end the element."""
    text = json.dumps(value, separators=(",", ":"))
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return Markup(text)
