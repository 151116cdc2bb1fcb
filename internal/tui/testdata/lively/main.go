// Command lively shows the dashboard on a mesh that is not there, to look at it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/meshctl/meshctl/internal/tui"
	"github.com/meshctl/meshctl/internal/tui/tuitest"
)

func main() {
	nodes := flag.Int("nodes", 13, "nodes of the mesh")
	rate := flag.Float64("rate", 60, "calls a second of each")
	theme := flag.String("theme", "auto", "theme")
	flag.Parse()
	err := tui.Run(context.Background(), tui.Options{
		Source: tuitest.NewSource(*nodes, *rate), Theme: *theme, Title: "127.0.0.1:4040",
		In: os.Stdin, Out: os.Stdout, Environ: os.Environ(),
	})
	if err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "lively:", err)
		os.Exit(1)
	}
}
