//go:build tools

// Package cloudprovideraws pins a program that the demo and the tests bake when the
// upstream binary cannot be downloaded.
package cloudprovideraws

import _ "k8s.io/cloud-provider-aws/cmd/ecr-credential-provider"
