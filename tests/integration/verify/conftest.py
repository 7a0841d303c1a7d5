from tests.support.mesh import start_mesh

__all__ = ["start_mesh"]
