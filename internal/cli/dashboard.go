package cli

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/meshctl/meshctl/internal/tui"
	"github.com/meshctl/meshctl/internal/tui/screen"
)

// addThemeFlag gives a command that opens the dashboard the choice of its colours.
func addThemeFlag(cmd *cobra.Command, theme *string) {
	names := screen.Names()
	cmd.Flags().StringVar(theme, "theme", names[0], "`colours`: "+strings.Join(names, ", ")+"; auto asks the terminal, NO_COLOR means mono")
	_ = cmd.RegisterFlagCompletionFunc("theme", cobra.FixedCompletions(names, cobra.ShellCompDirectiveNoFileComp))
}

func checkTheme(name string) error {
	if slices.Contains(screen.Names(), name) {
		return nil
	}
	return usagef("themes are "+clipList(screen.Names()), "--theme: there is no theme %q", name)
}

// interactive tells whether there is a terminal at both ends.
func (a *App) interactive() bool {
	in, ok := a.In.(*os.File)
	return a.OutIsTerminal && ok && term.IsTerminal(int(in.Fd()))
}

// dashboard shows a source on this process's terminal until its user quits.
func (a *App) dashboard(ctx context.Context, o tui.Options) error {
	o.In, o.Out, o.Environ = a.In, a.Out, os.Environ()
	err := tui.Run(ctx, o)
	if errors.Is(err, errInterrupted) {
		return nil // an interrupt is a way to quit
	}
	return err
}
