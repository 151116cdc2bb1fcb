// Package redistest runs a real redis-server for a test.
package redistest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// Server is a redis-server of one test, on a socket of its own, that stores every write.
type Server struct {
	t      testing.TB
	dir    string
	binary string
	cmd    *exec.Cmd
}

// Start starts one, which ends with the test. Where redis-server is not installed the test is
// skipped, and says so.
func Start(t testing.TB) *Server {
	t.Helper()
	binary, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("redis-server is not installed: nothing is tested with Redis (.ci/deps installs it)")
	}
	dir, err := os.MkdirTemp("", "redis") // the path of a socket has to be short
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{t: t, dir: dir, binary: binary}
	s.Restart()
	t.Cleanup(func() {
		s.Kill()
		os.RemoveAll(dir)
	})
	return s
}

// URL is where it is.
func (s *Server) URL() string { return "unix://" + s.socket() }

func (s *Server) socket() string { return filepath.Join(s.dir, "s") }

// Client connects to it. The caller closes it.
func (s *Server) Client() *redis.Client {
	return redis.NewClient(&redis.Options{Network: "unix", Addr: s.socket()})
}

// Restart starts it after Kill, with what it had stored, and waits until it answers.
func (s *Server) Restart() {
	s.t.Helper()
	s.cmd = exec.Command(s.binary, "--port", "0", "--unixsocket", s.socket(), "--dir", s.dir,
		"--appendonly", "yes", "--appendfsync", "always", "--save", "", "--loglevel", "warning")
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	c := s.Client()
	defer c.Close()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		err := c.Ping(context.Background()).Err()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			s.t.Fatal("redis-server does not answer: ", err)
		}
	}
}

// Kill ends it with SIGKILL.
func (s *Server) Kill() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}
