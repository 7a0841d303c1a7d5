from tests.support.consul import consul, consul_program, mesh, name, real_consul

__all__ = ["consul", "consul_program", "mesh", "name", "real_consul"]
