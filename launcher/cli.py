"""`phalanx COMMAND [overrides]`: finds the command, runs it, turns errors into exit statuses.

Exit status: 0 done, 1 failed at run time, 2 wrong input, 75 told to stop and saved, so that the
same command goes on, 130 interrupted.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Callable

COMMANDS = {
    "plan": "dry run: what a layout costs in memory, traffic, time and money",
    "train": "trains a model; an existing run_dir=DIR is resumed",
    "status": "how a run stands: its jobs, its last step, what it saved",
    "cancel": "a run saves and ends, and its jobs with it",
    "prepare": "text, JSONL or WARC/WET to token files, by source",
    "decontaminate": "13-gram overlap with benchmarks: filters text, or marks examples",
    "generate": "text from a checkpoint, under any tensor x pipeline layout",
    "evaluate": "scores on tasks with none, one and a few examples shown before them",
    "scaling": "fits power laws to finished runs, and predicts another",
    "convert": "a checkpoint to and from Hugging Face's GPT-2 format (safetensors)",
    "parity": "trains the same under two layouts or engines: layout=A against=B",
    "doctor": "what this machine has, and what will work on it",
}
STOPPED = 75  # sysexits' EX_TEMPFAIL
USAGE = """usage: phalanx COMMAND [setting=value ...]

{commands}

`phalanx COMMAND --help` shows every setting; `--cfg job` the composed configuration.
"""


def main() -> None:
    """The console script."""
    # Hydra would print its own account of an error; with this it hands the error to us.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    arguments = sys.argv[1:]
    if arguments and arguments[0] in ("-sc", "--shell-completion"):
        sys.exit(_complete(arguments))
    if not arguments or arguments[0] not in COMMANDS:
        sys.exit(_usage(arguments))
    try:
        module = importlib.import_module(f"launcher.{arguments[0]}")
    except KeyboardInterrupt:
        sys.exit(130)
    sys.argv = [f"phalanx {arguments[0]}", *arguments[1:]]
    sys.exit(guarded(module.app))


def guarded(app: Callable[[], None]) -> int:
    """Runs a Hydra app; says what went wrong in one line, or in full with debug=true."""
    from configs.errors import InputError, RunError
    from launcher.compose import explain

    try:
        app()
    except (InputError, RunError) as error:
        return _say(error, 2 if isinstance(error, InputError) else 1)
    except BrokenPipeError:  # whoever was reading has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("phalanx: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        explained = explain(error)
        if explained is not None:
            return _say(explained, 2)
        if _debugging():
            raise
        return _say(error, 1, f"{type(error).__name__}: ", "; debug=true shows where")
    return 0


def _say(error: Exception, status: int, before: str = "", after: str = "") -> int:
    if os.environ.get("RANK", "0") != "0":  # under torchrun rank 0 speaks for all
        return status
    if _debugging():
        traceback.print_exc()
    print(f"phalanx: {before}{error}{after}", file=sys.stderr)
    return status


def _debugging() -> bool:
    return any(argument.lower() == "debug=true" for argument in sys.argv)


def _usage(arguments: list[str]) -> int:
    width = max(map(len, COMMANDS))
    commands = "\n".join(f"  {name:<{width}}  {does}" for name, does in COMMANDS.items())
    asked = not arguments or arguments[0] in ("-h", "--help")
    if not asked:
        import difflib

        close = difflib.get_close_matches(arguments[0], COMMANDS, n=1)
        hint = f"; nearest: {close[0]}" if close else ""
        print(f"phalanx: there is no command {arguments[0]!r}{hint}\n", file=sys.stderr)
    print(USAGE.format(commands=commands), file=sys.stdout if asked else sys.stderr, end="")
    return 0 if asked else 2


def _complete(arguments: list[str]) -> int:
    """Hydra's shell completion, which knows no commands: the first word is ours."""
    from launcher.compose import hydra_app

    words = os.environ.get("COMP_LINE", "").split(" ")
    if arguments[1:] and arguments[1].startswith("query=") and len(words) <= 2:
        print("\n".join(f"{name} " for name in COMMANDS if name.startswith(words[-1])))
        return 0
    if len(words) > 2:
        os.environ["COMP_LINE"] = " ".join([words[0], *words[2:]])
    sys.argv = ["phalanx", *arguments]
    return guarded(hydra_app(lambda _run, _overrides: None))


if __name__ == "__main__":
    main()
