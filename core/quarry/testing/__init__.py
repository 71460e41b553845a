"""For tests, ours and those of people who extend Quarry: tiny models, and the contracts of the parts.

The tiny models are built from a seed and need no network. A contract is a class of tests in a module of its
own here, which imports pytest and Hypothesis (the extra ``testing``). docs/how-to/test-a-part.md shows how to
use one.
"""

import contextlib

from quarry.testing.tiny_models import (
    SYLLABLES,
    make_tiny_cross_encoder,
    make_tiny_encoder,
    make_tiny_vocabulary,
)

__all__ = ["SYLLABLES", "make_tiny_cross_encoder", "make_tiny_encoder", "make_tiny_vocabulary"]

_CONTRACTS = (
    "cross_encoder",
    "dense_filters",
    "dense_store",
    "excerpt_index",
    "lexical_index",
    "lexical_languages",
    "lexical_results",
    "lexical_terms",
    "retriever",
)

with contextlib.suppress(ModuleNotFoundError):  # the tiny models do without it
    import pytest

    pytest.register_assert_rewrite(*(f"{__name__}.{name}" for name in _CONTRACTS))  # failures show values
