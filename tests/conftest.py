"""One thread: the tests' tensors are tiny, and waiting for a second thread costs most of a run."""

import os

import torch

os.environ.setdefault('OMP_NUM_THREADS', '1')  # for the processes that tests start
torch.set_num_threads(1)
