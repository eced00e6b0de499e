//go:build tools

// Package kubernetes pins the Kubernetes programs that the demo and the tests
// bake when the upstream binaries cannot be downloaded.
package kubernetes

import (
	_ "k8s.io/kubernetes/cmd/kubectl"
	_ "k8s.io/kubernetes/cmd/kubelet"
)
