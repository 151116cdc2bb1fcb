package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"syscall"
)

// endpoint is what a server process tells its client.
type endpoint struct {
	Addr string `json:"addr"`
	CA   []byte `json:"ca,omitempty"` // PEM of its certificate
}

// usage is what a process has used since it began.
type usage struct {
	CPU     float64 `json:"cpu_us"`
	Mallocs uint64  `json:"mallocs"`
}

func used() (usage, error) {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return usage{}, fmt.Errorf("read own usage: %w", err)
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	micros := func(t syscall.Timeval) float64 { return float64(t.Sec)*1e6 + float64(t.Usec) }
	return usage{micros(r.Utime) + micros(r.Stime), m.Mallocs}, nil
}

// profileEnv names the folder that processes write CPU profiles into.
const profileEnv = "BENCH_PROFILE"

// runChild is a server or a client process: "serve SYSTEM" or "call SYSTEM ENDPOINT".
// It answers lines on stdin with lines of JSON on stdout until stdin ends.
func runChild(ctx context.Context, args []string) error {
	s, ok := findSystem(args[1])
	if !ok {
		return fmt.Errorf("no system %q", args[1])
	}
	if dir := os.Getenv(profileEnv); dir != "" {
		f, err := os.Create(filepath.Join(dir, args[1]+"-"+args[0]+".pprof"))
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	out := json.NewEncoder(os.Stdout)
	in := bufio.NewScanner(os.Stdin)
	if args[0] == "serve" {
		e, stop, err := s.serve(ctx)
		if err != nil {
			return err
		}
		defer stop()
		if err := out.Encode(e); err != nil {
			return err
		}
		for in.Scan() {
			u, err := used()
			if err != nil {
				return err
			}
			if err := out.Encode(u); err != nil {
				return err
			}
		}
		return in.Err()
	}
	var e endpoint
	if err := json.Unmarshal([]byte(args[2]), &e); err != nil {
		return fmt.Errorf("read endpoint: %w", err)
	}
	c, err := s.dial(ctx, e)
	if err != nil {
		return err
	}
	defer c.close()
	if err := out.Encode(struct{}{}); err != nil {
		return err
	}
	for in.Scan() {
		var l load
		if err := json.Unmarshal(in.Bytes(), &l); err != nil {
			return fmt.Errorf("read load: %w", err)
		}
		r, err := l.run(ctx, c.call)
		if err != nil {
			return err
		}
		if err := out.Encode(r); err != nil {
			return err
		}
	}
	return in.Err()
}
