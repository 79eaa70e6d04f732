"""Pictures of high dynamic range (PQ, HLG) to sRGB: light below that of paper stays, highlights roll off.

Light is taken relative to reference white (203 cd/m², ITU-R BT.2408), brought from BT.2020 to BT.709
primaries, and, where its largest component m exceeds a knee k = 0.5, scaled so that the component becomes
k + (1 - k) (m - k) / (m - 2 k + 1): continuous with its slope, below 1 everywhere, hue kept.
"""

from __future__ import annotations

import functools

import av
import cv2
import numpy as np
from numpy.typing import NDArray

PQ, HLG = 16, 18
REFERENCE_WHITE = 203.0
_HLG_PEAK = 1000.0
_KNEE = 0.5
_BT2020_TO_BT709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)  # ITU-R BT.2087
_OUT_STEPS = 4095


def is_hdr(frame: av.VideoFrame) -> bool:
    """Whether a frame's transfer curve is PQ or HLG."""
    return frame.color_trc in (PQ, HLG)


def tone_mapped(rgb: NDArray[np.uint16], curve: int) -> NDArray[np.uint8]:
    """PQ- or HLG-coded RGB ``H x W x 3`` (65535 is the full signal) as sRGB, uint8."""
    light = _light(curve)[rgb]
    if curve == HLG:  # system gamma of a 1000 cd/m² display: BT.2100 table 5
        luminance = light @ np.array([0.2627, 0.6780, 0.0593], np.float32)
        light *= np.maximum(luminance, 1e-6)[..., None] ** 0.2 * (_HLG_PEAK / REFERENCE_WHITE)
    light = np.maximum(cv2.transform(light, _BT2020_TO_BT709), 0)
    brightest = light.max(axis=2, keepdims=True)
    rolled = _KNEE + (1 - _KNEE) * (brightest - _KNEE) / np.maximum(brightest - 2 * _KNEE + 1, _KNEE)
    light *= np.where(brightest > _KNEE, rolled / np.maximum(brightest, _KNEE), 1)
    steps = (np.minimum(light, 1) * _OUT_STEPS + 0.5).astype(np.uint16)
    return _srgb()[steps]


@functools.cache
def _light(curve: int) -> NDArray[np.float32]:
    """Linear light for each 16-bit signal: PQ relative to reference white, HLG scene light in [0, 1]."""
    signal = np.arange(65536) / 65535
    if curve == PQ:  # SMPTE ST 2084
        root = signal ** (32 / 2523)
        ratio = np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)
        return (10_000 / REFERENCE_WHITE * ratio ** (8192 / 1305)).astype(np.float32)
    a, b, c = 0.17883277, 0.28466892, 0.55991073  # ARIB STD-B67
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12).astype(np.float32)


@functools.cache
def _srgb() -> NDArray[np.uint8]:
    """The sRGB signal for each of 4096 steps of linear light."""
    light = np.arange(_OUT_STEPS + 1) / _OUT_STEPS
    signal = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.round(255 * signal).astype(np.uint8)
