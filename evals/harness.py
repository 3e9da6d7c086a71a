"""Runs EleutherAI's lm-evaluation-harness on our models: all its tasks, under any layout.

Rank 0 runs the harness unchanged; its requests to the model go to all ranks.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from datasets.exceptions import DatasetsError
from lm_eval import simple_evaluate
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs
from lm_eval.tasks import TaskManager, get_task_dict
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from configs.errors import InputError
from configs.settings.asking import EvaluateConfig
from evals.language_model import LanguageModel
from evals.results import HARNESS_RESULTS
from evals.tasks import FEW
from parallel.inference.decoding import GREEDY, Draw, Tokens

_BOOTSTRAPS = 1000


class HarnessModel(TemplateLM):  # type: ignore[misc]  # the harness is untyped
    """Implements the harness's model interface with `LanguageModel`."""

    def __init__(self, model: LanguageModel) -> None:
        super().__init__()
        self._model = model

    @property
    def eot_token_id(self) -> int:
        """The end-of-text token."""
        return self._model.tokenizer.end_of_text

    @property
    def prefix_token_id(self) -> int:
        """What the harness puts before text without context."""
        return self._model.start[0]

    @property
    def max_length(self) -> int:
        """The model's context in tokens."""
        return self._model.context

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **_harness: Any
    ) -> Any:
        """Begins with the token that begins a text, unless the harness requests none."""
        tokenizer = self._model.tokenizer
        plain = add_special_tokens is False
        return tokenizer.encode(string) if plain else tokenizer.encode_prompt(string)

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, Tokens, Tokens]], **_harness: Any
    ) -> list[tuple[float, bool]]:
        found = self._model.token_likelihoods([(before, asked) for _, before, asked in requests])
        answers = [(it.value, it.greedy) for it in found]
        for (text, _, _), answer in zip(requests, answers, strict=True):
            if text is not None:
                self.cache_hook.add_partial("loglikelihood", text, answer)
        return answers

    def loglikelihood_rolling(self, requests: Sequence[Any], **_harness: Any) -> list[float]:
        """Log-likelihoods of full texts, in windows without overlap, as in the harness."""
        windows: list[tuple[Any, Tokens, Tokens]] = []
        of: list[int] = []
        for number, request in enumerate(requests):
            pieces = get_rolling_token_windows(
                token_list=self.tok_encode(request.args[0], add_special_tokens=False),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length,
                context_len=1,
            )
            for piece in map(make_disjoint_window, pieces):
                windows.append((None, *piece))
                of.append(number)
        totals = [0.0] * len(requests)
        for number, (value, _greedy) in zip(of, self._loglikelihood_tokens(windows), strict=True):
            totals[number] += value
        return totals

    def generate_until(self, requests: Sequence[Any], **_harness: Any) -> list[str]:
        """Generates for all requests of equal settings at once; returns answers in their order."""
        found: dict[int, str] = {}
        for settings, numbers in _alike(request.args[1] for request in requests):
            asked = normalize_gen_kwargs(settings)
            eos = self._model.tokenizer.decode([self.eot_token_id])
            stops = handle_stop_sequences(asked.get("until"), eos=eos)
            draw = GREEDY
            if asked.get("do_sample") and asked.get("temperature"):
                draw = Draw(temperature=asked["temperature"], top_p=asked.get("top_p", 1.0))
            contexts = [requests[number].args[0] for number in numbers]
            texts = self._model.generate(contexts, asked["max_gen_toks"], stops, draw=draw)
            found.update(zip(numbers, texts, strict=True))
            for context, text in zip(contexts, texts, strict=True):
                self.cache_hook.add_partial("generate_until", (context, settings), text)
        return [found[number] for number in range(len(requests))]


def _alike(settings: Iterable[dict[str, Any]]) -> list[tuple[dict[str, Any], list[int]]]:
    """Groups requests with equal settings."""
    groups: dict[str, tuple[dict[str, Any], list[int]]] = {}
    for number, each in enumerate(settings):
        key = json.dumps(each, sort_keys=True, default=str)
        groups.setdefault(key, (each, []))[1].append(number)
    return list(groups.values())


def run_harness(model: LanguageModel, settings: EvaluateConfig, folder: Path) -> None:
    """Writes the harness's results, by evaluate.shots.

    Raises InputError for an unknown task, or one whose data set cannot be loaded.
    """
    # Its bootstrap would fork a process that holds sockets to other ranks.
    os.environ["DISABLE_MULTIPROC"] = "1"
    manager = _manager(settings)
    _load_data(settings, manager)
    found = {}
    for asked in settings.shots:
        found[asked] = simple_evaluate(
            model=HarnessModel(model),
            tasks=list(settings.harness),
            num_fewshot=None if asked == FEW else int(asked),  # None: the task's own
            limit=settings.limit,
            task_manager=manager,
            random_seed=settings.seed,
            numpy_random_seed=settings.seed,
            torch_random_seed=settings.seed,
            fewshot_random_seed=settings.seed,
            bootstrap_iters=_BOOTSTRAPS,
            log_samples=True,
        )
    text = json.dumps(found, indent=1, ensure_ascii=False, default=str)
    (folder / HARNESS_RESULTS).write_text(text + "\n", encoding="utf-8")


def _load_data(settings: EvaluateConfig, manager: TaskManager) -> None:
    """Loads data before anything is evaluated; the harness then finds it in its cache."""
    for name in settings.harness:
        try:
            get_task_dict([name], manager)
        except (OSError, DatasetsError) as error:
            reason = " ".join(str(error).split())
            raise InputError(
                f"evaluate.harness={name}: its data set cannot be loaded ({reason}); nearest: load "
                "it once where the Hub can be reached (HF_HOME is the cache, on a disk that both "
                "see), or evaluate.harness_path=DIR with tasks whose data are files"
            ) from error


def _manager(settings: EvaluateConfig) -> TaskManager:
    """Indexes only the folder's tasks if those are all requested: the harness has thousands."""
    unknown = list(settings.harness)
    for defaults in (False, True):
        if not defaults and settings.harness_path is None:
            continue
        manager = TaskManager(include_path=settings.harness_path, include_defaults=defaults)
        unknown = [name for name in settings.harness if not manager.match_tasks([name])]
        if not unknown:
            return manager
    raise InputError(
        f"evaluate.harness={unknown[0]}: the harness has no such task; evaluate.harness_path=DIR "
        "adds those of a folder, `lm_eval ls tasks` lists its own"
    )
