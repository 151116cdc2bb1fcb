package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// report shows an error, as JSON on stdout where that was asked for or as a line of a log in
// JSON, and gives its exit code.
func (a *App) report(err error, asJSON bool) int {
	f := classify(err)
	log := a.log.Load()
	var told *reported
	quiet := errors.As(err, &told) && (asJSON || told.message == "")
	switch {
	case quiet:
	case log != nil && log.json:
		attrs := []any{"code", f.Code}
		if f.Hint != "" {
			attrs = append(attrs, "hint", f.Hint)
		}
		log.Error(f.Message, attrs...)
	case asJSON && writeJSON(a.Out, map[string]any{"error": f}, true) == nil: // else stderr is what is left
	default:
		fmt.Fprintln(a.Err, a.paint("error:")+" "+indentLines(printableLines(f.Message)))
		if f.Hint != "" {
			fmt.Fprintln(a.Err, "hint: "+printableLines(f.Hint))
		}
	}
	return exitOf(f.Code)
}

// indentLines sets further lines below the first.
func indentLines(text string) string { return strings.ReplaceAll(text, "\n", "\n  ") }

// paint makes the word that begins an error red on terminals, unless NO_COLOR is set.
func (a *App) paint(word string) string {
	if v, _ := a.Env.LookupEnv("NO_COLOR"); v != "" || !a.ErrIsTerminal {
		return word
	}
	return "\x1b[31m" + word + "\x1b[0m"
}

// wantsJSON finds -o json in arguments that could not be parsed, too.
func wantsJSON(args []string) bool {
	if i := slices.Index(args, "--"); i >= 0 {
		args = args[:i]
	}
	asked := false
	for i, arg := range args {
		value, ok := "", false
		for _, prefix := range []string{"--output=", "-o="} {
			if v, found := strings.CutPrefix(arg, prefix); found {
				value, ok = v, true
			}
		}
		switch {
		case ok:
		case arg == "-o" || arg == "--output":
			if i+1 < len(args) {
				value, ok = args[i+1], true
			}
		case strings.HasPrefix(arg, "-o"):
			value, ok = arg[2:], true
		}
		if ok {
			asked = value == string(formatJSON)
		}
	}
	return asked
}

// notice tells a person something beside the data, on stderr.
func (a *App) notice(format string, args ...any) {
	fmt.Fprintf(a.Err, format+"\n", args...)
}
