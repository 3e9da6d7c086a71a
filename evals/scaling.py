"""Power laws of loss: fitted to finished runs, and used to predict another.

L = scale * x ** -exponent, a line in logarithms (Kaplan et al. 2020; Brown et al. 2020, figure 3.1,
where L = 2.57 C ** -0.048 with C in PF-days). Embeddings are excluded from parameters and compute.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scipy import stats

from models.shape import ModelShape

PF_DAY = 1e15 * 86_400  # FLOPs
FEWEST = 3  # runs needed for a line with an error


def parameters_beside_embeddings(shape: ModelShape) -> int:
    """Parameters without token and position embeddings."""
    return shape.parameters - shape.embedding_parameters


def compute_of(shape: ModelShape, tokens: float) -> float:
    """PF-days of training: 6 FLOPs per parameter and token (Brown et al. 2020, appendix D)."""
    return 6 * parameters_beside_embeddings(shape) * tokens / PF_DAY


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A finished run, or one to be predicted.

    Attributes:
        parameters: without embeddings.
        curve: (PF-days, loss on held-out text) at each evaluation; empty for a run not trained yet.
    """

    name: str
    shape: ModelShape
    tokens: int
    curve: tuple[tuple[float, float], ...] = ()

    @property
    def parameters(self) -> int:
        """Without embeddings."""
        return parameters_beside_embeddings(self.shape)

    @property
    def compute(self) -> float:
        """PF-days of training, without embeddings."""
        return compute_of(self.shape, self.tokens)

    @property
    def loss(self) -> float:
        """The last evaluation's loss on held-out text, in nats per token."""
        return self.curve[-1][1]


AXES: dict[str, tuple[str, Callable[[Trained], float]]] = {
    "compute": ("PF-days", lambda run: run.compute),
    "parameters": ("without embeddings", lambda run: run.parameters),
    "tokens": ("", lambda run: run.tokens),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """A loss with its interval at the configured confidence."""

    loss: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerLaw:
    """L = scale * x ** -exponent, with intervals at the confidence of the fit."""

    scale: float
    scale_interval: tuple[float, float]
    exponent: float
    exponent_interval: tuple[float, float]
    runs: int
    _error: float  # of a run about the line, in log loss
    _mean: float  # of log x
    _spread: float  # sum of squares of log x about its mean
    _t: float  # Student's, of the confidence

    def at(self, x: float) -> Prediction:
        """The loss of one more run, with the prediction interval of a regression line."""
        place = math.log(x)
        loss = math.log(self.scale) - self.exponent * place
        beside = 1 + 1 / self.runs + (place - self._mean) ** 2 / self._spread
        margin = self._t * self._error * math.sqrt(beside)
        return Prediction(
            loss=math.exp(loss), low=math.exp(loss - margin), high=math.exp(loss + margin)
        )


def fit(xs: Sequence[float], losses: Sequence[float], confidence: float = 0.95) -> PowerLaw:
    """Least squares in logarithms. Needs FEWEST runs or more, not all of one x."""
    assert len(xs) == len(losses) >= FEWEST
    logs = [math.log(x) for x in xs]
    log_losses = [math.log(loss) for loss in losses]
    line = stats.linregress(logs, log_losses)
    t = float(stats.t.ppf((1 + confidence) / 2, len(xs) - 2))
    mean = sum(logs) / len(logs)
    residuals = [
        loss - line.intercept - line.slope * x for x, loss in zip(logs, log_losses, strict=True)
    ]
    of_exponent, of_scale = t * line.stderr, t * line.intercept_stderr
    return PowerLaw(
        scale=math.exp(line.intercept),
        scale_interval=(math.exp(line.intercept - of_scale), math.exp(line.intercept + of_scale)),
        exponent=-line.slope,
        exponent_interval=(-line.slope - of_exponent, -line.slope + of_exponent),
        runs=len(xs),
        _error=math.sqrt(sum(it**2 for it in residuals) / (len(xs) - 2)),
        _mean=mean,
        _spread=sum((x - mean) ** 2 for x in logs),
        _t=t,
    )
