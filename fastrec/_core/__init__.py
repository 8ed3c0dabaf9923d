"""What every verb stands on: arrays and devices, operations, checks, threads, instruction sets, CUDA."""
