"""Run as a script: jobs on three simulated machines, of which one is taken away on the way."""

from __future__ import annotations

from typing import Any

from ray.cluster_utils import Cluster as Machines

from robustkit.jobs import Cluster, open_executor
from tests.robustkit.jobs.jobs import Sleep

JOBS = 24


def main() -> None:
    machines = Machines(initialize_head=True, head_node_args={"num_cpus": 1})
    others = [machines.add_node(num_cpus=1), machines.add_node(num_cpus=1)]
    machines.wait_for_nodes()
    waiting = iter([Sleep(0.4 + number / 1000) for number in range(JOBS)])
    ended: list[Any] = []

    def jobs() -> Any:
        # Generations of six, as a search has them: nobody goes on before all six have ended.
        for job in waiting:
            while len(ended) < (len(asked) // 6) * 6:
                yield None
            asked.append(job)
            yield job

    asked: list[Any] = []
    own = Cluster(address=machines.address)
    with open_executor("ray", workers=3, cluster=own) as executor:
        for job, outcome in executor.run(jobs()):
            ended.append((job.seconds, outcome.kind))
            if len(ended) == 8:
                machines.remove_node(others[0], allow_graceful=False)
    assert sorted(ended) == [(0.4 + number / 1000, "Ok") for number in range(JOBS)], ended
    print("all of them, each once")


if __name__ == "__main__":
    main()
