package tui

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/meshctl/meshctl/internal/mesh/inspect"
)

// Options say what a dashboard shows, and where.
type Options struct {
	Source   inspect.Source   // Run reads it and does not close it
	Control  inspect.Control  // nil: nothing can be called or canceled
	Timeline inspect.Timeline // of a replay, else nil
	Recorded func() error     // what is seen is recorded; gives why that has ended early. nil: it is not
	Theme    string           // one of screen.Names; "" is auto
	Title    string           // what is watched: the masters' addresses, the recording's name
	Masters  int              // how many there are to choose from: the one in use is shown instead of Title. 0: Title stays
	In       io.Reader        // a terminal
	Out      io.Writer        // a terminal
	Environ  []string         // what is known of the terminal: TERM, COLORTERM, NO_COLOR, TMUX
	WriteDir string           // where `w` writes; "": the working directory
	Clock    func() time.Time // nil: time.Now
}

// Run shows the dashboard until its user quits, which is no error, or ctx ends, whose
// error it then gives. The terminal is as it was when Run returns, whatever happened:
// SIGHUP ends it in order, as ctx does, and a panic anywhere in the dashboard becomes an
// error that names a file with the stack.
func Run(ctx context.Context, o Options) error {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGHUP) // the caller minds the others
	defer stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	f := newFeed(inspect.NewModel())
	r, err := newRoot(o, f.picture, pages())
	if err != nil {
		return err
	}
	c := &crash{end: cancel}
	program := tea.NewProgram(&guard{root: r, crash: c},
		tea.WithContext(ctx), tea.WithInput(o.In), tea.WithOutput(o.Out), tea.WithEnvironment(o.Environ),
		tea.WithoutSignalHandler(), tea.WithFPS(30))

	work, enough := context.WithCancel(ctx) // the feed ends with the program
	var wg sync.WaitGroup
	wg.Go(func() {
		defer c.catch("feed")
		err := f.read(work, o.Source)
		var panicked *inspect.PanicError
		switch {
		case errors.As(err, &panicked):
			c.note("source", panicked.Value, panicked.Stack)
		case work.Err() == nil:
			program.Send(endMsg{err})
		}
	})
	wg.Go(func() {
		defer c.catch("frames")
		f.pace(work, program.Send)
	})
	_, err = program.Run()
	enough()
	wg.Wait()
	switch {
	case c.err() != nil:
		return c.err()
	case errors.Is(err, tea.ErrProgramPanic):
		return fmt.Errorf("the dashboard failed, its terminal is restored: %w", err)
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return err
}

// variable gives a variable of an environment.
func variable(environ []string, name string) string {
	i := slices.IndexFunc(environ, func(s string) bool { return strings.HasPrefix(s, name+"=") })
	if i < 0 {
		return ""
	}
	return environ[i][len(name)+1:]
}
