"""An example of a task: what a model is shown, and what it should say."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """Attributes:
    context: what comes before the answer, and what separates it from the example before.
    answers: any of them is right; with choices, the one that is.
    choices: what the model chooses among by likelihood; () where it writes the answer itself.
    contexts: of partial evaluation, one for each choice, which then are all alike; else ().
    """

    context: str
    answers: tuple[str, ...]
    choices: tuple[str, ...] = ()
    gold: int = 0
    contexts: tuple[str, ...] = ()

    @property
    def shown(self) -> str:
        """As a solved example before another: with its first right answer."""
        return (self.contexts[self.gold] if self.contexts else self.context) + self.answers[0]

    @property
    def prompts(self) -> tuple[str, ...]:
        """What stands before an answer: one text, or one for each choice."""
        return self.contexts or (self.context,)
