"""Users' own code: functions that make networks, and modules that extend this library.

Whatever it raises is the user's to fix, and becomes one line that names the file and the line:
where it is called to make something (`contained`), and wherever else it turns up (`fault`).
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType
from typing import Any

from robustkit.errors import RobustkitError

_OURS = ("robustkit", "evolution", "adaptation", "experiments")
_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGALRM", "SIGCHLD", "SIGPIPE")
_LONGEST = 300  # characters of what an error says; of a longer one, its first line
_USERS: dict[str, str] = {}  # names of modules as Python knows them, and as the user does


def belongs_to_user(module: str, called: str | None = None) -> None:
    """Remember that `module`, and what lies in it, is a user's; `called` is their name for it."""
    if module.partition(".")[0] not in (*_OURS, "torch"):  # a layer of torch is no fault of anybody
        _USERS[module] = called or module


def fault(error: BaseException) -> str | None:
    """Return a user code's error in one line with file and line; None if it is not theirs.

    It is theirs where, of our own and the user's code, the user's is what ran last. What they
    raised on purpose as an error of this library keeps its own words.
    """
    seen: BaseException | None = error
    while seen is not None:
        frame = _last_frame(seen)
        if frame is not None and (name := _user_of(frame.f_globals.get("__name__"))) is not None:
            if isinstance(seen, RobustkitError):
                return words(seen)
            return f"{name}: {described(seen)}"
        seen = seen.__cause__
    return None


def words(error: BaseException) -> str:
    """Return the message of `error` in one line; empty where it has none or raises when asked."""
    return " ".join(_text(error).split())


def described(error: BaseException) -> str:
    """Return the type, the message and the place of a user code's error, in one line."""
    position = _place(error)
    message = f"raises {type(error).__name__}"
    text = words(error)
    if len(text) > _LONGEST:  # torch adds pages of its dispatcher's tables
        text = _text(error).splitlines()[0].strip()
    if text:
        message = f"{message}: {text}"
    return f"{message} ({position})" if position else message


@contextmanager
def contained(what: str, error: type[RobustkitError]) -> Iterator[None]:
    """Carry out users' code in the block: what it raises becomes one line, its traces are undone.

    Whatever it raises is raised as `error`, `what` before it; errors of this library, and an
    interrupt by the user in person, pass. The working folder, torch's defaults, the number of
    threads, signal handlers, filters of warnings and the standard streams are as before.
    """
    with ExitStack() as stack:
        pressed = stack.enter_context(_noted_interrupts())
        stack.enter_context(_state_kept())
        try:
            yield
            if sys.stdout is not None and sys.stdout.closed:
                raise error(f"{what}: closes stdout")
        except RobustkitError:
            raise
        except BaseException as raised:
            if isinstance(raised, KeyboardInterrupt) and pressed:
                raise
            raise error(f"{what}: {described(raised)}") from raised


@contextmanager
def _noted_interrupts() -> Iterator[list[int]]:
    """Yield a list of the interrupts that come from outside while the block runs."""
    pressed: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield pressed
        return
    inner = before

    def note(number: int, frame: FrameType | None) -> None:
        pressed.append(number)
        inner(number, frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _state_kept() -> Iterator[None]:
    main = threading.current_thread() is threading.main_thread()
    handlers = _handlers() if main else {}
    streams, paths = (sys.stdin, sys.stdout, sys.stderr), list(sys.path)
    recursion, hooks = sys.getrecursionlimit(), (sys.excepthook, sys.unraisablehook)
    torch, defaults = sys.modules.get("torch"), None
    if torch is not None:
        defaults = _defaults(torch)
    folder: int | None = None
    with suppress(OSError):
        folder = os.open(".", os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    try:
        with warnings.catch_warnings():
            yield
    finally:
        if folder is not None:
            with suppress(OSError):
                os.fchdir(folder)
            os.close(folder)
        sys.stdin, sys.stdout, sys.stderr = streams
        if not set(paths) <= set(sys.path):  # what was added may stay
            sys.path[:] = [*paths, *(part for part in sys.path if part not in paths)]
        sys.setrecursionlimit(recursion)
        sys.excepthook, sys.unraisablehook = hooks
        for number, handler in handlers.items():
            if signal.getsignal(number) != handler:
                signal.signal(number, handler)
        if torch is not None and defaults is not None:
            _restore_defaults(torch, defaults)


def _handlers() -> dict[int, Any]:
    """Return the current signal handlers that Python knows."""
    numbers = (int(getattr(signal, name)) for name in _SIGNALS if hasattr(signal, name))
    handlers = {number: signal.getsignal(number) for number in numbers}
    return {number: handler for number, handler in handlers.items() if handler is not None}


def _defaults(torch: Any) -> tuple[Any, ...]:
    return (
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.get_num_threads(),
        torch.is_grad_enabled(),
        torch.are_deterministic_algorithms_enabled(),
    )


def _restore_defaults(torch: Any, before: tuple[Any, ...]) -> None:
    dtype, device, threads, gradients, deterministic = before
    torch.set_default_dtype(dtype)
    if torch.get_default_device() != device:
        torch.set_default_device(device)
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    torch.set_grad_enabled(gradients)
    if torch.are_deterministic_algorithms_enabled() != deterministic:
        torch.use_deterministic_algorithms(deterministic)


def _last_frame(error: BaseException) -> FrameType | None:
    """Return the last frame of our own or a user's code that ran when `error` was raised."""
    last = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        name = str(frame.f_globals.get("__name__"))
        if name.partition(".")[0] in _OURS or _user_of(name) is not None:
            last = frame
    return last


def _user_of(module: object) -> str | None:
    """Return the user's name for the module that `module` is or lies in; None for others."""
    for name, called in _USERS.items():
        if module == name or str(module).startswith(f"{name}."):
            return called
    return None


def _text(error: BaseException) -> str:
    try:
        return str(error).strip()
    except BaseException:  # of the user's own class
        return ""


def _place(error: BaseException) -> str:
    """Return FILE:LINE of the last line of a user's code that ran, or of the last of any."""
    last = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        name = str(frame.f_globals.get("__name__"))
        if _user_of(name) is not None or not last:
            last = f"{frame.f_code.co_filename}:{line}"
    return last
