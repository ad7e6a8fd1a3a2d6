"""Shapes, values and gradients."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmattn.testing.case import Case, check_finite, close, demand, flat, run

__all__ = [
    'SIZES',
    'changes',
    'keeps_dtype',
    'learns',
    'predicts',
    'reacts',
    'right_gradients',
    'survives_autocast',
    'trains',
    'treats_images_apart',
]

# (N, H, W) of the maps a gate is tried on
SIZES = {
    'a non-square map': (2, 4, 6),
    'a map of odd size': (2, 7, 5),
    'a map of two rows': (2, 2, 9),
    'a large map': (2, 20, 18),
    'one image': (1, 5, 6),
    'one position': (2, 1, 1),
    'one image of one position': (1, 1, 1),
}


def trains(case: Case, size: tuple) -> None:
    module, inputs = case.random().train(), case.inputs(*size)
    for t in flat(inputs):
        t.requires_grad_()
    out = run(module, inputs)
    wanted = case.shape(inputs)
    demand(out.shape == wanted, f'the output must be {tuple(wanted)}, got {tuple(out.shape)}')
    check_finite(out, 'the output')
    out.square().sum().backward()
    for name, grad in _gradients(module, inputs).items():
        demand(grad is not None, f'{name} must take part in the output, it gets no gradient')
        check_finite(grad, f'the gradient of {name}')


def predicts(case: Case, size: tuple) -> None:
    inputs = case.inputs(*size)
    out = run(case.random().eval(), inputs)
    wanted = case.shape(inputs)
    demand(out.shape == wanted, f'the output must be {tuple(wanted)}, got {tuple(out.shape)}')
    check_finite(out, 'the output')


def keeps_dtype(case: Case, dtype: torch.dtype) -> None:
    out = run(case.random().to(dtype), case.inputs(2, 5, 7, dtype))
    demand(out.dtype == dtype, f'the output must be {dtype}, got {out.dtype}')
    check_finite(out, 'the output')


def treats_images_apart(case: Case) -> None:
    module, both = case.random().eval(), case.inputs(2, 5, 6)
    alone = tuple(tuple(t[:1] for t in x) if isinstance(x, tuple) else x[:1] for x in both)
    close(run(module, alone), run(module, both)[:1], 1e-5)


def reacts(case: Case) -> None:
    module = case.random().eval()
    first, second = (run(module, case.inputs(2, 5, 6, seed=seed)) for seed in (1, 2))
    least = (first - second).flatten(1).abs().amax(1).min()
    demand(least > 1e-2, 'two different inputs must give two different outputs')


def changes(case: Case) -> None:
    inputs = case.inputs(2, 5, 6)
    changed = (run(case.random().eval(), inputs) - flat(inputs)[-1]).abs().max()
    demand(changed > 1e-2, 'with random weights the output must differ from the input')


def learns(case: Case) -> None:
    """Step 0 reaches gamma; after one step every parameter and the input have a gradient."""
    for init in case.inits:
        module = case.build(init).double().train()
        inputs = case.inputs(3, 5, 7, torch.float64)
        for t in flat(inputs):
            t.requires_grad_()
        weight = torch.randn_like(run(module, inputs))
        for step in range(2):
            module.zero_grad()
            (run(module, inputs) * weight).mean().backward()
            if step == 0 and init == 'identity':
                gammas = {n: p for n, p in module.named_parameters() if n.endswith('gamma')}
                demand(gammas, "init='identity' must make a parameter named gamma")
                for name, p in gammas.items():
                    moved = p.grad is not None and p.grad.abs() > 1e-6
                    demand(moved, f"{name} must get a gradient in the first step of 'identity'")
            if step == 0:
                with torch.no_grad():
                    for p in module.parameters():
                        p -= 0.1 * p.grad if p.grad is not None else 0
        gradients = _gradients(module, inputs)
        of_inputs = {name: gradients.pop(name) for name in [*gradients] if name[:6] == 'input '}
        still = _zeros(gradients) | _zeros(of_inputs)
        demand(
            still == set(case.still),
            f'with init={init!r} these have no gradient after one step: {sorted(still)}; expected '
            f'are {sorted(case.still) or "none"}',
        )


def _zeros(gradients: Mapping[str, Tensor | None]) -> set[str]:
    """Names whose gradient is rounding noise beside the largest."""
    largest = {n: 0.0 if g is None else g.abs().max().item() for n, g in gradients.items()}
    return {n for n, v in largest.items() if not v > 1e-11 * max(largest.values())}


def right_gradients(case: Case) -> None:
    module = case.random().double().train()
    names = [name for name, _ in module.named_parameters()]
    inputs = case.inputs(2, 3, 2, torch.float64)
    leaves = [t.requires_grad_() for t in flat(inputs)]

    def call(*tensors: Tensor) -> Tensor:
        own, parameters = tensors[: len(leaves)], tensors[len(leaves) :]
        args = (tuple(own),) if isinstance(inputs[0], tuple) else own
        out = torch.func.functional_call(module, dict(zip(names, parameters)), args)
        return out if isinstance(out, Tensor) else out[-1]

    checked = (*leaves, *module.parameters())
    passes = torch.autograd.gradcheck(call, checked, fast_mode=True, raise_exception=False)
    demand(passes, 'autograd and numerical gradients must agree (torch.autograd.gradcheck)')


def survives_autocast(case: Case, scale: float) -> None:
    module, inputs = case.random().train(), case.inputs(2, 6, 5)
    for t in flat(inputs):
        t.mul_(scale).requires_grad_()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        out = run(module, inputs)
    out.float().sum().backward()
    check_finite(out, 'the output')
    for name, grad in _gradients(module, inputs).items():
        check_finite(grad, f'the gradient of {name}')


def _gradients(module: nn.Module, inputs: tuple) -> dict[str, Tensor | None]:
    named = {name: p.grad for name, p in module.named_parameters()}
    return {**named, **{f'input {i}': t.grad for i, t in enumerate(flat(inputs))}}
