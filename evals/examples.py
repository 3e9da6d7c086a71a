"""An example of a task: the prompt, and the expected answer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """Attributes:
    context: what precedes the answer, including the separator from the previous example.
    answers: any of them is right; with choices, the right one.
    choices: what the model chooses from by likelihood; () if it generates the answer.
    contexts: for partial evaluation, one for each choice, which are then all equal; else ().
    """

    context: str
    answers: tuple[str, ...]
    choices: tuple[str, ...] = ()
    gold: int = 0
    contexts: tuple[str, ...] = ()

    @property
    def shown(self) -> str:
        """The solved example, with its first right answer, to precede another."""
        return (self.contexts[self.gold] if self.contexts else self.context) + self.answers[0]

    @property
    def prompts(self) -> tuple[str, ...]:
        """What precedes an answer: one text, or one for each choice."""
        return self.contexts or (self.context,)
