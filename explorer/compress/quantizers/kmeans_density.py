from __future__ import annotations

from .. import kmeans
from . import registry
from ._codebook import Codebook


@registry.register("kmeans-density")
class KMeansDensity(Codebook):
    """Shared levels that fit the weights: a k-means codebook that starts where most weights are.

    Levels: the 2^b centers that minimize the sum of (w - center)^2 over the weights that are not pruned, found by Lloyd's iterations;
    each weight becomes its nearest center. The centers start at evenly
    spaced heights of the cumulative distribution, so most lie near zero, and large weights get few levels.
    Codes: 0 ... 2^b - 1, the place in the codebook; there is no scale and no zero point, but a codebook of 2^b float32 values a tensor,
    channel, group or gate, whose bytes count. Pruned weights stay zero and are kept out of the codebook. Bits: 1 to 8.
    Source: Han et al. 2016 (Deep Compression), arXiv 1510.00149, section 3.2, "density-based initialization".
    """

    title = "k-means, density start"
    start = staticmethod(kmeans.density)
