"""Compare a layer with its reference: values and all gradients, whole tensors."""

import torch

from mmattn.testing import randomise

torch.set_num_threads(1)  # threads cost more than they bring on tensors this small


def image(*size, seed=1, grad=True):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, generator=generator, dtype=torch.float64).requires_grad_(grad)


def check_values(gate, reference, inputs, training, identity=None):
    """``gate(*inputs)`` and ``reference(*inputs, params)``: outputs and gradients to 1e-6.

    ``reference`` gets a dict of the gate's own parameters and buffers. With ``identity`` (the
    plain input) the gate has ``init='identity'`` and the expected output is the blend.
    """
    randomise(gate.double()).train(training)
    params = {k: v.detach().clone() for k, v in gate.state_dict().items()}
    names = [name for name, _ in gate.named_parameters()]
    for name in names:
        params[name].requires_grad_()
    expected = reference(*inputs, params)
    if identity is not None:
        expected = (1 - params['gamma']) * identity + params['gamma'] * expected
    out = gate(*inputs)
    torch.testing.assert_close(out, expected, rtol=1e-6, atol=1e-6)

    weight = image(*out.shape, seed=2, grad=False)
    leaves = [x for x in _flat(inputs) if x.requires_grad]
    found = torch.autograd.grad((out * weight).sum(), [*leaves, *gate.parameters()])
    wanted = torch.autograd.grad(
        (expected * weight).sum(),
        [*leaves, *(params[name] for name in names)],
        allow_unused=True,
    )
    for name, got, want in zip(
        [*(f'input {i}' for i in range(len(leaves))), *names], found, wanted
    ):
        want = torch.zeros_like(got) if want is None else want
        torch.testing.assert_close(
            got, want, rtol=1e-6, atol=1e-6, msg=lambda text, name=name: f'{name}: {text}'
        )


def _flat(inputs):
    for x in inputs:
        if isinstance(x, torch.Tensor):
            yield x
        else:
            yield from _flat(x)


def check_gate(build, reference, x, training):
    """Both ``init`` values of a gate; ``build(init)`` makes it, ``reference(x, params)``."""
    check_values(build('paper'), reference, (x,), training)
    check_values(build('identity'), reference, (x,), training, identity=x)
