//go:build tools

// Package rolesanywherecredentialhelper pins a program that the demo and the tests bake
// when the upstream binary cannot be downloaded.
package rolesanywherecredentialhelper

import _ "github.com/aws/rolesanywhere-credential-helper"
