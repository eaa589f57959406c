"""The command `robustkit`: finds the verb, runs it, and keeps the error contract.

A person's mistake is one line on stderr and exit code 2; an interrupt is one line and 130; a
traceback is for bugs. Verbs, and with them torch, are imported only when they are asked for.
"""

from __future__ import annotations

import errno
import io
import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress

import robustkit
from experiments.verbs import VERBS
from robustkit.errors import ConfigError, RobustkitError, did_you_mean
from robustkit.reading import is_printable, printable
from robustkit.runs import is_disk_full

EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

_OF_A_PATH = {  # what is wrong with a path that somebody typed
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP),
    *(errno.ENOTDIR, errno.EISDIR, errno.EMFILE, errno.ENFILE, errno.EIO),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run `robustkit` with `argv` (default: the process's own arguments); returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    _prepare_streams()
    try:
        for each in arguments:
            if not is_printable(each):
                raise ConfigError(f"not an argument in UTF-8 without control characters: '{each}'")
        with warnings.catch_warnings():
            if not sys.warnoptions:
                # What Pillow, torch and numpy have to say to programmers; -W default shows it.
                warnings.simplefilter("ignore")
            code = _dispatch(arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt as interrupt:
        hint = f"; {interrupt}" if str(interrupt) else ""
        _tell(f"robustkit: interrupted{hint}")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has left, as in `robustkit runs | head`: not worth a word.
        _mute(sys.stdout)
        return 1
    except Exception as error:
        reason = _mendable(error)
        if reason is None:
            raise
        _tell(f"robustkit: error: {reason}")
        return EXIT_USAGE
    finally:
        # What is left in the buffer of a full or closed output is no error of its own.
        try:
            sys.stdout.flush()
        except (OSError, ValueError):
            _mute(sys.stdout)


def _prepare_streams() -> None:
    """Let output take any text, and stand in for a standard stream that was closed.

    A closed one's number would go to the next file that is opened, and stray output into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - for the whole process
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _mute(stream: object) -> None:
    """Send what a stream still holds, and whatever follows, to nowhere."""
    if isinstance(stream, io.TextIOWrapper):
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _tell(line: str) -> None:
    """Print one line on stderr, whatever it holds; where that cannot be written, nothing."""
    try:
        print(printable(" ".join(line.split())), file=sys.stderr, flush=True)
    except (OSError, ValueError):
        _mute(sys.stderr)


def _mendable(error: Exception) -> str | None:
    """What a person can do something about, in one line; None for a bug."""
    if isinstance(error, RobustkitError):
        return str(error)
    if "torchvision::nms" in str(error):
        return "torch and torchvision disagree; `robustkit doctor` prints the fix"
    where = f": {error.filename}" if isinstance(error, OSError) and error.filename else ""
    if is_disk_full(error):
        return f"no space left on the device{where}"
    if isinstance(error, OSError) and error.errno in _OF_A_PATH:
        return f"{error.strerror}{where}"
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return f"not enough memory ({error or 'none left'})"
    return None


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage())
        return 0 if arguments else EXIT_USAGE
    verb, *rest = arguments
    if verb == "--version":
        print(f"robustkit {robustkit.__version__}")
        return 0
    if verb not in VERBS:
        raise ConfigError(f"unknown verb '{verb}'{did_you_mean(verb, VERBS)}")
    from experiments.options import run_verb

    return run_verb(verb, rest)


def _usage() -> str:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {verb:<{width}}  {summary}" for verb, summary in VERBS.items())
    return (
        "usage: robustkit VERB [options]\n\n"
        "A robustness laboratory in which one model file travels.\n\n"
        f"verbs:\n{verbs}\n\n"
        "`robustkit VERB --help` lists a verb's options; `robustkit --version` says which this is."
    )


if __name__ == "__main__":
    sys.exit(main())
