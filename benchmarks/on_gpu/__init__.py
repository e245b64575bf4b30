"""How the library runs on a GPU, in one command: `python -m benchmarks.on_gpu --help`."""
