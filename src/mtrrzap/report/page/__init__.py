"""``mtrrzap report``: one self-contained HTML page about one or several traces.

``timeline``, ``modelled`` and ``section`` make plain rows; ``markup`` is HTML that escapes;
``figure``, ``render`` and ``render_modelled`` turn rows into it; ``document`` puts the page
together with its style and its script (``page.css``, ``page.js``). Nothing here writes a file.
"""

from mtrrzap.report.page.document import document
from mtrrzap.report.page.section import MAX_EVENTS, Section, section

__all__ = ["MAX_EVENTS", "Section", "document", "section"]
