"""The sample models' data sets, one file each with a `load() -> Data`; the files themselves lie in `../data`.

Every split is a map-style `torch.utils.data.Dataset` of prepared, padded samples.
"""

from sample_models.datasets.base import Data, Split, stratified_split

__all__ = ["Data", "Split", "stratified_split"]
