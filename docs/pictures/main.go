// Command pictures makes the pictures of docs/dashboard.md: it opens the dashboard of
// `meshctl demo` in tmux, goes from page to page, and draws what the terminal shows.
// `make pictures` runs it. It needs tmux and the font DejaVu Sans Mono (Debian:
// fonts-dejavu-core), which has the braille and block characters.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// picture is one page, and how to come there from the one before.
type picture struct {
	name string
	keys []string
	wait time.Duration // for something worth seeing
}

const (
	columns = 120
	rows    = 36
)

var (
	binary = flag.String("meshctl", "../../bin/meshctl", "the meshctl to show")
	fonts  = flag.String("fonts", "/usr/share/fonts/truetype/dejavu", "where DejaVuSansMono.ttf and DejaVuSansMono-Bold.ttf are")
	out    = flag.String("out", ".", "where to put the pictures")
)

func main() {
	log.SetFlags(0)
	flag.Parse()
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	brush, err := newBrush(*fonts)
	if err != nil {
		return err
	}
	dark := []picture{
		{"overview", nil, 45 * time.Second}, // the graphs need some time
		{"connections", []string{"2"}, time.Second},
		{"node", []string{"Down", "Enter"}, time.Second},
		{"links", []string{"Escape", "3"}, time.Second},
		{"in-flight", []string{"4"}, 1500 * time.Millisecond},
		{"commands", []string{"5"}, time.Second},
		{"command", []string{"Down", "Enter"}, time.Second},
		{"events", []string{"Escape", "6"}, time.Second},
		{"queues", []string{"7"}, time.Second},
	}
	if err := show(brush, "dark", dark); err != nil {
		return err
	}
	return show(brush, "light", []picture{{"overview-light", nil, 20 * time.Second}})
}

// show opens the dashboard in a theme and draws its pages.
func show(b *brush, theme string, pictures []picture) error {
	dir, err := os.MkdirTemp("", "meshctl-pictures-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	tmux := func(args ...string) (string, error) {
		out, err := exec.Command("tmux", append([]string{"-S", filepath.Join(dir, "socket"), "-f", "/dev/null"}, args...)...).CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("tmux %s: %w\n%s", args[0], err, out)
		}
		return string(out), nil
	}
	program, err := filepath.Abs(*binary)
	if err != nil {
		return err
	}
	if _, err := tmux("new-session", "-d", "-x", fmt.Sprint(columns), "-y", fmt.Sprint(rows), "-e", "COLORTERM=truecolor", program+" demo --theme "+theme); err != nil {
		return err
	}
	defer func() { _, _ = tmux("kill-server") }()
	for _, p := range pictures {
		for _, key := range p.keys {
			if _, err := tmux("send-keys", key); err != nil {
				return err
			}
			time.Sleep(300 * time.Millisecond)
		}
		time.Sleep(p.wait)
		screen, err := tmux("capture-pane", "-p", "-e")
		if err != nil {
			return err
		}
		if !strings.Contains(screen, "meshctl") {
			return fmt.Errorf("no dashboard is on the screen:\n%s", screen)
		}
		file := filepath.Join(*out, p.name+".png")
		size, err := b.draw(file, parse(screen, columns, rows), theme == "dark")
		if err != nil {
			return err
		}
		log.Printf("%s, %d KiB", file, size>>10)
	}
	return nil
}
