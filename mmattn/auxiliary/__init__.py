"""Training only: losses beside the model's own, nothing of them in the deployed model."""

from mmattn.auxiliary.ssia import SSIABlock
from mmattn.auxiliary.wrapper import SSIA, SSIAHook

__all__ = ['SSIA', 'SSIABlock', 'SSIAHook']
