"""Tasks on an executor in order of priority, each as soon as what it depends on has ended."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Coroutine, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from robustkit.errors import RunError
from robustkit.jobs import Executor, Ok, Outcome, Runnable
from robustkit.runs import Entry, Ledger
from robustkit.runs.folder import EDITED

T = TypeVar("T")
_VOLATILE = ("identity", "reused")  # hashes of settings, which versions spell differently


@dataclass(frozen=True, kw_only=True)
class Task:
    """A job and its entry in the ledger.

    `id` is unique in the run; `stage` is the part of the run it belongs to, the ledger's column
    `arm`; `key` is equal for tasks that compute the same. `payload` is a JSON object that says what
    is computed. The run cannot go on without a task that is `needed`.
    """

    id: str
    stage: str
    key: str
    job: Runnable
    payload: dict[str, object] = field(default_factory=dict)
    needed: bool = False


class Pending(Generic[T]):
    """A value to be awaited: the entry of a submitted task, or what a coroutine returns."""

    def __init__(self) -> None:
        self._settled: list[T] = []
        self._waiting: list[Callable[[], None]] = []

    def __await__(self) -> Generator[Pending[Any], None, T]:
        if not self._settled:
            yield self
        return self._settled[0]

    def _settle(self, value: T) -> None:
        self._settled.append(value)
        waiting, self._waiting = self._waiting, []
        for resume in waiting:
            resume()


class Scheduler:
    """Runs tasks on an executor until none is left; what the ledger holds is not computed again.

    Dependencies are written as coroutines: these submit tasks, await their entries, and submit
    what follows from them. No worker waits for one coroutine while another has submitted
    work. Of two tasks with one key the second takes over the outcome of the first. `reusable`
    entries of other runs, by the `identity` in their payload, answer tasks with the same one.
    `on_entry` is called with every entry, also with those that the ledger holds already. Without a
    `ledger` nothing is kept.

    A failure is an outcome like any other and is recorded, except that of a needed task: it raises
    `RunError` and is not recorded, so that a resumed run tries again.
    """

    def __init__(
        self,
        executor: Executor,
        ledger: Ledger | None = None,
        on_entry: Callable[[Entry], None] = lambda entry: None,
        reusable: Mapping[str, Entry] | None = None,
    ) -> None:
        self._executor, self._ledger, self._on_entry = executor, ledger, on_entry
        self._reusable = reusable or {}
        self._ready: list[tuple[int, int, Task, Pending[Entry]]] = []
        self._running: dict[str, list[tuple[Task, Pending[Entry]]]] = {}
        self._done: dict[str, Entry] = {}
        self._submitted: set[str] = set()
        self._count = 0
        self._coroutines: dict[int, Coroutine[Any, None, Any]] = {}

    def submit(self, task: Task, *, priority: int = 0) -> Pending[Entry]:
        """Enter a task that can be run at once; a smaller `priority` goes first, then the older."""
        pending: Pending[Entry] = Pending()
        self._submitted.add(task.id)
        heapq.heappush(self._ready, (priority, self._count, task, pending))
        self._count += 1
        return pending

    def start(self, coroutine: Coroutine[Any, None, T]) -> Pending[T]:
        """Run a coroutine up to its first `await`, and on whenever what it awaits is there.

        It may await `Pending` values alone. An exception in it ends the run.
        """
        result: Pending[T] = Pending()
        self._coroutines[id(coroutine)] = coroutine

        def resume() -> None:
            try:
                awaited: Pending[Any] = coroutine.send(None)
            except StopIteration as end:
                del self._coroutines[id(coroutine)]
                result._settle(end.value)
            else:
                awaited._waiting.append(resume)

        resume()
        return result

    def run(self, main: Coroutine[Any, None, T]) -> T:
        """Run `main`, what it starts and all tasks to their end; return what `main` returns.

        Bugs in jobs are raised. Raises `RunError` when a needed task fails, or when the ledger
        holds something else under the id of a task, and `RuntimeError` where `main` awaits what
        nothing will settle.
        """
        started: dict[int, Task] = {}

        def jobs() -> Iterator[Runnable | None]:
            while (task := self._next()) is not None or self._running:
                if task is None:
                    yield None
                else:
                    started[id(task.job)] = task
                    yield task.job

        try:
            result = self.start(main)
            for job, outcome in self._executor.run(jobs()):
                self._finish(started.pop(id(job)), outcome)
        finally:
            for coroutine in self._coroutines.values():
                coroutine.close()
        if not result._settled:
            raise RuntimeError("run: the coroutine awaits something that no task settles")
        return result._settled[0]

    def recall(self, entry: Entry) -> None:
        """Note an entry of the ledger that its search takes up by itself, without submitting it."""
        self._submitted.add(entry.id)
        self._done[entry.key] = entry
        self._on_entry(entry)

    def check(self) -> None:
        """Raise `RunError` where the ledger holds an entry of no task that was submitted."""
        for entry in [] if self._ledger is None else self._ledger.trials():
            if entry.id not in self._submitted:
                raise RunError(
                    f"{self._where}: trial '{entry.id}' is none that this run would make: "
                    f"{EDITED}; start the run anew"
                )

    def _next(self) -> Task | None:
        """Return the next task to be computed; settle on the way those with a known outcome."""
        while self._ready:
            _, _, task, pending = heapq.heappop(self._ready)
            if (entry := self._recorded(task)) is not None:
                self._settle(entry, pending)
            elif (entry := self._reusable.get(str(task.payload.get("identity")))) is not None:
                self._settle(_taken_over(task, entry, reused=True), pending)
            elif task.key in self._running:
                self._running[task.key].append((task, pending))
            elif task.key in self._done:
                self._settle(_taken_over(task, self._done[task.key]), pending)
            else:
                self._running[task.key] = [(task, pending)]
                return task
        return None

    def _recorded(self, task: Task) -> Entry | None:
        entry = None if self._ledger is None else self._ledger.get(task.id)
        if entry is None:
            return None
        if entry.key != task.key:
            raise RunError(
                f"{self._where}: trial '{task.id}' was of {entry.key}, now it would be of "
                f"{task.key}: another version of robustkit made it; start the run anew"
            )
        for name, value in task.payload.items():
            if name not in _VOLATILE and entry.payload.get(name, value) != value:
                raise RunError(
                    f"{self._where}: trial '{task.id}' has another {name} than this run "
                    f"would give it: {EDITED}; start the run anew"
                )
        return entry

    def _finish(self, task: Task, outcome: Outcome) -> None:
        if task.needed and not isinstance(outcome, Ok):
            raise RunError(
                f"{task.id}: {outcome.kind} ({outcome.reason}); the run cannot go on without it, "
                "--resume tries it again"
            )
        entry = Entry(
            id=task.id,
            stage=task.stage,
            key=task.key,
            payload=task.payload,
            outcome=outcome.kind,
            reason="" if isinstance(outcome, Ok) else outcome.reason,
            result=outcome.value if isinstance(outcome, Ok) else None,
            seconds=outcome.seconds,
        )
        for waiting, pending in self._running.pop(task.key):
            self._settle(entry if waiting is task else _taken_over(waiting, entry), pending)

    def _settle(self, entry: Entry, pending: Pending[Entry]) -> None:
        if self._ledger is not None:
            self._ledger.record(entry)
        self._done[entry.key] = entry
        self._on_entry(entry)
        pending._settle(entry)

    @property
    def _where(self) -> str:
        return "" if self._ledger is None else str(self._ledger.path)


def _taken_over(task: Task, entry: Entry, *, reused: bool = False) -> Entry:
    """Return the outcome of the same computation under another task's id; it took no time.

    What is `reused` from another run says so.
    """
    return Entry(
        id=task.id,
        stage=task.stage,
        key=task.key,
        payload=task.payload | {"reused": True} if reused else task.payload,
        outcome=entry.outcome,
        reason=entry.reason,
        result=entry.result,
    )
