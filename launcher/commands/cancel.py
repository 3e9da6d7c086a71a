"""`phalanx cancel run_dir=DIR`: makes a run save and end, along with its jobs."""

from __future__ import annotations

from rich.console import Console

from configs.errors import InputError
from configs.override import override, shell_command
from configs.schema import Run
from launcher.command_line.compose import hydra_app
from launcher.commands.status import existing_folder
from launcher.console.run_tables import shown
from launcher.start.registry import LAUNCHERS


def cancel(run: Run, _overrides: list[str]) -> None:
    """Raises InputError if no launcher has anything of this run to end."""
    folder = existing_folder(run)
    cancelled = [what for each in LAUNCHERS.values() if (what := each.cancel(folder)) is not None]
    if not cancelled:
        touch = shell_command("touch", shown(folder.stop_file))
        raise InputError(
            f"{override('run_dir', run.run_dir)}: was never submitted; nearest: {touch}, which "
            "has ranks save and end"
        )
    console = Console(soft_wrap=True, highlight=False, markup=False)
    console.print(f"cancelled: {', '.join(cancelled)}")


app = hydra_app(cancel)
