module mcpmesh.dev/soak

go 1.25
