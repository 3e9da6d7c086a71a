"""`phalanx COMMAND [overrides]`: finds the command, runs it, turns errors into exit statuses.

Exit status: 0 done, 1 failed at run time, 2 invalid input, 75 stopped after saving, so that the
same command resumes, 130 interrupted.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from launcher.command_line.catalogue import COMMANDS


def main() -> None:
    """Runs `phalanx` and exits with its status."""
    # Hydra would print errors its own way; this makes it raise them instead.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    arguments = sys.argv[1:]
    if arguments and arguments[0] in ("-sc", "--shell-completion"):
        sys.exit(_complete(arguments))
    try:
        sys.exit(_answered(arguments))
    except KeyboardInterrupt:
        sys.exit(130)


def _answered(arguments: list[str]) -> int:
    from launcher.command_line.arguments import command_of

    command, rest = command_of(arguments)
    if command == "help" or (command is None and (not rest or _asks_for_help(rest))):
        return _help(rest)
    if "--version" in rest and (command is None or command in COMMANDS):
        return _version()
    if command not in COMMANDS:
        return _no_command(command, rest)
    if _asks_for_help(rest):
        return _help([command, *rest])
    module = importlib.import_module(f"launcher.commands.{command}")
    sys.argv = [f"phalanx {command}", *rest]
    return guarded(module.app)


def guarded(app: Callable[[], None]) -> int:
    """Runs a Hydra app; reports an error in one line, or with a traceback if debug=true."""
    from configs.errors import InputError, RunError
    from launcher.command_line.explain import explain

    try:
        _arranged(app)()
    except (InputError, RunError) as error:
        return _say(error, 2 if isinstance(error, InputError) else 1)
    except BrokenPipeError:  # the reader closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("phalanx: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        explained = explain(error, sys.argv[1:])
        if explained is not None:
            return _say(explained, 2)
        if _debugging():
            raise
        return _say(error, 1, f"{type(error).__name__}: ", "; debug=true shows where")
    return 0


def _arranged(app: Callable[[], None]) -> Callable[[], None]:
    """Rewrites the command line for Hydra; returns the app, or that of its dry run."""
    from configs.errors import InputError
    from launcher.command_line.arguments import parse
    from launcher.command_line.own_configs import require_own_configs

    command = Path(sys.argv[0]).stem.split()[-1]  # `phalanx train`, or .../launcher/train.py
    arguments = parse(sys.argv[1:], command)
    if "--help" in arguments.flags:
        return lambda: _show_help([command, *sys.argv[1:]])
    require_own_configs(arguments)
    sys.argv[1:] = arguments.for_hydra()
    if not arguments.dry_run:
        return app
    if command != "train":
        raise InputError(
            f"--dry-run: `phalanx {command}` has none; nearest: phalanx train --dry-run"
        )
    module = importlib.import_module("launcher.dry_run")
    dry_app: Callable[[], None] = module.app
    return dry_app


def _say(error: Exception, status: int, before: str = "", after: str = "") -> int:
    _tell_torchrun(f"{before}{error}{after}")
    if os.environ.get("RANK", "0") != "0":  # under torchrun only rank 0 prints
        return status
    if _debugging():
        traceback.print_exc()
    print(f"phalanx: {before}{error}{after}", file=sys.stderr)
    return status


def _tell_torchrun(message: str) -> None:
    """torchrun's failure report comes last and would bury ours, so it gets the same message."""
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if not path or "RANK" not in os.environ:
        return
    import json
    import time

    # A second early: torch compares whole seconds to find the first failure, and ends the others.
    said = {"message": f"phalanx: {message}", "timestamp": int(time.time()) - 1}
    with suppress(OSError):
        Path(path).write_text(json.dumps(said), encoding="utf-8")


def _debugging() -> bool:
    return any(argument.lower() == "debug=true" for argument in sys.argv)


def _asks_for_help(arguments: list[str]) -> bool:
    return "--help" in arguments or "-h" in arguments


def _help(words: list[str]) -> int:
    sys.argv = ["phalanx help"]
    return guarded(lambda: _show_help(words))


def _show_help(words: list[str]) -> None:
    from launcher.command_line.help import asked

    print(asked(words))


def _version() -> int:
    from launcher.command_line.help import version

    print(version())
    return 0


def _no_command(word: str | None, rest: list[str]) -> int:
    """Reports in one line how to name a command."""
    from configs.errors import InputError
    from launcher.command_line.arguments import parse
    from launcher.command_line.nearest import by_likeness

    known = f"the commands are {', '.join(COMMANDS)}"
    try:
        if word is None:
            flags = [flag for flag in rest if flag.lstrip("-") in COMMANDS]
            if not flags:
                parse(rest)
                raise InputError(f"{rest[0]}: a command comes first; {known}")
            word = flags[0]
        if "=" in word:
            raise InputError(f"{word}: a command comes first: phalanx train {word}; {known}")
        close = by_likeness(word.lstrip("-"), COMMANDS)[0]
        raise InputError(f"there is no command {word!r}; nearest: {close}; {known}")
    except InputError as error:
        return _say(error, 2)


def _complete(arguments: list[str]) -> int:
    """Hydra writes the shell's function; completions come from our own settings."""
    if arguments[1:] and arguments[1].startswith("query="):
        from launcher.command_line.completion import complete

        words = os.environ.get("COMP_LINE", "").split(" ")[1:]
        print("\n".join(complete(words or [""], (*COMMANDS, "help"))))
        return 0
    from launcher.command_line.compose import hydra_app

    sys.argv = ["phalanx", *arguments]
    return guarded(hydra_app(lambda _run, _overrides: None))


if __name__ == "__main__":
    main()
