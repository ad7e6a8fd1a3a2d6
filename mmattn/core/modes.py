"""Look into a network for a moment: eval mode and hooks that are always taken back."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial

from torch import nn

__all__ = ['eval_mode', 'hooks']


@contextmanager
def eval_mode(*models: nn.Module) -> Iterator[None]:
    """Put every module of the models into eval mode; give each its own mode back at the end.

    Only the flags change: a network's own ``train()``, which may freeze stages or merge weights,
    is not called on the way in or out.

    Args:
        models: The networks; modules that are added meanwhile keep their mode.
    """
    modes = [(module, module.training) for model in models for module in model.modules()]
    try:
        for module, _ in modes:
            module.training = False
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def hooks(
    modules: Iterable[nn.Module] | Mapping[str, nn.Module],
    fn: Callable,
    pre: bool = False,
    with_kwargs: bool = False,
) -> Iterator[None]:
    """Run a function at every call of some modules while the context is open.

    Args:
        modules: The modules; a mapping hands ``fn`` the key of the module that runs as its first
            argument.
        fn: A forward hook, ``fn(module, inputs, output)``, or a pre-hook, ``fn(module, inputs)``;
            what it returns other than ``None`` takes the place of the output or the inputs.
        pre: Before the module runs instead of after.
        with_kwargs: ``fn`` also receives the keyword arguments of the call, after the inputs.
    """
    named = isinstance(modules, Mapping)
    pairs = modules.items() if named else ((None, module) for module in modules)
    with ExitStack() as stack:  # removes what is registered also if a later one cannot be
        for name, module in list(pairs):
            register = module.register_forward_pre_hook if pre else module.register_forward_hook
            hook = partial(fn, name) if named else fn
            stack.callback(register(hook, with_kwargs=with_kwargs).remove)
        yield
