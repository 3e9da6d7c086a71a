"""What is told of a run that begins with a folder: whose recipe it is, what its weights lack."""

from __future__ import annotations

from pathlib import Path

import pytest

from configs.errors import InputError
from corpus.tokenizer.vocabulary import choose
from launcher.huggingface.notices import notices
from launcher.run.run_dir import begun
from tests import pretrained
from tests.runs import run_of

VOCAB = 300


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of each of some cases, with a tokenizer. Not to be changed."""
    root = tmp_path_factory.mktemp("folders")
    tokenizer = choose(run_of(f"model.vocab={VOCAB}").model).make(["some text"])
    for case in ("llama2", "llama3", "gpt2"):
        pretrained.write(root / case, case, vocab_size=VOCAB)
        (root / case / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
    return root


def told(folder: Path, *words: str) -> tuple[str, ...]:
    given = (f"checkpoint={folder}", *words)
    asked = run_of(" ".join(given))
    return notices(asked, begun(asked, list(given)))


def test_whose_recipe_it_is(folders: Path) -> None:
    (line,) = told(folders / "llama2")
    assert line.startswith(f"checkpoint={folders}/llama2: its network, and the recipe (batch, ")
    assert "of model=gpt3_nano; for another: model=NAME" in line
    (line,) = told(folders / "llama2", "model=llama3_8b")
    assert "of model=llama3_8b;" in line
    asked = run_of("model=llama_nano")
    assert notices(asked, begun(asked, ["model=llama_nano"])) == ()


def test_positions_that_are_new_to_it(folders: Path) -> None:
    _, line = told(folders / "llama2", "model.context=128")
    assert line.startswith("model.context=128: checkpoint=")
    assert "was trained on 64 positions, and those beyond are new to it" in line
    suggested = line.split("to stretch them: ")[1].split()
    assert suggested[1] == "model.rotary.factor=2"
    assert len(told(folders / "llama2", "model.context=128", *suggested)) == 1
    _, line = told(folders / "llama3", "model.context=96")
    assert line.endswith("those beyond are new to it"), "its positions are stretched already"
    assert len(told(folders / "llama2", "model.context=32")) == 1


def test_learned_positions_do_not_grow(folders: Path) -> None:
    with pytest.raises(InputError, match=r"model\.context=128: .* nearest: model.context=64"):
        told(folders / "gpt2", "model.context=128")


def test_another_tokenizer_is_refused(folders: Path) -> None:
    with pytest.raises(InputError, match=r"model\.tokenizer=gpt2: .* nearest: without"):
        told(folders / "llama2", "model.tokenizer=gpt2")
