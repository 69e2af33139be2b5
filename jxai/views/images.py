"""Arrays as small pictures of a table, where they are images."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import ArrayLike

from jxai.views.html import Picture

_SEVERAL, _SIDE = 6, 192


def picture(x: ArrayLike, caption: str = "") -> Picture:
    """An image `[H, W, C]`, in [0, 1] or stretched to it, as PNG in a data URI; without a source where x is none. Needs pillow."""
    from PIL import Image

    v = np.nan_to_num(np.asarray(x, np.float32))
    if v.ndim != 3 or v.shape[-1] not in (1, 3):
        return Picture("", caption)
    low, high = min(0.0, float(v.min())), max(1.0, float(v.max()))
    image = Image.fromarray(np.uint8(np.rint(255 * (v - low) / (high - low))).squeeze(-1 if v.shape[-1] == 1 else ()))
    image.thumbnail((_SIDE, _SIDE))
    held = io.BytesIO()
    image.save(held, "PNG")
    return Picture(f"data:image/png;base64,{base64.b64encode(held.getvalue()).decode()}", caption)


def several(x: ArrayLike, lead: int, caption: str = "") -> list[Picture]:
    """The first images of an array with so many leading axes of a batch."""
    v = np.asarray(x)
    flat = v.reshape(-1, *v.shape[lead:])[:_SEVERAL]
    return [picture(one, caption if not lead else str(n)) for n, one in enumerate(flat)]
