"""The plain ResNet-50 with WS-DAN on Stanford Dogs."""

_base_ = './_base_/wsdan_stanford-dogs_80e.py'
