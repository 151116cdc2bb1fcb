package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// report is what results.json holds.
type report struct {
	Date         string            `json:"date"`
	Command      string            `json:"command"`
	Machine      string            `json:"machine"`
	Versions     map[string]string `json:"versions"`
	Rounds       int               `json:"rounds"`
	Duration     string            `json:"duration"`
	Measurements []measurement     `json:"measurements"`
	Broadcast    *broadcast        `json:"broadcast,omitempty"`
}

// newReport begins a report; flags are those of the command line beside -out.
func newReport(rounds int, duration time.Duration, flags []string) *report {
	r := &report{
		Date: time.Now().Format(time.DateOnly), Command: "make bench", Machine: machine(), Versions: versions(),
		Rounds: rounds, Duration: duration.String(),
	}
	if len(flags) > 0 {
		r.Command = fmt.Sprintf("make bench BENCH_FLAGS=%q", strings.Join(flags, " "))
	}
	return r
}

func machine() string {
	model := runtime.GOARCH
	if f, err := os.Open("/proc/cpuinfo"); err == nil {
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			if name, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	return fmt.Sprintf("%s, %d processors, %s", model, runtime.NumCPU(), runtime.GOOS)
}

// versions are those of what is compared.
func versions() map[string]string {
	v := map[string]string{"go": runtime.Version()}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			switch m.Path {
			case "google.golang.org/grpc", "github.com/nats-io/nats-server/v2", "github.com/nats-io/nats.go", "github.com/gorilla/websocket", "github.com/lxzan/gws", "github.com/coder/websocket", "github.com/zishang520/socket.io/v2", "github.com/flynn/noise":
				v[m.Path] = m.Version
			}
		}
	}
	if out, err := exec.Command("git", "rev-parse", "--short", "HEAD").Output(); err == nil {
		v["meshctl"] = strings.TrimSpace(string(out))
	}
	if out, err := exec.Command("node", "--version").Output(); err == nil {
		v["node"] = strings.TrimSpace(string(out))
	}
	return v
}

// of gives the median of a figure over the rounds, and false where nothing was measured.
func (r *report) of(system string, inFlight, payload int, figure func(measurement) float64) (float64, bool) {
	var values []float64
	for _, m := range r.Measurements {
		if m.System == system && m.InFlight == inFlight && m.Payload == payload {
			values = append(values, figure(m))
		}
	}
	if len(values) == 0 {
		return 0, false
	}
	return median(values), true
}

func speed(m measurement) float64 { return m.CallsPerSecond }
func p50(m measurement) float64   { return m.P50 }

// target is what the project wants of a ratio.
type target struct {
	text   string
	ratio  float64
	want   float64
	atMost bool
	known  bool
}

func (t target) met() bool {
	if t.atMost {
		return t.ratio <= t.want
	}
	return t.ratio >= t.want
}

func (r *report) targets() []target {
	ratio := func(text string, want float64, atMost bool, figure func(measurement) float64, inFlight, payload int, to string, toInFlight int) target {
		a, ok1 := r.of(nameNative, inFlight, payload, figure)
		b, ok2 := r.of(to, toInFlight, payload, figure)
		return target{text: text, ratio: a / b, want: want, atMost: atMost, known: ok1 && ok2}
	}
	all := []target{
		ratio("64 in flight, 200 B: calls/s of gRPC-go plaintext", 4, false, speed, 64, 200, nameGRPC, 64),
		ratio("64 in flight, 200 B: calls/s of NATS plaintext", 1.5, false, speed, 64, 200, nameNATS, 64),
		ratio("256 in flight, 200 B: calls/s of NATS plaintext", 2, false, speed, 256, 200, nameNATS, 256),
		ratio("one at a time, 200 B: p50 of gRPC-go plaintext", 1.1, true, p50, 1, 200, nameGRPC, 1),
		ratio("64 in flight, 200 B: calls/s of the bare batched, sealed WebSocket", 0.6, false, speed, 64, 200, nameWSBatched, 64),
		ratio("200 B: calls/s at 64 in flight, of the original's way of sealing, one at a time", 10_000, false, speed, 64, 200, nameJSCryptr, 1),
		ratio("64 in flight, 64 KiB: calls/s of gRPC-go with TLS", 0.8, false, speed, 64, 64<<10, nameGRPCTLS, 64),
	}
	if r.Broadcast != nil {
		all = append(all, target{text: fmt.Sprintf("broadcast to %d variants: CPU of %d calls", broadcastVariants, broadcastVariants), ratio: r.Broadcast.Ratio(), want: 0.6, atMost: true, known: true})
	}
	return slices.DeleteFunc(all, func(t target) bool { return !t.known })
}

