//go:build tools

// Package tools names what go.mod is about: the debugger dlv, which the tests build from its source.
package tools

import _ "github.com/go-delve/delve/cmd/dlv"
