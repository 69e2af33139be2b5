"""Several processes of one JAX cluster that share a run."""

from __future__ import annotations

import jax


def join(coordinator: str | None = None, processes: int | None = None, process: int | None = None) -> None:
    """Makes this process one of a JAX cluster, for runs that they share; before anything else touches JAX's devices.

    Only for machines whose devices need it (a TPU pod). All others share a run by `shared=True` alone, which needs no coordinator. It is
    `jax.distributed.initialize` with recovery switched on: where one is killed, the others go on, and it may come back. The first process holds the coordinator: when that
    one is killed, JAX ends the others, and the same command goes on with the run.

    Args:
      coordinator: `"HOST:PORT"` of the first process. processes: how many there are. process: which of them this is, from 0. None: as JAX's cluster detection finds them.

    Raises:
      ValueError: some of these are missing, and no cluster is found. RuntimeError: JAX's devices are in use already.
    """
    manual = {"coordinator_address": coordinator, "num_processes": processes, "process_id": process}
    jax.config.update("jax_enable_recoverability", True)
    jax.distributed.initialize(**{name: value for name, value in manual.items() if value is not None})
