"""The orthonormal cosine transform between mel bands and cepstral coefficients."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def dct_matrix(n_mfcc: int, n_mels: int) -> npt.NDArray[np.float64]:
    """The first rows of the orthonormal DCT-II.

    ``D[c, m] = s_c cos(pi c (m + 1/2) / M)``, ``s_0 = sqrt(1 / M)`` and ``s_c = sqrt(2 / M)`` else.

    Parameters
    ----------
    n_mfcc : int
        Rows: coefficients kept.
    n_mels : int
        Columns: ``M`` bands.

    Returns
    -------
    array, shape ``(n_mfcc, n_mels)``
    """
    coefficient, band = np.arange(n_mfcc)[:, None], np.arange(n_mels)[None]
    rows: npt.NDArray[np.float64] = np.cos(np.pi * coefficient * (band + 0.5) / n_mels) * np.sqrt(2.0 / n_mels)
    rows[0] /= np.sqrt(2.0)
    return rows
