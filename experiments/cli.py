"""The command `robustkit`: finds the verb, runs it, and keeps the error contract.

A person's mistake is one line on stderr and exit code 2; an interrupt is one line and 130; a
traceback is for bugs. Verbs, and with them torch, are imported only when they are asked for.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence

import robustkit
from experiments.verbs import VERBS
from robustkit.errors import ConfigError, RobustkitError, did_you_mean
from robustkit.runs import is_disk_full

EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run `robustkit` with `argv` (default: the process's own arguments); returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _dispatch(arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt as interrupt:
        hint = f"; {interrupt}" if str(interrupt) else ""
        print(f"robustkit: interrupted{hint}", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has left, as in `robustkit runs | head`: not worth a word.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        reason = _mendable(error)
        if reason is None:
            raise
        return _complain(reason)


def _mendable(error: Exception) -> str | None:
    """What a person can do something about, in one line; None for a bug."""
    if isinstance(error, RobustkitError):
        return str(error)
    if "torchvision::nms" in str(error):
        return "torch and torchvision disagree; `robustkit doctor` prints the fix"
    where = f": {error.filename}" if isinstance(error, OSError) and error.filename else ""
    if is_disk_full(error):
        return f"no space left on the device{where}"
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EROFS):
        return f"{error.strerror}{where}"
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


def _complain(message: str) -> int:
    print(f"robustkit: error: {' '.join(message.split())}", file=sys.stderr)
    return EXIT_USAGE


if __name__ == "__main__":
    sys.exit(main())
