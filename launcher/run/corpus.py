"""A run's corpus: prepared before the ranks start; its mixture as a table."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from configs import load as config_files
from configs.errors import InputError
from configs.override import override, shell_command
from configs.schema import DeviceName, Run
from configs.words import MOST, counted, listed
from corpus.dataset.mixture_plan import WORTH, SourcePlan, plan_mixture
from corpus.dataset.shuffle import missing_orders, samples_in
from corpus.prepare.prepare import prepare, prepared_before
from corpus.sources.sources import left_out, sources_of
from corpus.store.prepared import Prepared, reopen
from corpus.tokenizer.tokenizer import Tokenizer
from launcher.run.resolve import ResolvedRun, starts_here
from launcher.run.run_dir import RunFolder
from launcher.run.settings import lasts
from parallel.batch_schedule import BatchPlan, steps_of


def corpus_of_run(run: Run, folder: RunFolder) -> Prepared | None:
    """The corpus that the run in `folder` was trained on, if it exists and `run` requests the same.

    This lets a run resume after its text has moved or a package has been installed.
    """
    if not (folder.config.is_file() and folder.corpus.is_file()):
        return None
    before = config_files.read(folder.config)
    if any(getattr(before, name) != getattr(run, name) for name in ("corpus", "contamination")):
        return None
    same = ("tokenizer", "begin_token", "end_token", "stop_tokens", "vocab", "context")
    if any(getattr(before.model, name) != getattr(run.model, name) for name in same):
        return None
    prepared = folder.read_corpus()
    return reopen(prepared) if prepared.is_dir() else None


class NotPrepared(InputError):
    """Raised where ranks start elsewhere, or on GPUs, and the corpus is not prepared yet."""


def corpus_to_train_on(plan: ResolvedRun, overrides: list[str], console: Console) -> Prepared:
    """The run's corpus, prepared first if necessary when the ranks run on this machine's CPU.

    Raises NotPrepared if it must be prepared beforehand and is not.
    """
    run = plan.run
    if plan.device is not DeviceName.cuda and starts_here(run):
        with console.status("corpus") as status:
            return prepare(
                run.corpus,
                run.model,
                run.contamination,
                lambda what, done, total: status.update(
                    escape(f"corpus: {_progress(what, done, total)}")
                ),
            )
    prepared = prepared_before(run.corpus, run.model, run.contamination)
    missing = "is not prepared" if prepared is None else _missing(run, prepared)
    if missing or prepared is None:
        same = [each for each in overrides if lasts(each) and not each.startswith("launch")]
        first = shell_command("phalanx", "prepare", *same)
        raise NotPrepared(
            f"corpus {corpus_name(run)}: {missing}, and a job is no place for that; first: {first}"
        )
    return prepared


def shares_of(run: Run) -> dict[str, float]:
    """Each source's share of the samples; the shares sum to 1."""
    return {source.name: source.share for source in sources_of(run.corpus)}


def samples_of_run(run: Run) -> int:
    """The number of samples the run reads from its first to its last step."""
    return BatchPlan.of(run).samples_after(steps_of(run))


def orders_to_make(run: Run, prepared: Prepared) -> list[tuple[str, int]]:
    """Source and epoch of each large sample order that does not exist yet."""
    return list(
        missing_orders(
            prepared,
            shares_of(run),
            context=run.model.context,
            seed=run.train.seed,
            samples=samples_of_run(run),
        )
    )


def mixture_table(run: Run, prepared: Prepared) -> Table:
    """What the run reads from each source, and at which step a source wraps around."""
    batches, context = BatchPlan.of(run), run.model.context
    plans = plan_mixture(prepared, shares_of(run), context=context, samples=samples_of_run(run))
    table = Table(title=f"mixture of {corpus_name(run)}", box=box.SIMPLE_HEAD)
    for heading in ("source", "stands for"):
        table.add_column(heading, no_wrap=True)
    wrapping = any(plan.wraps_at is not None for plan in plans)
    for heading in ("tokens", "weight", "samples", "epochs", *["wraps at step"] * wrapping):
        table.add_column(heading, justify="right")
    for plan in plans:
        config = run.corpus.sources.get(plan.name)
        wraps = None if plan.wraps_at is None else batches.steps_for(plan.wraps_at + 1)
        table.add_row(
            plan.name,
            (config.stands_for if config is not None else None) or "",
            human(plan.tokens),
            f"{plan.share:.2%}",
            f"{plan.samples:,.0f}",
            f"{plan.epochs:.2f}",
            *["" if wraps is None else f"{wraps:,}"] * wrapping,
        )
    return table


