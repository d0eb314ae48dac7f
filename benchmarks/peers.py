"""Other libraries, if they are here."""

import importlib
from collections.abc import Callable
from typing import Any

from contenders import Contender, Missing


def with_peer(module: str, make: Callable[[Any], Contender]) -> Contender:
    """A contender made with a module, or one that says that it is not installed."""
    try:
        return make(importlib.import_module(module))
    except ImportError as error:
        return Missing(f"{error}: pip install 'aiobridge[bench]'")
