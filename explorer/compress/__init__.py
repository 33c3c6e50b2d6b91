"""Recipe -> Plan -> module: resolve, masks, quantizers, surgery."""

from ..core.callable_module import make_callable

make_callable(__name__, "explorer.compress.apply:compress")
