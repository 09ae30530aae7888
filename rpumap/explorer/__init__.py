"""Reference maps in a web page, which maps cells without Python and without sending them anywhere.

The page runs the network, its bounds and the index of a :class:`rpumap.ReferenceMap` in the
browser. Its scripts in ``static`` are built from the JavaScript modules in ``src``, by
``make javascript``.
"""

from rpumap.explorer.web_page import export as export
