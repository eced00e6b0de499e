module nodekiln.dev/components/kubelet-config

go 1.24.0
