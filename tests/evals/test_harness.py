"""EleutherAI's harness gives our model and its own backend on the exported one the same scores."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from evals.language_model import LanguageModel
from launcher.command_line.compose import compose_run
from launcher.commands.evaluate import harness_table
from models.huggingface.writing import save
from parallel.layout import Layout
from tests.asking import DENSE, ask, large_weights, tokenizer, tokenizer_json
from tests.parallel.engines.megatron.test_parity import name
from tests.pool import RankPool

# Two of every kind of request: choices with examples before them, whole texts, and free answers.
TASKS: dict[str, dict[str, Any]] = {
    "ours_choice": {
        "output_type": "multiple_choice",
        "doc_to_text": "Question: {{question}}\nAnswer:",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{gold}}",
        "num_fewshot": 1,
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    },
    "ours_cloze": {
        "output_type": "loglikelihood",
        "doc_to_text": "{{question}} ",
        "doc_to_target": "{{choices[0]}}",
        "metric_list": [{"metric": "perplexity"}, {"metric": "acc"}],
    },
    "ours_text": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{text}}",
        "metric_list": [{"metric": "word_perplexity"}, {"metric": "bits_per_byte"}],
    },
    "ours_free": {
        "output_type": "generate_until",
        "doc_to_text": "{{question}}",
        "doc_to_target": "{{choices[0]}}",
        "generation_kwargs": {"until": ["?", "\n\n"], "do_sample": False, "max_gen_toks": 12},
        "metric_list": [{"metric": "exact_match"}],
    },
}
ROWS = [
    {
        "question": f"What is the answer to {n}",
        "choices": ["no more", "that", f"{n} is what is asked for"],
        "gold": n % 3,
        "text": f"An answer to {n} is what is asked for. " * (n + 1),
    }
    for n in range(6)
]


def test_data_that_cannot_be_had_is_told_in_a_line(ranks: RankPool, tmp_path: Path) -> None:
    task = {
        "task": "lost",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "gone.jsonl")}},
        "test_split": "test",
        **TASKS["ours_choice"],
    }
    (tmp_path / "lost.yaml").write_text(json.dumps(task))
    said = ranks.run(1, ask, Layout(), unknown, str(tmp_path), "lost", str(tmp_path))[0]
    assert said.startswith("evaluate.harness=lost: its data set cannot be loaded (")
    assert "gone.jsonl" in said
    assert "\n" not in said


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("harness")
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    for task, fields in TASKS.items():
        data = {"data_files": {"test": str(folder / "rows.jsonl")}}
        whole: dict[str, Any] = {
            "task": task,
            "dataset_path": "json",
            "dataset_kwargs": data,
            "test_split": "test",
            **fields,
        }
        (folder / f"{task}.yaml").write_text(json.dumps(whole))  # JSON is YAML
    return folder


def harness(model: LanguageModel, tasks: str, out: str) -> Any:
    """Rank 0's part of a job."""
    from evals.harness import run_harness

    names = ",".join(TASKS)
    settings = [f"evaluate.harness=[{names}]", f"evaluate.harness_path={tasks}"]
    run = compose_run([*settings, "evaluate.shots=[few]"])
    run_harness(model, run.evaluate, Path(out))
    return json.loads((Path(out) / "harness.json").read_text())


@pytest.fixture(scope="module")
def theirs(tasks: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of the harness' own backend for Hugging Face's models."""
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    end = tokenizer().end_of_text
    folder = tmp_path_factory.mktemp("model")
    save(large_weights(DENSE), DENSE, folder)
    model = AutoModelForCausalLM.from_pretrained(folder, bos_token_id=end, eos_token_id=end)
    path = tmp_path_factory.mktemp("theirs") / "tokenizer.json"
    path.write_text(tokenizer_json())
    fast = PreTrainedTokenizerFast(tokenizer_file=str(path))
    fast.eos_token = fast.pad_token = "<|endoftext|>"
    found = simple_evaluate(
        model=HFLM(pretrained=model, tokenizer=fast, batch_size=2, device="cpu"),
        tasks=list(TASKS),
        task_manager=TaskManager(include_path=str(tasks), include_defaults=False),
        bootstrap_iters=0,
        random_seed=0,
        numpy_random_seed=0,
        torch_random_seed=0,
        fewshot_random_seed=0,
    )
    assert found is not None
    return dict(found)


@pytest.mark.parametrize("layout", [Layout(), Layout(tensor=2, pipeline=2)], ids=name)
def test_every_kind_of_task_has_the_same_scores(
    ranks: RankPool, tasks: Path, theirs: dict[str, Any], tmp_path: Path, layout: Layout
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    found = ranks.run(layout.world_size, ask, layout, harness, str(tasks), str(out))[0]
    ours = found["few"]
    assert [it for it in harness_table(found).columns[0].cells if it == "ours_choice"]
    for task in TASKS:
        for metric, value in theirs["results"][task].items():
            if isinstance(value, float) and "stderr" not in metric:
                assert ours["results"][task][metric] == pytest.approx(value, rel=1e-4), metric
        both = zip(ours["samples"][task], theirs["samples"][task], strict=True)
        for own, other in both:
            assert own["arguments"] == json.loads(json.dumps(other["arguments"], default=str))
            for said, expected in zip(_flat(own["resps"]), _flat(other["resps"]), strict=True):
                if isinstance(expected, float):
                    assert float(said) == pytest.approx(expected, abs=1e-4)
                else:
                    assert str(said) == str(expected)
    shutil.rmtree(out)


def _flat(said: Any) -> list[Any]:
    if isinstance(said, list | tuple):
        return [leaf for each in said for leaf in _flat(each)]
    return [float(said) if isinstance(said, float) else said]


def test_an_unknown_task_is_named(ranks: RankPool, tmp_path: Path) -> None:
    assert "evaluate.harness=none_such" in ranks.run(1, ask, Layout(), unknown, str(tmp_path))[0]


def unknown(model: LanguageModel, out: str, name: str = "none_such", tasks: str = "null") -> str:
    from configs.errors import InputError
    from evals.harness import run_harness

    settings = [f"evaluate.harness=[{name}]", f"evaluate.harness_path={tasks}"]
    run = compose_run(settings)
    with pytest.raises(InputError) as refusal:
        run_harness(model, run.evaluate, Path(out))
    return str(refusal.value)
