"""What is to be done, in order of priority, and what waits for what."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from robustkit.errors import RunError
from robustkit.jobs import Executor, Job, Ok, Outcome
from robustkit.runs import Entry, Ledger
from robustkit.runs.folder import EDITED

Then = Callable[[Entry], None]
_VOLATILE = ("identity", "reused")  # hashes of settings, which versions spell differently


@dataclass(frozen=True, kw_only=True)
class Task:
    """A job with its place in the ledger; `key` is equal for tasks that do the same thing.

    Where the run cannot go on without it, it is `needed`.
    """

    id: str
    arm: str
    key: str
    job: Job
    payload: dict[str, object] = field(default_factory=dict)
    needed: bool = False


class Agenda:
    """Runs tasks on an executor until none is left; ledgered tasks are answered, not run.

    Tasks may be added at any time, above all from the `then` of another one, which is called with
    the finished trial. That is how a search is interleaved with whatever else is ready: no worker
    waits for a generation to end while there is other work. Of two tasks with one key the second
    waits for the first and takes over its outcome. `reusable` trials of other runs, by the
    `identity` in their payload, answer tasks of the same one.

    A failure is an outcome like any other and stays in the ledger, but for that of a needed task:
    it raises `RunError` and is not recorded, so that a resumed run tries again.
    """

    def __init__(
        self,
        executor: Executor,
        ledger: Ledger,
        on_trial: Then,
        reusable: Mapping[str, Entry] | None = None,
    ) -> None:
        self._executor, self._ledger, self._on_trial = executor, ledger, on_trial
        self._reusable = reusable or {}
        self._ready: list[tuple[int, int, Task, Then]] = []
        self._added = 0
        self._running: dict[str, list[tuple[Task, Then]]] = {}
        self._done: dict[str, Entry] = {}
        self._asked: set[str] = set()

    def add(self, task: Task, then: Then, *, priority: int) -> None:
        """Enter a task that can be run at once; a smaller `priority` goes first."""
        self._asked.add(task.id)
        heapq.heappush(self._ready, (priority, self._added, task, then))
        self._added += 1

    def recall(self, trial: Entry) -> None:
        """Take note of a trial that the ledger has and that whoever asked for it knows of."""
        self._asked.add(trial.id)
        self._done[trial.key] = trial
        self._on_trial(trial)

    def check(self) -> None:
        """Raise `RunError` where the ledger holds a trial that nobody has asked for."""
        for trial in self._ledger.trials():
            if trial.id not in self._asked:
                raise RunError(
                    f"{self._ledger.path}: trial '{trial.id}' is none that this run would make: "
                    f"{EDITED}; start the run anew"
                )

    def work(self) -> None:
        """Run until nothing is left; bugs in jobs are raised here.

        Raises `RunError` when a needed task fails, or when the ledger holds something else under
        the name of a task.
        """
        started: dict[int, Task] = {}

        def jobs() -> Iterator[Job | None]:
            while (task := self._next()) is not None or self._running:
                if task is None:
                    yield None
                else:
                    started[id(task.job)] = task
                    yield task.job

        for job, outcome in self._executor.run(jobs()):
            self._finish(started.pop(id(job)), outcome)

    def _next(self) -> Task | None:
        """The next task that has to be run; those with a known outcome are settled on the way."""
        while self._ready:
            _, _, task, then = heapq.heappop(self._ready)
            if (known := self._known(task)) is not None:
                self._settle(known, then)
            elif (same := self._reusable.get(str(task.payload.get("identity")))) is not None:
                self._settle(_as_told(task, same, reused=True), then)
            elif task.key in self._running:
                self._running[task.key].append((task, then))
            elif task.key in self._done:
                self._settle(_as_told(task, self._done[task.key]), then)
            else:
                self._running[task.key] = [(task, then)]
                return task
        return None

    def _known(self, task: Task) -> Entry | None:
        known = self._ledger.get(task.id)
        if known is not None and known.key != task.key:
            raise RunError(
                f"{self._ledger.path}: trial '{task.id}' was of {known.key}, now it would be of "
                f"{task.key}: another version of robustkit made it; start the run anew"
            )
        told = {name: value for name, value in task.payload.items() if name not in _VOLATILE}
        for name, value in told.items():
            if known is not None and known.payload.get(name, value) != value:
                raise RunError(
                    f"{self._ledger.path}: trial '{task.id}' has another {name} than this run "
                    f"would give it: {EDITED}; start the run anew"
                )
        return known

    def _finish(self, task: Task, outcome: Outcome) -> None:
        if task.needed and not isinstance(outcome, Ok):
            raise RunError(
                f"{task.id}: {outcome.kind} ({outcome.reason}); the run cannot go on without it, "
                "--resume tries it again"
            )
        value = outcome.value if isinstance(outcome, Ok) else None
        trial = Entry(
            id=task.id,
            arm=task.arm,
            key=task.key,
            payload=task.payload,
            outcome=outcome.kind,
            reason="" if isinstance(outcome, Ok) else outcome.reason,
            result=value,
            seconds=outcome.seconds,
        )
        for waiting, then in self._running.pop(task.key):
            self._settle(trial if waiting is task else _as_told(waiting, trial), then)

    def _settle(self, trial: Entry, then: Then) -> None:
        self._ledger.record(trial)
        self._done[trial.key] = trial
        self._on_trial(trial)
        then(trial)


def _as_told(task: Task, known: Entry, *, reused: bool = False) -> Entry:
    """The outcome of the same thing, under another task's name; it took no time.

    A trial that is `reused` from another run says so.
    """
    payload = task.payload | {"reused": True} if reused else task.payload
    return Entry(
        id=task.id,
        arm=task.arm,
        key=task.key,
        payload=payload,
        outcome=known.outcome,
        reason=known.reason,
        result=known.result,
    )
