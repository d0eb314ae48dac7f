"""Forks of a process that has threads."""

import os

import pytest
import sizes

# A thread that starts or works at the moment of the fork leaves the lock of AddressSanitizer's allocator taken in the
# child, which waits for it when it allocates: with GCC 12, in one of 60 forks beside a notifier that had just started.
needs_fork_with_threads = pytest.mark.skipif(
    not hasattr(os, "fork") or bool(sizes.SANITIZER),
    reason="needs fork while other threads allocate, which the allocator of AddressSanitizer does not survive",
)
