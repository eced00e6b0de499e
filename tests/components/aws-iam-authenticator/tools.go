//go:build tools

// Package awsiamauthenticator pins a program that the demo and the tests bake when the
// upstream binary cannot be downloaded.
package awsiamauthenticator

import _ "sigs.k8s.io/aws-iam-authenticator/cmd/aws-iam-authenticator"
