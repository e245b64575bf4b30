"""Settings for all tests."""

import torch

# Networks here are tiny: a second thread costs more than it brings, most of all beside others.
torch.set_num_threads(1)
