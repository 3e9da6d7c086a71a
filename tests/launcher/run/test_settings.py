"""What a run was asked to be, kept beside it, and what a later command line changes of it."""

from __future__ import annotations

from pathlib import Path

import hydra
import pytest
from omegaconf import OmegaConf

from configs import load as config_files
from configs.errors import InputError
from configs.load import as_config, load
from configs.schema import DeviceName, EngineName, LaunchName, Run
from launcher.command_line.compose import compose_run, composed_run
from launcher.run.run_dir import RunFolder
from launcher.run.settings import go_on, kept_settings, lasts


def begun(path: Path, *overrides: str) -> RunFolder:
    """A run directory as a start leaves it."""
    run = compose_run([*overrides, f"run_dir='{path}'"])
    RunFolder(path).write(run, run, "")
    return RunFolder(path)


def again(path: Path, *given: str) -> Run:
    """The settings of `phalanx train run_dir=PATH GIVEN`."""
    kept = kept_settings(str(path))
    assert kept is not None
    words = [*given, f"run_dir='{path}'"]
    with hydra.initialize_config_module(version_base="1.3", config_module="configs"):
        forced = [f"++{word}" if "." in word.partition("=")[0] else word for word in words]
        composed = hydra.compose("config", overrides=forced)
    return load(go_on(kept, composed, words, "config"))


def test_the_same_again(tmp_path: Path) -> None:
    begun(tmp_path, "layout=tp2", "train.steps=9", "train.stop_after=3", "debug=true")
    run = again(tmp_path)
    assert (run.layout.tensor, run.layout.data, run.train.steps) == (2, None, 9)
    assert run.device is DeviceName.auto
    assert (run.train.stop_after, run.debug) == (None, False), "these hold for one start"


def test_a_group_takes_the_place_of_all_its_values(tmp_path: Path) -> None:
    begun(tmp_path, "layout=tp2", "layout.micro_batch=2", "train.steps=9")
    run = again(tmp_path, "layout=pp4", "engine=deepspeed")
    assert (run.layout.tensor, run.layout.pipeline, run.layout.micro_batch) == (1, 4, 4)
    assert run.engine.name is EngineName.deepspeed
    assert run.train.steps == 9
    assert again(tmp_path, "layout=pp4", "layout.micro_batch=1").layout.micro_batch == 1


def test_the_same_launcher_named_again_keeps_what_was_set_of_it(tmp_path: Path) -> None:
    begun(tmp_path, "launch=slurm", "launch.elastic=true", "launch.time_limit=00:10:00")
    launch = again(tmp_path, "launch=slurm", "launch.min_nodes=1").launch
    assert (launch.elastic, launch.time_limit, launch.min_nodes) == (True, "00:10:00", 1)
    assert again(tmp_path, "launch=local").launch.elastic is False


def test_one_value_changes_one_value(tmp_path: Path) -> None:
    begun(tmp_path, "layout=tp2", "corpus=gpt3", "corpus.root=/data")
    run = again(tmp_path, "layout.micro_batch=1", "corpus.sources.books1.path=/moved")
    assert (run.layout.tensor, run.layout.micro_batch) == (2, 1)
    assert (run.corpus.root, run.corpus.sources["books1"].path) == ("/data", "/moved")
    assert len(run.corpus.sources) == 5


def test_what_followed_another_setting_still_does(tmp_path: Path) -> None:
    begun(tmp_path, "optimizer.warmup_tokens=5")
    run = again(tmp_path, "model.recipe.learning_rate=0.5", "model.recipe.warmup_tokens=7")
    assert run.optimizer.learning_rate == 0.5
    assert run.optimizer.warmup_tokens == 5, "was given itself"


def test_an_experiment_sets_what_its_file_says(tmp_path: Path) -> None:
    begun(tmp_path, "model.layers=6", "train.steps=9")
    run = again(tmp_path, "experiment=arithmetic")
    assert (run.corpus.name, run.model.vocab, run.model.layers) == ("arithmetic", 281, 6)
    assert run.train.steps == 9


def test_a_mistyped_setting_is_refused(tmp_path: Path) -> None:
    begun(tmp_path)
    with pytest.raises(Exception, match="heds"):
        again(tmp_path, "model.heds=4")


