"""What holds for every test."""

import os

import pytest
import torch
from mmengine.registry import DefaultScope

# The tests' tensors are tiny: waiting for a second thread would cost most of a run.
os.environ.setdefault('OMP_NUM_THREADS', '1')  # for the processes that tests start
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seed():
    """A test's random numbers are its own, whatever ran before it."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _no_default_scope():
    """A default scope that a test sets (a config, a runner) must not reach the next one."""
    yield
    DefaultScope._instance_dict.clear()
