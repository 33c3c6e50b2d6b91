from __future__ import annotations

from .. import kmeans
from . import registry
from ._codebook import Codebook


@registry.register("kmeans-linear")
class KMeansLinear(Codebook):
    """Shared levels that fit the weights: a k-means codebook that starts from evenly spaced centers.

    Levels: the 2^b centers that minimize the sum of (w - center)^2 over the weights that are not pruned, found by Lloyd's iterations;
    each weight becomes its nearest center. The centers start evenly spaced from the
    least to the largest weight, which gives large weights, rare but important, levels of their own.
    Codes: 0 ... 2^b - 1, the place in the codebook; there is no scale and no zero point, but a codebook of 2^b float32 values a tensor,
    channel, group or gate, whose bytes count. Pruned weights stay zero and are kept out of the codebook. Bits: 1 to 8.
    Source: Han et al. 2016 (Deep Compression), arXiv 1510.00149, section 3.2, "linear initialization".
    """

    title = "k-means codebook"
    start = staticmethod(kmeans.linear)
