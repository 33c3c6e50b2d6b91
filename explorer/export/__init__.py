"""What leaves the app: files that are re-loaded and compared before anybody gets them."""

from ..core.callable_module import make_callable

make_callable(__name__, "explorer.export.bundle:export")
