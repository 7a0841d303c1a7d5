module mcpmesh.dev/bench

go 1.25
