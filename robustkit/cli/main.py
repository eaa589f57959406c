"""The command `robustkit`: finds the command, runs it, and keeps the error contract.

A user's mistake is one line on stderr and exit code 2; an interrupt is one line and 130; a
traceback is for bugs. Commands, and with them torch, are imported only when they are asked for.
"""

from __future__ import annotations

import errno
import fcntl
import io
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import robustkit
from robustkit.cli.commands import OUR_PACKAGES, describe, find_commands
from robustkit.cli.output import mute
from robustkit.errors import ConfigError, RobustkitError, did_you_mean
from robustkit.reading import is_printable, printable
from robustkit.runs import is_disk_full
from robustkit.usercode import fault

EXIT_USAGE = 2
_END_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGXCPU")  # signals that ask a process to end

_PATH_ERRORS = {  # of a path that the user typed
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP),
    *(errno.ENOTDIR, errno.EISDIR, errno.EMFILE, errno.ENFILE, errno.EIO),
}


_NO_MEMORY = (  # in messages of torch, and of the loader of its libraries
    *("can't allocate memory", "failed to map segment", "annot allocate memory"),
    *("unable to allocate", "cannot create shared object descriptor"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `robustkit` with `argv` (default: the process's arguments) and return the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    _prepare_streams()
    if argv is None:
        _prepare_warnings()
    with _prepared_signals():
        return _run(arguments)


def _run(arguments: list[str]) -> int:
    try:
        for argument in arguments:
            if not is_printable(argument):
                raise ConfigError(
                    f"not an argument in UTF-8 without control characters: '{argument}'"
                )
        _check_folder()
        code = _dispatch(arguments)
        sys.stdout.flush()
        return code
    except BaseException as error:
        return _end(error)
    finally:
        # What is left in the buffer of a full or closed output is no error of its own.
        try:
            sys.stdout.flush()
        except (OSError, ValueError):
            mute(sys.stdout)


def _check_folder() -> None:
    """Raise `ConfigError` where the working folder has been removed."""
    try:
        Path.cwd()
    except FileNotFoundError:
        raise ConfigError("the folder you are in no longer exists: go to another one") from None


def _end(error: BaseException) -> int:
    """Print in one line why the command ended, and return its exit code; a bug is raised again."""
    reason = None if isinstance(error, RobustkitError) else fault(error)
    if reason is None and isinstance(error, KeyboardInterrupt):
        hint = f"; {error}" if str(error) else ""
        number = _number_of(error)
        by_hand = number == signal.SIGINT
        _print_error(
            f"robustkit: interrupted{hint}"
            if by_hand
            else f"robustkit: ended by {number.name}{hint}"
        )
        return 128 + number
    if reason is None and isinstance(error, BrokenPipeError):
        # The reader of our output has left, as in `robustkit runs | head`: not worth a word.
        mute(sys.stdout)
        return 1
    if reason is None and isinstance(error, Exception):
        reason = _reason_of(error)
    if reason is None:
        raise error
    _print_error(f"robustkit: error: {reason}")
    return EXIT_USAGE


class Signalled(KeyboardInterrupt):
    """A signal by which the user, or the machine, asks the command to end."""

    number = signal.SIGINT


def _number_of(interrupt: BaseException | None) -> signal.Signals:
    """Return the signal at the root of an interrupt, to which hints are added on its way."""
    while interrupt is not None:
        if isinstance(interrupt, Signalled):
            return interrupt.number
        interrupt = interrupt.__cause__
    return signal.SIGINT


@contextmanager
def _prepared_signals() -> Iterator[None]:
    """Let the signals that ask for an end interrupt the command, as Ctrl-C does.

    Those that are ignored, as by `nohup`, stay so; and so does what another program that calls
    `main` has made of them.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        error = Signalled()
        error.number = signal.Signals(number)
        raise error

    before = {}
    if threading.current_thread() is threading.main_thread():
        for name in _END_SIGNALS:
            number = getattr(signal, name, None)
            if number is None:
                continue
            handler = signal.getsignal(number)
            if handler in (signal.SIG_DFL, signal.default_int_handler):
                before[number] = handler
                signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _prepare_warnings() -> None:
    """Silence warnings, which are for developers, here and in worker processes.

    Whoever wants them asks for them as of any Python program: by -W or PYTHONWARNINGS.
    """
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
        os.environ["PYTHONWARNINGS"] = "ignore"


def _prepare_streams() -> None:
    """Let output take any text, and stand in for a standard stream that was closed.

    A closed one's number would go to the next file that is opened, and stray output into it. One
    that is open for reading alone, a folder say, is as good as closed.
    """
    for number in range(3):
        try:
            mode = fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number
        else:
            if number and mode == os.O_RDONLY:
                os.dup2(os.open(os.devnull, os.O_RDWR), number)
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - for the whole process
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _print_error(line: str) -> None:
    """Print one line on stderr, whatever it holds; where that cannot be written, nothing."""
    try:
        print(printable(" ".join(line.split())), file=sys.stderr, flush=True)
    except (OSError, ValueError):
        mute(sys.stderr)


def _reason_of(error: Exception) -> str | None:
    """Return what the user can do something about, in one line; None for a bug."""
    if isinstance(error, RobustkitError):
        return str(error)
    if "torchvision::nms" in str(error):
        return "torch and torchvision disagree; `robustkit doctor` prints the fix"
    if isinstance(error, ModuleNotFoundError) and error.name is not None:
        package = error.name.partition(".")[0]
        if package not in OUR_PACKAGES:
            return f"the package '{package}' is not installed; `robustkit doctor` prints the fix"
    if isinstance(error, Warning):
        return f"a warning that was made an error by -W or PYTHONWARNINGS: {error}"
    where = f": {error.filename}" if isinstance(error, OSError) and error.filename else ""
    if is_disk_full(error):
        return f"no space left on the device{where}"
    if isinstance(error, OSError) and error.errno in _PATH_ERRORS:
        return f"{error.strerror}{where}"
    if "Too many open files" in str(error):  # raised by native code
        return f"too many open files ({error})"
    if isinstance(error, MemoryError) or any(text in str(error) for text in _NO_MEMORY):
        return f"not enough memory ({error or 'none left'})"
    return None


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage())
        return 0 if arguments else EXIT_USAGE
    command, *rest = arguments
    if command == "--version":
        print(f"robustkit {robustkit.__version__}")
        return 0
    if command not in find_commands():
        raise ConfigError(f"unknown command '{command}'{did_you_mean(command, find_commands())}")
    from robustkit.cli.parser import run_command

    return run_command(command, rest)


def _usage() -> str:
    lines = {name: describe(name) for name in find_commands()}
    width = max(map(len, lines))
    commands = "\n".join(f"  {name:<{width}}  {line}" for name, line in lines.items())
    return (
        "usage: robustkit COMMAND [options]\n\n"
        "A robustness laboratory in which one model file travels.\n\n"
        f"commands:\n{commands}\n\n"
        "`robustkit COMMAND --help` lists a command's options; `robustkit --version` says which "
        "this is."
    )
