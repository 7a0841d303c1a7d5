from tests.e2e.conftest import image

__all__ = ["image"]
