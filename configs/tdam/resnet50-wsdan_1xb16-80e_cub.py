"""The plain ResNet-50 with WS-DAN on CUB-200-2011."""

_base_ = './_base_/wsdan_cub_80e.py'
