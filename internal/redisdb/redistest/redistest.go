// Package redistest runs real redis-servers for a test: one, a Cluster, or one with a replica
// and a Sentinel. They end with the test. Where redis-server is not installed the test is
// skipped, and says so.
package redistest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// patience bounds each wait. A Sentinel that had to wait for a processor for two seconds does
// nothing for half a minute, on purpose (TILT).
const patience = 3 * time.Minute

// Server is a redis-server of one test that stores every write.
type Server struct {
	t             testing.TB
	network, addr string
	dir           string
	args          []string // the whole command line
	cmd           *exec.Cmd
	ended         chan struct{} // closed when cmd has ended
}

// Start starts one, on a socket of its own.
func Start(t testing.TB) *Server {
	t.Helper()
	s := newServer(t, "unix", "", "--port", "0")
	s.Restart()
	return s
}

// StartTCP starts one on a port of the loopback interface, for what stands between.
func StartTCP(t testing.TB) *Server {
	t.Helper()
	return onPort(t)
}

// newServer makes one that does not run yet. With network unix its address is in its folder.
func newServer(t testing.TB, network, addr string, args ...string) *Server {
	t.Helper()
	binary, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("redis-server is not installed: nothing is tested with Redis (.ci/deps installs it)")
	}
	dir, err := os.MkdirTemp("", "redis") // the path of a socket has to be short
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{t: t, network: network, addr: addr, dir: dir}
	if network == "unix" {
		s.addr = filepath.Join(dir, "s")
		args = append(args, "--unixsocket", s.addr)
	}
	s.args = append([]string{binary, "--dir", dir, "--appendonly", "yes", "--appendfsync", "always", "--save", "", "--loglevel", "warning"}, args...)
	t.Cleanup(func() {
		s.Kill()
		os.RemoveAll(dir)
	})
	return s
}

// URL is where it is.
func (s *Server) URL() string {
	if s.network == "unix" {
		return "unix://" + s.addr
	}
	return "redis://" + s.addr
}

// Addr is the socket or HOST:PORT where it listens.
func (s *Server) Addr() string { return s.addr }

// Client connects to it. The caller closes it.
func (s *Server) Client() *redis.Client {
	return redis.NewClient(&redis.Options{Network: s.network, Addr: s.addr})
}

// Restart starts it after Kill, with what it had stored, and waits until it answers.
func (s *Server) Restart() {
	s.t.Helper()
	if err := s.start(); err != nil {
		s.t.Fatal(err)
	}
}

func (s *Server) start() error {
	s.cmd = exec.Command(s.args[0], s.args[1:]...)
	log, err := os.OpenFile(s.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	s.cmd.Stdout, s.cmd.Stderr = log, log
	err = s.cmd.Start()
	log.Close() // the server has it
	if err != nil {
		return err
	}
	s.ended = make(chan struct{})
	go func() {
		defer close(s.ended)
		_ = s.cmd.Wait()
	}()
	c := s.Client()
	defer c.Close()
	for end := time.Now().Add(patience); ; {
		err := c.Ping(context.Background()).Err()
		if err == nil {
			return nil
		}
		select {
		case <-s.ended:
			return fmt.Errorf("redis-server has ended: %s", s.said())
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(end) {
			return fmt.Errorf("redis-server does not answer: %w", err)
		}
	}
}

func (s *Server) log() string { return filepath.Join(s.dir, "log") }

// said is what it has logged.
func (s *Server) said() string {
	text, _ := os.ReadFile(s.log())
	return string(text)
}

// Kill ends it with SIGKILL. Twice does no harm.
func (s *Server) Kill() {
	if s.ended == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	<-s.ended
}

// do asks it something, and ends the test when that fails.
func (s *Server) do(args ...any) any {
	s.t.Helper()
	c := s.Client()
	defer c.Close()
	answer, err := c.Do(context.Background(), args...).Result()
	if err != nil {
		s.t.Fatalf("%v: %v", args[:min(2, len(args))], err)
	}
	return answer
}

// says tells whether what a command answers has all these in it. What cannot be asked does not.
func (s *Server) says(command []any, all ...string) bool {
	c := s.Client()
	defer c.Close()
	answer := fmt.Sprint(c.Do(context.Background(), command...).Val())
	for _, part := range all {
		if !strings.Contains(answer, part) {
			return false
		}
	}
	return true
}

func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited in vain for ", what)
		}
	}
}

// busOffset is how far above a server's port the one is over which it talks to others.
const busOffset = 10000

// onPort starts a server on a free port. One that somebody takes before it does is tried no more.
func onPort(t testing.TB, args ...string) *Server {
	t.Helper()
	var err error
	for range 10 {
		port := freePort(t)
		s := newServer(t, "tcp", fmt.Sprintf("127.0.0.1:%d", port), append([]string{"--bind", "127.0.0.1", "--port", fmt.Sprint(port)}, args...)...)
		if err = s.start(); err == nil {
			return s
		}
	}
	t.Fatal(err)
	return nil
}

// freePort finds a port that is free together with the one of the bus, both below those that
// the system gives to whoever connects.
func freePort(t testing.TB) int {
	t.Helper()
	for range 1000 {
		port := 11000 + rand.IntN(11000)
		free := true
		for _, p := range []int{port, port + busOffset} {
			l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", p))
			if err != nil {
				free = false
				break
			}
			defer l.Close()
		}
		if free {
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

func (s *Server) port() string {
	_, port, _ := net.SplitHostPort(s.addr)
	return port
}
