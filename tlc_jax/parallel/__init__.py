"""Floor 1: devices. One mesh path for one device, eight, or many hosts."""
