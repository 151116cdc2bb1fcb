package handler

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/schema"
)

func init() {
	// hang tells its number and ignores whatever it is told.
	programs["hang"] = func(args []string) {
		signal.Ignore(syscall.SIGTERM)
		_ = os.WriteFile(args[0]+".tmp", fmt.Append(nil, os.Getpid()), 0o600)
		_ = os.Rename(args[0]+".tmp", args[0])
		time.Sleep(time.Hour)
	}
	// node runs hang as a handler.
	programs["node"] = func(args []string) {
		exe, _ := os.Executable()
		run, m := []string{exe, "program", "hang", args[1]}, schema.Method{}
		if args[0] == "stdio" {
			m.Stdio = run
		} else {
			m.Exec = run
		}
		set, err := NewSet(worker(m, "test"), Config{})
		if err != nil {
			panic(err)
		}
		go func() { _ = set.Run(context.Background()) }()
		if args[0] == "exec" {
			h, _ := set.Handler("test")
			_, _ = h.Handle(context.Background(), request("test", `{}`))
		}
		time.Sleep(time.Hour)
	}
}

// A program does not outlive kill -9 of its node, where it could run beside its next try.
func TestProgramsEndWithTheirNode(t *testing.T) {
	for _, kind := range []string{"exec", "stdio"} {
		t.Run(kind, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "pid")
			line := self(t, "node", kind, file)
			node := exec.Command(line[0], line[1:]...)
			if err := node.Start(); err != nil {
				t.Fatal(err)
			}
			pid := pidIn(t, file)
			if gone(pid) {
				t.Error("the program ended by itself")
			}
			_ = node.Process.Kill()
			_ = node.Wait()
			eventually(t, "the program has ended", func() bool { return gone(pid) })
		})
	}
}
