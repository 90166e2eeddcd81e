"""One thread for PyTorch: the networks here are so small that more of them only wait for each other."""

import torch as th

th.set_num_threads(1)
