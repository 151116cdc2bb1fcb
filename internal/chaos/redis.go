package chaos

import (
	"os/exec"
)

// redisServer is a redis-server that writes everything to the disk before it answers.
type redisServer struct {
	*Process
	lab    *Lab
	binary string
	socket string
}

// StartRedis starts a redis-server with appendfsync always, on a socket in the lab's folder. Where there
// is none, the scenario is skipped.
func (l *Lab) StartRedis() (*redisServer, error) {
	binary, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, Skip("redis-server is not installed")
	}
	s := &redisServer{lab: l, binary: binary, socket: l.Path("redis.socket")}
	return s, s.Restart()
}

// URL is what --redis takes.
func (s *redisServer) URL() string { return "unix://" + s.socket }

// Restart starts it again, once it has ended, with what it has on the disk, and blocks until it accepts
// connections.
func (s *redisServer) Restart() (err error) {
	s.Process, err = s.lab.Exec("redis", s.binary, "--port", "0", "--unixsocket", s.socket, "--dir", s.lab.Dir,
		"--appendonly", "yes", "--appendfsync", "always", "--save", "", "--loglevel", "warning")
	if err != nil {
		return err
	}
	return s.lab.Listening(s.Process, "unix", s.socket)
}
