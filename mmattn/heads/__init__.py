"""Classifiers that read several depths of a backbone; they need mmpretrain."""

from mmattn.heads.learn_to_pay_head import LearnToPayHead

__all__ = ['LearnToPayHead']
