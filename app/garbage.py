"""Python's garbage collection, without the modules.

A whole collection walks through every container object, and nearly all of those belong to imported modules: 95 ms of
processor time beside a page that took 20 ms. Frozen objects are passed over. Streamlit's habit of a whole collection
after every run of a page or fragment is off (.streamlit/config.toml); Python's, after so many new objects, is not.
"""

import gc
import sys

_num_modules = 0  # at the last freeze


def pass_over_modules() -> None:
    """After a page has run: freezes what its imports brought. Few runs import anything, so little else is frozen."""
    global _num_modules
    if len(sys.modules) > _num_modules:
        _num_modules = len(sys.modules)
        gc.collect()
        gc.freeze()
