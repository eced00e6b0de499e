module nodekiln.dev/cluster

go 1.24.0
