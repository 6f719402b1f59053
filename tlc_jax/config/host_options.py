"""The options `--hosts.*` of a command that several processes run together."""

from __future__ import annotations

import dataclasses
import math
from typing import Optional


@dataclasses.dataclass(frozen=True)
class HostsOptions:
    """Several processes, on one machine or many, that train one run: start each with the same command.

    Tasks of SLURM need no options (`srun` is enough), hosts of a TPU pod --hosts.coordinator auto.
    """

    coordinator: Optional[str] = None
    """ADDRESS:PORT of process 0, where the port is free; 'auto': as the pod or the cluster says."""
    processes: Optional[int] = None
    """Number of processes, with an ADDRESS:PORT. 1 without an address: this process alone, even under
    SLURM."""
    index: Optional[int] = None
    """Index of this process, from 0; the only option that differs between processes."""
    heartbeat: float = 60.0
    """Seconds without a sign of life after which a process counts as dead and the others end."""

    @property
    def address(self) -> Optional[tuple[str, int]]:
        """Host and port of process 0; None if no explicit address is given."""
        host, _, port = str(self.coordinator).rpartition(":")
        named = host and port.isdigit() and 0 < int(port) < 65536
        return (host, int(port)) if named else None

    def check(self) -> None:
        """ValueError if the options contradict each other."""
        explicit = self.coordinator not in (None, "auto")
        if explicit and self.address is None:
            raise ValueError(f"--hosts.coordinator {self.coordinator} is neither ADDRESS:PORT nor 'auto'")
        if explicit and (self.processes is None or self.index is None):
            raise ValueError("--hosts.coordinator ADDRESS:PORT needs --hosts.processes and --hosts.index")
        alone = self.coordinator is None and self.processes == 1 and self.index in (None, 0)
        if not explicit and not alone and (self.processes is not None or self.index is not None):
            raise ValueError("--hosts.processes and --hosts.index need --hosts.coordinator ADDRESS:PORT")
        if self.processes is not None and not 0 <= (self.index or 0) < self.processes:
            raise ValueError(
                f"--hosts.index {self.index} must be at least 0 and below --hosts.processes {self.processes}"
            )
        if not 1 <= self.heartbeat < math.inf:
            raise ValueError(f"--hosts.heartbeat must be at least 1 second, not {self.heartbeat:g}")
