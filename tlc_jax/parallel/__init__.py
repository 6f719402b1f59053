"""Devices and processes: the mesh, the sharding of parameters, the hosts of one run."""
