//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package queue

import (
	"os"
	"syscall"
)

// unlock gives up the lock of a store's file. Closing the file is not enough where it stays mapped: the lock would
// last as long as the mapping.
func unlock(f *os.File) { _ = syscall.Flock(int(f.Fd()), syscall.LOCK_UN) }
