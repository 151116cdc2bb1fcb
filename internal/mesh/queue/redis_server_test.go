package queue_test

import (
	"context"
	"encoding/base64"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/meshctl/meshctl/internal/mesh/queue"
)

// redisServer is a redis-server of this test, on a socket of its own, that stores every write.
type redisServer struct {
	t      *testing.T
	dir    string
	binary string
	cmd    *exec.Cmd
}

func startRedis(t *testing.T) *redisServer {
	t.Helper()
	binary, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("redis-server is not installed: nothing is tested with Redis (.ci/deps installs it)")
	}
	dir, err := os.MkdirTemp("", "redis") // the path of a socket has to be short
	if err != nil {
		t.Fatal(err)
	}
	s := &redisServer{t: t, dir: dir, binary: binary}
	s.start()
	t.Cleanup(func() {
		s.kill()
		os.RemoveAll(dir)
	})
	return s
}

func (s *redisServer) url() string { return "unix://" + filepath.Join(s.dir, "s") }

func (s *redisServer) start() {
	s.t.Helper()
	s.cmd = exec.Command(s.binary, "--port", "0", "--unixsocket", filepath.Join(s.dir, "s"), "--dir", s.dir,
		"--appendonly", "yes", "--appendfsync", "always", "--save", "", "--loglevel", "warning")
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	c := redis.NewClient(&redis.Options{Network: "unix", Addr: filepath.Join(s.dir, "s")})
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

func (s *redisServer) kill() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

// reversible stands for sealing where that does not matter.
type reversible struct{}

func (reversible) Seal(b []byte) (string, error) { return base64.StdEncoding.EncodeToString(b), nil }
func (reversible) Open(_ context.Context, s string) ([]byte, error) {
	return base64.StdEncoding.DecodeString(s)
}

func openRedis(t *testing.T, cfg queue.RedisConfig) *queue.Redis {
	t.Helper()
	if cfg.Sealer == nil {
		cfg.Sealer = reversible{}
	}
	if cfg.Name == "" {
		cfg.Name = "n1"
	}
	s, err := queue.OpenRedis(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Err(); err != nil && !errors.Is(err, queue.ErrUnavailable) {
		t.Fatal(err)
	}
	return s
}
