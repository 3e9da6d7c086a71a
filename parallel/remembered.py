"""Functions of a layout that are asked thousands of times, and depend on a few of its sizes.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import fields
from typing import Any, Generic, TypeVar

from configs.schema import LayoutConfig
from parallel.layout import Layout

T = TypeVar("T")
_FIELDS = frozenset(field.name for field in fields(Layout))
_NOTHING: Any = object()


class _Read(Layout):
    """A layout that notes which of its fields are read, in order."""

    __slots__ = ("reads",)

    def __getattribute__(self, name: str) -> Any:
        value = object.__getattribute__(self, name)
        if name in _FIELDS:
            object.__getattribute__(self, "reads").setdefault(name, value)
        return value


class _ReadConfig(LayoutConfig):
    """The settings of such a layout, which note the same."""

    def __getattribute__(self, name: str) -> Any:
        if name in _FIELDS:
            getattr(object.__getattribute__(self, "noted"), name)
        return object.__getattribute__(self, name)


class Remembered(Generic[T]):
    """A function of a layout, called once for each combination of the fields that it reads.

    Which these are shows when it is called: what it reads first, then next, which may depend on the
    values before, and so on. So the answer is always that of the function itself, which must depend
    on nothing else that changes.
    """

    def __init__(self, function: Callable[[Layout], T]) -> None:
        self._function = function
        self._root: Any = _NOTHING  # an answer in a _Leaf, or a _Branch

    def __call__(self, layout: Layout) -> T:
        """The function's answer."""
        node = self._root
        while type(node) is _Branch:
            node = node.after.get(getattr(layout, node.field), _NOTHING)
        if node is _NOTHING:
            return self._learn(layout)
        answer: T = node.answer
        return answer

    def asks(self, layout: Layout, fields: Collection[str]) -> bool:
        """Whether any of these fields decides on its answer for layouts that agree in the rest."""
        self(layout)
        node = self._root
        while type(node) is _Branch:
            if node.field in fields:
                return True
            node = node.after[getattr(layout, node.field)]
        return False

    @property
    def constant(self) -> bool:
        """Whether it turned out to read nothing of a layout."""
        return type(self._root) is _Leaf

    def _learn(self, layout: Layout) -> T:
        noting = noted(layout)
        answer = self._function(noting)
        reads: dict[str, Any] = object.__getattribute__(noting, "reads")
        leaf = _Leaf(answer)
        if not reads:
            self._root = leaf
            return answer
        parent: _Branch | None = None
        node, value = self._root, None
        for field in reads:
            # By `layout`, which may note what is read of it in its turn.
            value_here = getattr(layout, field)
            if node is _NOTHING:
                node = _Branch(field)
                if parent is None:
                    self._root = node
                else:
                    parent.after[value] = node
            assert node.field == field, "it depends on something else that changed"
            parent, value = node, value_here
            node = node.after.get(value, _NOTHING)
        assert parent is not None
        parent.after[value] = leaf
        return answer


class _Leaf:
    __slots__ = ("answer",)

    def __init__(self, answer: Any) -> None:
        self.answer = answer


class _Branch:
    """The next field that is read, and what follows each of its values."""

    __slots__ = ("after", "field")

    def __init__(self, field: str) -> None:
        self.field = field
        self.after: dict[Any, Any] = {}


def noted(layout: Layout) -> Layout:
    """The same layout, whose fields are noted as they are read."""
    noting = _Read.__new__(_Read)
    for name in _FIELDS:
        object.__setattr__(noting, name, object.__getattribute__(layout, name))
    object.__setattr__(noting, "reads", {})
    return noting


def noted_config(layout: Layout, *, derived: bool) -> LayoutConfig:
    """The settings of a layout from `noted`, which notes what is read of them too.

    Args:
        derived: whether `data` is null.
    """
    values = {name: object.__getattribute__(layout, name) for name in _FIELDS}
    plain = Layout(**values).as_config()
    settings = _ReadConfig.__new__(_ReadConfig)
    for name, value in {**vars(plain), "noted": layout}.items():
        object.__setattr__(settings, name, None if derived and name == "data" else value)
    return settings
