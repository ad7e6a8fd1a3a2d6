"""The predictors of SSIA in a checkpoint, beside the weights of the plain model."""

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner
from torch import nn

from mmattn.auxiliary.wrapper import SSIA
from mmattn.registry import HOOKS

__all__ = ['SSIAHook']


@HOOKS.register_module()
class SSIAHook(Hook):
    """Keeps the predictors of SSIA in a checkpoint, beside the weights of the plain model.

    They are its entry ``ssia``. A training that resumes from it gets them back; a plain model
    never sees them. With SSIA inside another model (a semi-supervised detector's ``detector``)
    they are the student's.
    """

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add the predictors."""
        state = _wrappers(runner.model)[0].ssia.state_dict()
        checkpoint['ssia'] = {key: value.cpu() for key, value in state.items()}

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Take the predictors, where the checkpoint has them and they fit."""
        saved = checkpoint.get('ssia', {})
        shapes = {key: value.shape for key, value in saved.items()}
        for model in _wrappers(runner.model):
            own = model.ssia.state_dict()
            if {key: value.shape for key, value in own.items()} == shapes:
                model.ssia.load_state_dict(saved)
            else:
                print_log(
                    'SSIA: the predictors start from scratch, the checkpoint has '
                    f'{"others" if saved else "none"}.',
                    logger='current',
                )


def _wrappers(model: nn.Module) -> list[SSIA]:
    """Every SSIA in a runner's model: itself, what it wraps, a student and then its teacher."""
    found = [module for module in model.modules() if isinstance(module, SSIA)]
    if not found:
        raise ValueError(
            f"mmattn.SSIAHook needs a model of type 'mmattn.SSIA', got {type(model).__name__}"
        )
    return found