def notes(run: Run, prepared: Prepared, begun: bool = False) -> list[str]:
    """Warnings about the corpus that may be unintended, one line each.

    Args:
        begun: there are weights already, whose vocabulary is what it is.
    """
    samples = samples_of_run(run)
    plans = plan_mixture(prepared, shares_of(run), context=run.model.context, samples=samples)
    found = [_skipped(prepared), *_unread(plans, samples), _repeated(run, plans)]
    found += ["" if begun else _unused_vocabulary(run, prepared), *left_out_notes(run)]
    return [line for line in found if line]


def left_out_notes(run: Run) -> Iterator[str]:
    """One line for each source with files that are skipped because of their extensions."""
    sources = list(left_out(run.corpus))
    for each in sources[:MOST]:
        of = f"{each.files:,} of {counted(each.files + each.read, 'file', 'files')}"
        nearest = f"; nearest: {each.nearest}" if each.nearest else ""
        yield f"source {each.source}: {of} not read, by their endings: {each.endings}{nearest}"
    if len(sources) > MOST:
        yield f"sources of which files are not read: {len(sources) - MOST:,} more"


def _skipped(prepared: Prepared) -> str:
    damaged = sum(source.damaged for source in prepared.sources)
    blank = sum(source.blank for source in prepared.sources)
    said = [
        f"{count:,} {what}" for count, what in ((damaged, "damaged"), (blank, "blank")) if count
    ]
    if not said:
        return ""
    places = ((prepared.damaged, damaged), (prepared.dropped, blank))
    first, *second = (path for path, count in places if count)
    lists = f"{first} and {second[0].name} list" if second else f"{first} lists"
    documents = prepared.documents + sum(
        each.damaged + each.blank + each.low_quality + each.duplicates + each.cut_away
        for each in prepared.sources
    )
    return f"skipped  {' and '.join(said)} of {documents:,} documents; {lists} them"


def _unread(plans: Sequence[SourcePlan], samples: int) -> Iterator[str]:
    """Reports sources of the mixture from which the run reads no sample."""
    unread = [plan for plan in plans if not plan.samples]
    weightless = [plan for plan in unread if not plan.share]
    small = [plan for plan in unread if plan.share]
    largest = 100 * max((plan.share for plan in small), default=0)
    share = f"{'at most ' if len(small) > 1 else ''}{largest:.3g}% of {samples:,} samples"
    for group, why in ((weightless, "weight 0"), (small, share)):
        if group:
            them = "it" if len(group) == 1 else "them"
            yield f"{_sources(group)}: no sample of {them} is read ({why})"


def _repeated(run: Run, plans: Sequence[SourcePlan]) -> str:
    often = [plan for plan in plans if plan.epochs > WORTH]
    if not often:
        return ""
    batches, context = BatchPlan.of(run), run.model.context
    enough = min(int(WORTH * samples_in(plan.tokens, context) / plan.share) for plan in often)
    steps = batches.steps_for(enough + 1) - 1
    fewer = f"{override('train.steps', steps)} or " if steps else ""
    times = sorted({round(plan.epochs) for plan in often})
    said = " to ".join(f"{time:,}" for time in (times[0], times[-1])[: len(times)])
    them = "it" if len(often) == 1 else "them"
    return (
        f"{_sources(often)}: read {said} times over; the model will learn {them} by heart; "
        f"nearest: {fewer}more text"
    )


def _sources(plans: Sequence[SourcePlan]) -> str:
    names = listed([plan.name for plan in plans])
    return f"source {names}" if len(plans) == 1 else f"sources {names}"


def _unused_vocabulary(run: Run, prepared: Prepared) -> str:
    vocab, size = run.model.vocab, Tokenizer.load(prepared.tokenizer).size
    if vocab <= size:
        return ""
    return (
        f"model.vocab={vocab}: the tokenizer has {size:,} tokens; {vocab - size:,} rows of the "
        f"embedding are never used; nearest: model.vocab={size}"
    )


def corpus_name(run: Run) -> str:
    """The corpus's name in messages: the path of `corpus.text`, or the name of its config."""
    return run.corpus.text or run.corpus.name


def human(count: float) -> str:
    """1,234,567 as 1.23M."""
    power = 0 if count < 1000 else min(int(math.log10(count)) // 3, 4)
    return f"{count / 1000**power:.3g}{['', 'k', 'M', 'B', 'T'][power]}"


def _missing(run: Run, prepared: Prepared) -> str:
    orders = orders_to_make(run, prepared)
    return f"the order of {len(orders)} epochs is not made" if orders else ""


def _progress(what: str, done: int, total: int) -> str:
    return f"{what}, {100 * done // total} % done" if total else what
