"""Training only: losses beside the model's own, nothing of them in the deployed model."""

from mmattn.auxiliary.hook import SSIAHook
from mmattn.auxiliary.ssia import SSIABlock
from mmattn.auxiliary.wrapper import SSIA, plain_config

__all__ = ['SSIA', 'SSIABlock', 'SSIAHook', 'plain_config']
