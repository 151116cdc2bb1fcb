package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// process is a server or a client that answers lines.
type process struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *json.Decoder
}

// start runs one side of a system and reads what it says first into hello.
func start(ctx context.Context, s system, side string, hello any, more ...string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, append([]string{side, s.name}, more...)...)
	if s.js != "" {
		modules, err := jsModules()
		if err != nil {
			return nil, err
		}
		cmd = exec.CommandContext(ctx, "node", append([]string{filepath.Join("js", "echo.mjs"), modules, side, s.js}, more...)...)
	}
	cmd.Stderr = os.Stderr
	p := &process{cmd: cmd}
	if p.in, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s %s: %w", side, s.name, err)
	}
	p.out = json.NewDecoder(bufio.NewReader(out))
	if err := p.out.Decode(hello); err != nil {
		p.stop()
		return nil, fmt.Errorf("start %s %s: %w", side, s.name, err)
	}
	return p, nil
}

// jsModules is where the interoperation tests keep node's modules.
func jsModules() (string, error) {
	if _, err := exec.LookPath("node"); err != nil {
		return "", err
	}
	dir, err := filepath.Abs(filepath.Join("..", "test", "interop"))
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "socket.io-4")); err != nil {
		return "", fmt.Errorf("node's modules are not installed (make deps): %w", err)
	}
	return dir, nil
}

func (p *process) ask(question, answer any) error {
	line, err := json.Marshal(question)
	if err != nil {
		return err
	}
	if _, err := p.in.Write(append(line, '\n')); err != nil {
		return err
	}
	return p.out.Decode(answer)
}

// stop ends the process; one that does not end by itself is killed.
func (p *process) stop() {
	_ = p.in.Close()
	t := time.AfterFunc(5*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer t.Stop()
	_ = p.cmd.Wait() // how it ended is no result
}

// pair is a system at work.
type pair struct {
	system
	server, client *process
}

func startPair(ctx context.Context, s system) (*pair, error) {
	var e json.RawMessage
	server, err := start(ctx, s, "serve", &e)
	if err != nil {
		return nil, err
	}
	client, err := start(ctx, s, "call", &struct{}{}, string(e))
	if err != nil {
		server.stop()
		return nil, err
	}
	return &pair{s, server, client}, nil
}

func (p *pair) stop() {
	p.client.stop()
	p.server.stop()
}

// measurement is one load on one system in one round.
type measurement struct {
	System string `json:"system"`
	Round  int    `json:"round"`
	load
	CallsPerSecond float64 `json:"calls_per_second"`
	P50            float64 `json:"p50_us"`
	P99            float64 `json:"p99_us"`
	ClientCPU      float64 `json:"client_cpu_us_per_call"`
	ServerCPU      float64 `json:"server_cpu_us_per_call"`
	Allocations    float64 `json:"allocations_per_call"` // of both sides; 0 for JavaScript
}

func (p *pair) measure(l load) (measurement, error) {
	var before, after usage
	var s sample
	if err := p.server.ask("usage", &before); err != nil {
		return measurement{}, fmt.Errorf("%s: server: %w", p.name, err)
	}
	if err := p.client.ask(l, &s); err != nil {
		return measurement{}, fmt.Errorf("%s: client: %w", p.name, err)
	}
	if err := p.server.ask("usage", &after); err != nil {
		return measurement{}, fmt.Errorf("%s: server: %w", p.name, err)
	}
	n := float64(s.Calls)
	return measurement{
		System: p.name, load: l, CallsPerSecond: n / s.Seconds, P50: s.P50, P99: s.P99,
		ClientCPU: s.CPU / n, ServerCPU: (after.CPU - before.CPU) / n,
		Allocations: float64(s.Mallocs+after.Mallocs-before.Mallocs) / n,
	}, nil
}
