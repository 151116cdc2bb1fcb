package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/meshctl/meshctl/internal/config"
	"github.com/meshctl/meshctl/internal/redisdb"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// App is what every command gets of the world around it.
type App struct {
	In            io.Reader
	Out, Err      io.Writer
	OutIsTerminal bool
	ErrIsTerminal bool
	Env           config.Environment
	Build         Build

	// completionTime bounds how long a press of the tab key may ask the master.
	completionTime time.Duration
	// log is where a command that runs on tells of itself; nil before it has one, and of others.
	log atomic.Pointer[commandLog]
	// forced is closed by the second interrupt: stop waiting, end now.
	forced chan struct{}
}

// NewApp is the App of this process.
func NewApp(build Build) *App {
	redisdb.Quiet()
	return &App{
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr,
		OutIsTerminal: term.IsTerminal(int(os.Stdout.Fd())),
		ErrIsTerminal: term.IsTerminal(int(os.Stderr.Fd())),
		Env:           config.OSEnvironment(),
		Build:         build.filled(),

		completionTime: 500 * time.Millisecond,
	}
}

// killGrace is how long a command has to return after the second interrupt.
const killGrace = time.Second

var errInterrupted = errors.New("interrupted")

// Main runs one command line and gives the exit code of the process. The first
// SIGINT or SIGTERM cancels the command's context; the second, unless it comes with the
// first, makes Main return soon whatever the command does, and a third is left to the
// operating system.
func Main(ctx context.Context, app *App, args []string) int {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	app.forced = make(chan struct{})
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	// Main ends the process soon after it returns, so this may wait on.
	go interrupts(ctx, signals, func() { cancel(errInterrupted) }, func() {
		signal.Stop(signals)
		close(app.forced)
	})

	done := make(chan error, 1)
	go func() { done <- execute(ctx, app, args) }()
	var err error
	select {
	case err = <-done:
	case <-app.forced:
		select {
		case err = <-done:
		case <-time.After(killGrace):
		}
		if !complete(err) {
			err = errInterrupted
		}
	}
	if err == nil {
		return exitOK
	}
	if errors.Is(context.Cause(ctx), errInterrupted) && !complete(err) {
		err = errInterrupted
	}
	return app.report(err, wantsJSON(args))
}

// complete tells whether a command's output is complete, and err what its end means.
func complete(err error) bool {
	told := (*reported)(nil)
	return errors.As(err, &told) && told.message == ""
}

func execute(ctx context.Context, app *App, args []string) error {
	root := newCmdRoot(app)
	root.SetArgs(args)
	if len(args) > 0 && args[0] == cobra.ShellCompRequestCmd {
		unquoteUsage(root)
	}
	_, err := root.ExecuteContextC(ctx)
	return err
}
