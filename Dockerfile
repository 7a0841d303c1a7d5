# One image for the agent, the shims and the Envoys of compose.yaml, with the runtimes for commands (Node, Python) and
# the example servers. It builds without BuildKit.

FROM node:24-bookworm-slim AS node
COPY examples/package.json examples/package-lock.json examples/.npmrc /opt/servers/
RUN npm ci --prefix /opt/servers --omit=dev --ignore-scripts --no-audit --no-fund

FROM hashicorp/consul:1.22 AS consul

FROM python:3.11-slim-bookworm AS stdio
RUN apt-get update -q && apt-get install -qy --no-install-recommends gcc libc6-dev
COPY agent/mcpmesh/workload/containers/stdio.c /tmp/stdio.c
RUN gcc -O2 -Wall -Wextra -Werror -static -o /mcpmesh-stdio /tmp/stdio.c

FROM python:3.11-slim-bookworm AS build
COPY examples/requirements.txt /tmp/requirements.txt
RUN python3 -m venv /opt/servers/python \
 && /opt/servers/python/bin/python -m pip install --no-cache-dir --disable-pip-version-check -r /tmp/requirements.txt
# First the layer that changes seldom: the packages in pyproject.toml.
COPY pyproject.toml README.md LICENSE /src/
RUN python3 -m venv /opt/mcpmesh \
 && /opt/mcpmesh/bin/python -c "import tomllib; print(*tomllib.load(open('/src/pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" > /tmp/needed.txt \
 && /opt/mcpmesh/bin/python -m pip install --no-cache-dir --disable-pip-version-check -r /tmp/needed.txt
COPY agent /src/agent
COPY consul /src/consul
COPY envoy /src/envoy
COPY kong /src/kong
RUN /opt/mcpmesh/bin/python -m pip install --no-cache-dir --disable-pip-version-check --no-deps /src \
 && /opt/mcpmesh/bin/python -m compileall -q /opt/mcpmesh/lib

FROM python:3.11-slim-bookworm
# mcp-server-git runs git.
RUN apt-get update -q && apt-get install -qy --no-install-recommends git \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/apt/archives/*.deb
COPY --from=node /usr/local/bin/node /usr/local/bin/node
COPY --from=node /usr/local/lib/node_modules/npm /usr/local/lib/node_modules/npm
RUN ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm \
 && ln -s ../lib/node_modules/npm/bin/npx-cli.js /usr/local/bin/npx
COPY --from=consul /bin/consul /usr/local/bin/consul
COPY --from=build /opt/mcpmesh /opt/mcpmesh
COPY --from=stdio /mcpmesh-stdio /opt/mcpmesh/bin/mcpmesh-stdio
COPY --from=node /opt/servers/node_modules /opt/servers/node_modules
COPY --from=build /opt/servers/python /opt/servers/python
RUN ln -s /opt/mcpmesh/bin/mcpmesh /opt/mcpmesh/bin/mcpmesh-shim /usr/local/bin/
# The servers' programs are last on PATH, so that none of them shadows one of ours.
ENV PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin:/opt/servers/node_modules/.bin:/opt/servers/python/bin \
    XDG_STATE_HOME=/var/lib \
    PYTHONDONTWRITEBYTECODE=1
CMD ["mcpmesh", "agent", "-f", "/mesh/mesh.yaml"]
