"""Other libraries, if they are here."""

import importlib
from collections.abc import Callable
from typing import Any

from contenders import Contender, Missing


def with_peer(module: str, make: Callable[[Any], Contender]) -> Contender:
    """A contender made with a module, or one that says what is missing."""
    try:
        return make(importlib.import_module(module))
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == module:
            return Missing("not installed: pip install 'aiobridge[bench]'")
        return Missing(f"does not import: {error}")