const preamble = "# Performance\n\n"

func (r *report) write(path string) error {
	plot := strings.TrimSuffix(path, filepath.Ext(path)) + ".svg"
	if err := os.WriteFile(plot, r.plot(), 0o644); err != nil {
		return err
	}
	var b bytes.Buffer
	r.markdown(&b, filepath.Base(plot))
	return writeBetween(path, "bench", b.Bytes())
}

// writeBetween replaces what lies between the marks of a target of the Makefile; what people
// wrote around them stays.
func writeBetween(path, target string, text []byte) error {
	beginMark, endMark := "<!-- begin: written by make "+target+" -->", "<!-- end: written by make "+target+" -->"
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	head, rest, found := bytes.Cut(old, []byte(beginMark))
	_, tail, complete := bytes.Cut(rest, []byte(endMark))
	switch {
	case !found:
		head, tail = old, []byte("\n")
		if len(old) == 0 {
			head = []byte(preamble)
		}
	case !complete:
		return fmt.Errorf("%s has %q without %q", path, beginMark, endMark)
	}
	var b bytes.Buffer
	b.Write(head)
	b.WriteString(beginMark + "\n\n")
	b.Write(text)
	b.WriteString("\n" + endMark)
	b.Write(tail)
	return os.WriteFile(path, b.Bytes(), 0o644)
}

func (r *report) markdown(b *bytes.Buffer, plot string) {
	rounds := "one round"
	if r.Rounds > 1 {
		rounds = fmt.Sprintf("medians of %d rounds", r.Rounds)
	}
	fmt.Fprintf(b, "Measured on %s by `%s`: %s, in which the systems take turns, %s for each system and load.\n", r.Date, r.Command, rounds, r.Duration)
	fmt.Fprintf(b, "Server and client are a process each, on one machine over loopback: %s. Closed loop; every answer is the request's payload.\n", r.Machine)
	b.WriteString("Ratios within this run mean something; the absolute figures hold for this machine and what else it did.\n\n")
	b.WriteString("| target | wanted | measured | |\n| --- | ---: | ---: | --- |\n")
	for _, t := range r.targets() {
		sign, verdict := "≥", "met"
		if t.atMost {
			sign = "≤"
		}
		if !t.met() {
			verdict = "**missed**"
		}
		fmt.Fprintf(b, "| %s | %s %s× | %s× | %s |\n", t.text, sign, number(t.want), number(t.ratio), verdict)
	}
	fmt.Fprintf(b, "\n![calls per second by calls in flight, 200 bytes](%s)\n", plot)
	for _, payload := range allPayloads() {
		fmt.Fprintf(b, "\n## %s\n\n", size(payload))
		b.WriteString("| system | in flight | calls/s | p50 µs | p99 µs | CPU µs per call, client + server | allocations per call, both |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n")
		for _, s := range systems() {
			for _, inFlight := range allInFlights() {
				value := func(figure func(measurement) float64) float64 {
					v, _ := r.of(s.name, inFlight, payload, figure)
					return v
				}
				calls, ok := r.of(s.name, inFlight, payload, speed)
				if !ok {
					continue
				}
				allocations := number(value(func(m measurement) float64 { return m.Allocations }))
				if s.js != "" {
					allocations = "–"
				}
				fmt.Fprintf(b, "| %s | %d | %s | %s | %s | %s + %s | %s |\n", s.name, inFlight, number(calls), number(value(p50)),
					number(value(func(m measurement) float64 { return m.P99 })),
					number(value(func(m measurement) float64 { return m.ClientCPU })), number(value(func(m measurement) float64 { return m.ServerCPU })), allocations)
			}
		}
	}
	b.WriteString("\n## The systems\n\n| name | what |\n| --- | --- |\n")
	for _, s := range systems() {
		fmt.Fprintf(b, "| %s | %s |\n", s.name, s.about)
	}
	b.WriteString("\nVersions: ")
	var all []string
	for name, v := range r.Versions {
		all = append(all, name+" "+v)
	}
	slices.Sort(all)
	b.WriteString(strings.Join(all, ", ") + ".\nAll figures of all rounds: `bench/results.json`.\n")
}

func size(n int) string {
	if n >= 1<<10 {
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d B", n)
}

// number has three digits that mean something.
func number(v float64) string {
	switch {
	case v >= 1000:
		digits := fmt.Sprintf("%.0f", v)
		var b strings.Builder
		for i, d := range digits {
			if i > 0 && (len(digits)-i)%3 == 0 {
				b.WriteByte(',')
			}
			b.WriteRune(d)
		}
		return b.String()
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
