"""From RGB to hue, saturation, value and to CIE L*a*b*, in float32 on whole planes.

Both take channels first, (3, …), in any shape of plane; RGB in 0..1.
"""

from __future__ import annotations

import numpy as np

from lastlayer._arrays import Float32

# of linear sRGB, and the white point D65 (IEC 61966-2-1; CIE 1931 2° observer)
XYZ_OF_RGB = np.array([(0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227)])
WHITE = np.array([0.95047, 1.0, 1.08883])
_XYZ_OF_WHITE = (XYZ_OF_RGB / WHITE[:, None]).astype(np.float32)


def rgb_to_hsv(rgb: Float32) -> Float32:
    """Hue, saturation and value, each in 0..1 (Smith 1978); gray has hue and saturation 0.

    V = max, S = (max − min) / max, H = (sector + difference of the two other channels / (max − min)) / 6 mod 1
    """
    red, green, blue = rgb
    value = np.maximum(np.maximum(red, green), blue)
    spread = value - np.minimum(np.minimum(red, green), blue)
    one = np.float32(1)
    saturation = spread / (value + (value == 0))
    step = one / (spread + (spread == 0))
    # where(condition, …) costs several times a product with the condition
    is_red = value == red
    is_green = (value == green) & ~is_red
    is_blue = ~(is_red | is_green)
    hue = (green - blue) * step * is_red
    hue += ((blue - red) * step + np.float32(2)) * is_green
    hue += ((red - green) * step + np.float32(4)) * is_blue
    hue /= np.float32(6)
    hue += (hue < 0).astype(np.float32)
    hue *= spread > 0
    hue *= hue < one  # rounded up to the full turn
    return np.stack([hue, saturation, value])


def srgb_to_linear(levels: Float32) -> Float32:
    """Light intensity of sRGB values in 0..1: v / 12.92 below 0.04045, else ((v + 0.055) / 1.055)^2.4."""
    v = np.asarray(levels, np.float64)
    return np.where(v > 0.04045, ((v + 0.055) / 1.055) ** 2.4, v / 12.92).astype(np.float32)


def linear_to_lab(linear: Float32) -> Float32:
    """L* (0..100), a* (green to red) and b* (blue to yellow) of linear RGB, for the white point D65.

    L = 116 f(Y) − 16, a = 500 (f(X) − f(Y)), b = 200 (f(Y) − f(Z)), f(t) = t^⅓ above 0.008856, else 7.787 t + 16/116
    """
    roots = []
    for row in _XYZ_OF_WHITE:
        t = linear[0] * row[0]
        t += linear[1] * row[1]
        t += linear[2] * row[2]
        low = t <= np.float32(0.008856)
        roots.append(np.cbrt(t) * ~low + (t * np.float32(7.787) + np.float32(16 / 116)) * low)
    x, y, z = roots
    return np.stack([y * np.float32(116) - np.float32(16), (x - y) * np.float32(500), (y - z) * np.float32(200)])
