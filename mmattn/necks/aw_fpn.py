"""Feature pyramid with attention on its weights, its activations, or both."""

from collections.abc import Sequence

from mmcv.cnn import ConvModule, build_plugin_layer
from mmdet.models.necks import FPN

from mmattn.convs.over import attend_over, can_attend_over
from mmattn.registry import MODELS

__all__ = ['AWFPN']


@MODELS.register_module()
class AWFPN(FPN):
    """mmdet's FPN with AW-convolutions and an optional gate before each convolution.

    ``M_i = A1(g(C_i)) + up(M_{i+1})`` and ``P_i = A3(g(M_i))`` for every level i: A1 and A3 are
    AW-convolutions (``K + A * K`` in the place of the weight K), 1x1 and 3x3, and g is the gate,
    the identity without ``gate_cfg``.

    Paper: An Attention Module for Convolutional Neural Networks, arXiv 2108.08205, section
    "Object Detection on COCO" (Table 3). Its six rows are: FPN (``conv_cfg=None``), AW-FPN (the
    default), SE-FPN and CBAM-FPN (``conv_cfg=None`` with ``gate_cfg``), AW-SE-FPN and
    AW-CBAM-FPN (``gate_cfg`` alone).

    Differs from the paper: nothing known; where exactly its gates sit is read from "before each
    convolution", and its schedule is not stated (the configs here train mmdet's 1x). Extra levels
    made by pooling have no convolution; extra levels made by convolutions (RetinaNet) get the same
    treatment as the others.

    A checkpoint of the plain FPN loads with nothing missing but the new parameters:
    ``lateral_convs.0.conv.weight`` keeps its name, the gate is ``lateral_convs.0.gate``.

    Args:
        in_channels: widths of the backbone's maps.
        out_channels: width of the pyramid.
        num_outs: number of output maps.
        conv_cfg: the convolution of all lateral and output layers, an attention convolution;
            ``None`` for the plain one. Weight standardisation that the neck's config brings
            (``dict(type='ConvWS')``) stays, and AW-convolution attends to the standardised
            weights.
        gate_cfg: a gate such as ``dict(type='mmattn.SE')``, or ``None``; it gets the width of
            its convolution's input.
        over_cfg: options of that AW-convolution over standardised weights, such as
            ``dict(init='identity')``.
        kwargs: every other argument of mmdet's FPN.

    Shape: tuple of ``(N, in_channels[i], H_i, W_i)`` -> tuple of ``num_outs`` maps
    ``(N, out_channels, H_i, W_i)``.

    Raises:
        ValueError: an option of the convolution or the gate is out of range; ``conv_cfg`` is a
            convolution that attention cannot stand over.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        num_outs: int,
        conv_cfg: dict | None = dict(type='mmattn.AWConv2d'),  # noqa: B006 (never changed)
        gate_cfg: dict | None = None,
        over_cfg: dict | None = None,
        **kwargs,
    ) -> None:
        super().__init__(in_channels, out_channels, num_outs, conv_cfg=conv_cfg, **kwargs)
        self._attend_to_standardised(conv_cfg, over_cfg or {})
        if gate_cfg is not None:
            for layer in (*self.lateral_convs, *self.fpn_convs):
                layer.gate = build_plugin_layer(gate_cfg, in_channels=layer.in_channels)[1]
                layer.register_forward_pre_hook(_gate_input)

    def _attend_to_standardised(self, conv_cfg: dict | None, options: dict) -> None:
        """Replace a framework's convolution in ``conv_cfg`` by one with attention."""
        for layer in (*self.lateral_convs, *self.fpn_convs):
            if can_attend_over(layer.conv):
                attend_over(layer.conv, **options)
            elif type(layer.conv).__module__.startswith('mmcv.ops'):
                raise ValueError(
                    'conv_cfg must be None, an attention convolution such as '
                    "dict(type='mmattn.AWConv2d') or one that standardises weights, got "
                    f'{conv_cfg!r}, over which attention cannot stand'
                )

    def init_weights(self) -> None:
        done = self.is_init
        super().init_weights()  # the host's rule covers every conv, the gates' own included
        if done or _is_pretrained(self.init_cfg):
            return
        for layer in (*self.lateral_convs, *self.fpn_convs):
            if hasattr(layer, 'gate'):
                layer.gate.init_weights()


def _is_pretrained(init_cfg: dict | list | None) -> bool:
    rules = [init_cfg] if isinstance(init_cfg, dict) else init_cfg or []
    return any(rule['type'] == 'Pretrained' for rule in rules)


def _gate_input(layer: ConvModule, inputs: tuple) -> tuple:
    return (layer.gate(inputs[0]),)
