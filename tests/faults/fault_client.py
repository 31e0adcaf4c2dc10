"""``fault_client.py DIR [SCHEDULER_FILE]``: run the sweep, one task to a cell, here or on a cluster."""

import sys
from pathlib import Path

from fault_cells import sweep

from vitdyn._terminal import ending
from vitdyn.dynamics import Runtime
from vitdyn.experiments.sweep_run import carry_out_work, local_engine, plan_sweep


def main(out, scheduler=None):
    """Run what the folder lacks; print how many tasks that took."""
    engine = local_engine
    if scheduler is not None:
        from vitdyn.experiments.sweep_cluster import Cluster

        engine = Cluster(scheduler=scheduler)
    work = plan_sweep(sweep, Path(out), runtime=Runtime(keep_final_state=False))
    work = work._replace(tasks=tuple(one for task in work.tasks for one in task.singly()))
    carry_out_work(work, engine)
    print(len(work.tasks), flush=True)


if __name__ == "__main__":
    sys.exit(ending(lambda: main(*sys.argv[1:]), "sweep"))
