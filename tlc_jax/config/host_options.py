"""The options `--hosts.*` of a command that several processes run together. Imports no jax."""

from __future__ import annotations

import dataclasses
import math
from typing import Optional


@dataclasses.dataclass(frozen=True)
class HostsOptions:
    """Several processes, on one machine or many, that train one run: each is given the same command.

    SLURM tells its tasks who they are (`srun` is enough); a TPU pod does with --hosts.coordinator auto.
    """

    coordinator: Optional[str] = None
    """ADDRESS:PORT of process 0, a free port there; 'auto': the pod or the cluster knows."""
    processes: Optional[int] = None
    """How many there are, with an ADDRESS:PORT; 1 without one: this process alone, whatever SLURM says."""
    index: Optional[int] = None
    """Which of them this is, from 0; the only option that differs between them."""
    heartbeat: float = 60.0
    """Seconds without a sign of life after which a process counts as dead, and the others end."""

    @property
    def address(self) -> Optional[tuple[str, int]]:
        """Host and port of process 0; None where the cluster knows, or nobody."""
        host, _, port = str(self.coordinator).rpartition(":")
        named = host and port.isdigit() and 0 < int(port) < 65536
        return (host, int(port)) if named else None

    def check(self) -> None:
        """Raises ValueError where the options do not go together."""
        explicit = self.coordinator not in (None, "auto")
        if explicit and self.address is None:
            raise ValueError(f"--hosts.coordinator {self.coordinator} is no ADDRESS:PORT, and not 'auto'")
        if explicit and (self.processes is None or self.index is None):
            raise ValueError("--hosts.coordinator ADDRESS:PORT goes with --hosts.processes and --hosts.index")
        alone = self.coordinator is None and self.processes == 1 and self.index in (None, 0)
        if not explicit and not alone and (self.processes is not None or self.index is not None):
            raise ValueError("--hosts.processes and --hosts.index go with --hosts.coordinator ADDRESS:PORT")
        if self.processes is not None and not 0 <= (self.index or 0) < self.processes:
            raise ValueError(
                f"--hosts.index {self.index} is none of --hosts.processes {self.processes}: they count from 0"
            )
        if not 1 <= self.heartbeat < math.inf:
            raise ValueError(f"--hosts.heartbeat must be at least 1 second, not {self.heartbeat:g}")
