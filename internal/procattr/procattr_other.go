//go:build !linux

// Package procattr sets what not every system can do for a process.
package procattr

import "syscall"

// EndWithStarter does nothing here: the process outlives kill -9 of the one that started it.
func EndWithStarter(*syscall.SysProcAttr) {}