def test_the_checkpoint_it_began_from_is_asked_for_until_it_has_one(tmp_path: Path) -> None:
    begun(tmp_path, "checkpoint=/elsewhere/step_00000002")
    assert again(tmp_path).checkpoint == "/elsewhere/step_00000002"
    own = tmp_path / "checkpoints" / "step_00000004"
    own.mkdir(parents=True)
    assert again(tmp_path).checkpoint is None


def test_a_run_from_before_goes_on_by_what_it_was_resolved_to(tmp_path: Path) -> None:
    folder = begun(tmp_path, "layout=dp2", "launch=torchrun", "launch.address=node1")
    folder.settings.unlink()
    run = again(tmp_path)
    assert run.layout.data == 2
    assert run.launch.name is LaunchName.local


def test_a_run_from_before_a_setting_was_made(tmp_path: Path) -> None:
    folder = begun(tmp_path)
    for path in (folder.config, folder.settings):
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(it for it in lines if "lease_s" not in it))
    assert folder.resolved().launch.lease_s == again(tmp_path).launch.lease_s == 60


def test_another_run_under_the_same_settings(tmp_path: Path) -> None:
    run = compose_run(["layout=tp2", "train.steps=9", "parity.steps=3"])
    other = composed_run(run, [], ["layout=pp2", "engine=deepspeed"])
    assert (other.layout.pipeline, other.layout.tensor) == (2, 1)
    assert (other.train, other.parity, other.model) == (run.train, run.parity, run.model)


def test_nothing_in_a_run_directory_is_resolved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "told")
    text = r"export A=${oc.env:SECRET} B=\${HOME} C=\\${HOME} {{x}} $(touch gone)"
    run = compose_run([])
    hostile = load(OmegaConf.merge(as_config(run), {}))  # type: ignore[arg-type]
    assert hostile == run
    folder = RunFolder(tmp_path)
    folder.write(run, run, "")
    for path in (folder.config, folder.settings):
        content = OmegaConf.to_container(OmegaConf.load(path))
        assert isinstance(content, dict)
        content["launch"]["setup"] = [text]
        content["model"]["name"] = "${oc.env:SECRET}"
        path.write_text(OmegaConf.to_yaml(OmegaConf.create(content)), encoding="utf-8")
    for read in (config_files.read(folder.config), again(tmp_path)):
        assert read.launch.setup == [text]
        assert read.model.name == "${oc.env:SECRET}"


def test_a_strangers_run_directory_asks_for_nothing(tmp_path: Path) -> None:
    """What one command is to do is never taken from a directory."""
    stranger = begun(
        tmp_path,
        "evaluate.harness=[evil]",
        "evaluate.harness_path=/evil",
        "generate.out=/etc/passwd",
        "plan.out=/etc/passwd",
        "contamination.out=/etc/passwd",
        "evaluate.out=/etc/passwd",
    )
    assert "/etc/passwd" in stranger.settings.read_text()
    run, untouched = again(tmp_path), compose_run([])
    for group in ("evaluate", "generate", "plan", "contamination", "convert", "scaling"):
        assert getattr(run, group) == getattr(untouched, group)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("_target_: os.system", "_target_"),
        ("model: !!python/object/apply:os.system [id]", "cannot be read"),
        ("hydra: {callbacks: {x: {_target_: os.system}}}", "hydra"),
        ("- a list", "cannot be read|holds no settings"),
        ("model: [", "cannot be read"),
    ],
)
def test_a_config_that_wants_more_is_refused(tmp_path: Path, line: str, said: str) -> None:
    folder = begun(tmp_path)
    for path in (folder.config, folder.settings):
        path.write_text(f"{path.read_text()}\n{line}\n", encoding="utf-8")
    with pytest.raises(InputError, match=said):
        config_files.read(folder.config)


def test_what_lasts() -> None:
    assert lasts("train.steps=9")
    assert lasts("+corpus.sources.mine.path=x")
    for once in ("train.stop_after=3", "profile.start=2", "debug=true", "run_dir=x", "task=[a]"):
        assert not lasts(once)
