"""Gates: ``(N, C, H, W)`` in, the same shape out; used as a backbone's ``plugins``."""

from mmattn.layers.autoencoder import ConvAutoencoderAttention, LinearAutoencoderAttention
from mmattn.layers.bam import BAM
from mmattn.layers.cbam import CBAM, SpatialGate
from mmattn.layers.dual_attention import ChannelAttention, DualAttention, PositionAttention
from mmattn.layers.eca import ECA
from mmattn.layers.fcanet import FcaNet
from mmattn.layers.global_context import GlobalContext
from mmattn.layers.learn_to_pay import LearnToPay, LearnToPayGate
from mmattn.layers.non_local import NonLocal
from mmattn.layers.pyramid import PyramidAttention
from mmattn.layers.se import SE
from mmattn.layers.sequence import Sequence
from mmattn.layers.simam import SimAM
from mmattn.layers.spatial_weights import SpatialWeights

__all__ = [
    'BAM',
    'CBAM',
    'ECA',
    'SE',
    'ChannelAttention',
    'ConvAutoencoderAttention',
    'DualAttention',
    'FcaNet',
    'GlobalContext',
    'LearnToPay',
    'LearnToPayGate',
    'LinearAutoencoderAttention',
    'NonLocal',
    'PositionAttention',
    'PyramidAttention',
    'Sequence',
    'SimAM',
    'SpatialGate',
    'SpatialWeights',
]
