from __future__ import annotations

import pytest

from configs.describe import CHOSEN_ALONE, FOLDER, choices, find, groups, settings


@pytest.mark.parametrize("name", settings())
def test_every_setting_says_what_it_is(name: str) -> None:
    setting = settings()[name]
    assert setting.sentence
    assert setting.sentence != name.rpartition(".")[2]
    assert all(setting.values.values()), f"{name}: a value without a sentence"
    assert setting.kind or setting.values or setting.inner


def test_a_comment_above_a_field_is_its_own() -> None:
    said = {name: setting.sentence for name, setting in settings().items()}
    assert said["layout.zero"].startswith("what is sharded over data ranks: 0 nothing")
    assert said["layout.sequence_parallel"].endswith("outside the matmuls")
    assert len(set(said.values())) > 0.9 * len(said)


def test_what_a_setting_takes() -> None:
    assert settings()["train.steps"].kind == "int or null"
    assert settings()["cluster.peak_tflops"].kind == "number by name"
    assert list(settings()["engine.name"].values) == ["megatron", "deepspeed"]
    assert settings()["train.on_bad_loss"].values["stop"] == "the run ends"


def test_a_name_of_the_users_own_is_found() -> None:
    assert find("corpus.sources.mine.path") is settings()["corpus.sources.NAME.path"]
    assert find("corpus.sources.mine") is settings()["corpus.sources.NAME"]
    assert find("corpus.sources.mine.paht") is None
    assert find("model.layers.more") is None


def test_every_group_is_a_setting_or_has_a_sentence() -> None:
    for group in groups():
        assert (find(group) is not None) != (group in CHOSEN_ALONE)


@pytest.mark.parametrize("group", groups())
def test_every_file_says_what_it_is(group: str) -> None:
    files = choices(group)
    assert set(files) == {path.stem for path in (FOLDER / group).glob("*.yaml")}
    assert all(len(sentence) > 10 for sentence in files.values())


def test_models_are_in_order_of_size() -> None:
    models = list(choices("model"))
    assert models[:4] == ["gpt3_nano", "gpt3_125m", "gpt3_350m", "gpt3_760m"]
    assert models.index("gpt3_760m") < models.index("gpt3_1.3b") < models.index("gpt3_13b")
    assert models.index("scaling_48") < models.index("scaling_128")
