package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/meshctl/meshctl/internal/config"
	"github.com/meshctl/meshctl/internal/mesh/schema"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// The exit codes. Scripts depend on them: they do not change.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitNoVariant   = 3
	exitDenied      = 4
	exitTimeout     = 5
	exitHandler     = 6
	exitPartial     = 7
	exitConnect     = 8
	exitInterrupted = 130
)

// Codes of failures that are not of the mesh, as -o json shows them.
const (
	codeFailure       wire.Code = "failure"
	codeUsage         wire.Code = "usage"
	codeInvalidSchema wire.Code = "invalid_schema"
	codePartial       wire.Code = "partial_broadcast"
	codeInterrupted   wire.Code = "interrupted"
)

// exitCode is a row of the documented table.
type exitCode struct {
	exit    int
	codes   []wire.Code // the error codes of -o json that it stands for
	meaning string
}

// exitCodes is the one place where codes become exit codes.
func exitCodes() []exitCode {
	return []exitCode{
		{exitOK, nil, "done; of a broadcast: as many variants answered as --expect asks for"},
		{exitFailure, []wire.Code{codeFailure, codeInvalidSchema, wire.CodePeerLost, wire.CodeOverloaded, wire.CodeUnavailable, wire.CodeBadRequest, wire.CodeUnknownCommand, wire.CodeCanceled, wire.CodeReplaced},
			"failed in a way that has no exit code of its own"},
		{exitUsage, []wire.Code{codeUsage}, "the command line, the environment or the configuration file is wrong; nothing was sent"},
		{exitNoVariant, []wire.Code{wire.CodeNoVariant}, "no variant is there to answer"},
		{exitDenied, []wire.Code{wire.CodeDenied}, "the schema does not allow it"},
		{exitTimeout, []wire.Code{wire.CodeTimeout}, "no response in time"},
		{exitHandler, []wire.Code{wire.CodeHandlerError}, "the command ran and failed"},
		{exitPartial, []wire.Code{codePartial}, "fewer variants of a broadcast answered than --expect asks for, or not every node could do what a queue command asks; where all failed for one reason, that reason's exit code"},
		{exitConnect, []wire.Code{wire.CodeUnreachable, wire.CodeKeyMismatch}, "cannot connect, or the keys do not match"},
		{exitInterrupted, []wire.Code{codeInterrupted}, "interrupted by Ctrl-C or SIGTERM; serve-master and join end with 0 unless they are interrupted twice"},
	}
}

func exitOf(code wire.Code) int {
	for _, row := range exitCodes() {
		for _, c := range row.codes {
			if c == code {
				return row.exit
			}
		}
	}
	return exitFailure
}

// exitCodesHelp is the text of "meshctl help exit-codes".
func exitCodesHelp() string {
	var b strings.Builder
	b.WriteString("What meshctl exits with, and the \"code\" of the error that -o json shows for it:\n\n")
	for _, row := range exitCodes() {
		fmt.Fprintf(&b, "  %3d  %s\n", row.exit, row.meaning)
		if len(row.codes) > 0 {
			fmt.Fprintf(&b, "       %s\n", joinCodes(row.codes, ", "))
		}
	}
	return b.String()
}

func joinCodes(codes []wire.Code, sep string) string {
	words := make([]string, len(codes))
	for i, c := range codes {
		words[i] = string(c)
	}
	return strings.Join(words, sep)
}

// usageError is a command line that cannot be carried out as written.
type usageError struct {
	message, hint string
}

func (e *usageError) Error() string { return e.message }

func usagef(hint, format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...), hint}
}

// hinted adds to an error what to do about it.
type hinted struct {
	err  error
	hint string
}

func (e *hinted) Error() string { return e.err.Error() }
func (e *hinted) Unwrap() error { return e.err }

// reported is an error that the command's own output has told of already; only the
// exit code remains. Outside of JSON its message is still shown when there is one.
type reported struct {
	code    wire.Code
	message string
}

func (e *reported) Error() string { return e.message }

// failure is an error as it is shown.
type failure struct {
	Code     wire.Code     `json:"code"`
	Message  string        `json:"message"`
	Hint     string        `json:"hint,omitempty"`
	Problems []problemJSON `json:"problems,omitempty"`
}

// problemJSON is one mistake in a file.
type problemJSON struct {
	File    string `json:"file"`
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`
	Path    string `json:"path,omitempty"`
	Message string `json:"message"`
	Instead string `json:"instead,omitempty"`
}

// classify decides what an error is, whatever it is wrapped in.
func classify(err error) failure {
	f := failure{Code: codeFailure, Message: err.Error()}
	var (
		usage    *usageError
		hint     *hinted
		told     *reported
		notFound *config.NotFoundError
		settings config.Problems
		mistakes schema.Problems
		mesh     *wire.Error
	)
	switch {
	case errors.Is(err, errInterrupted):
		f.Code = codeInterrupted
	case errors.As(err, &told):
		f.Code = told.code
	case errors.As(err, &usage):
		f.Code, f.Hint = codeUsage, usage.hint
	case errors.As(err, &notFound):
		f.Code, f.Hint = codeUsage, notFound.Hint
	case errors.As(err, &settings):
		f.Code = codeUsage
	case errors.As(err, &mistakes):
		f.Code = codeInvalidSchema
		for _, p := range mistakes {
			f.Problems = append(f.Problems, problemJSON{p.File, p.Line, p.Column, p.Path, p.Message, p.Instead})
		}
	case errors.As(err, &mesh):
		f.Code, f.Message, f.Hint = mesh.Code, mesh.Message, mesh.Hint
		if f.Hint == "" {
			f.Hint = meshHint(mesh.Code)
		}
	case errors.Is(err, context.DeadlineExceeded):
		f.Code = wire.CodeTimeout
	}
	if errors.As(err, &hint) && hint.hint != "" {
		f.Hint = hint.hint
	}
	return f
}

// meshHint is what a person may do about a code where nothing better is known.
func meshHint(code wire.Code) string {
	switch code {
	case wire.CodeNoVariant:
		return "meshctl ls shows who is there; meshctl join WORKER adds one"
	case wire.CodeDenied:
		return "meshctl explain FROM WORKER.COMMAND shows the rules"
	case wire.CodeTimeout:
		return "--timeout gives it more time"
	case wire.CodeOverloaded:
		return "send more slowly; meshctl queue ls and meshctl top show where it piles up"
	case wire.CodeUnavailable:
		return "send it again later; the node's log and /readyz say what is the matter with its store"
	case wire.CodeUnreachable:
		return "is the master running (meshctl serve-master), and is --master right?"
	case wire.CodeKeyMismatch:
		return "meshctl keys show on both machines compares their fingerprints"
	case wire.CodeReplaced:
		return "give each instance a --variant of its own"
	}
	return ""
}
