"""What may be wider than a narrow screen: it moves sideways by itself, also by the arrow keys."""

import html


def wide(content: str, *, label: str) -> str:
    """``content`` is HTML. The place can be focused, so that keys reach what is cut off; ``label`` says what it is."""
    name = html.escape(label, quote=True)
    return f'<div class="ep-scroll" role="group" tabindex="0" aria-label="{name}">{content}</div>'
