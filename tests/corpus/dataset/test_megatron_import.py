from __future__ import annotations

import warnings

import pytest

from corpus.dataset.megatron_import import quiet_import


@pytest.mark.parametrize("category", [UserWarning, DeprecationWarning, FutureWarning])
def test_warnings_are_hidden_within_and_shown_after(category: type[Warning]) -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with quiet_import():
            warnings.warn("hidden", category, stacklevel=1)
        warnings.warn("shown", category, stacklevel=1)
    assert [str(warning.message) for warning in seen] == ["shown"]
