package node_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/meshctl/meshctl/internal/mesh/meshtest"
	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// complaints is a log handler that hands on what a node says about its master.
type complaints chan slog.Record

func (complaints) Enabled(context.Context, slog.Level) bool { return true }
func (c complaints) WithAttrs([]slog.Attr) slog.Handler     { return c }
func (c complaints) WithGroup(string) slog.Handler          { return c }

func (c complaints) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "not connected to the master" {
		select {
		case c <- r:
		default: // the test has seen enough
		}
	}
	return nil
}

// A hint is logged where there is one, and no empty attribute where there is none.
func TestHintsAboutTheMaster(t *testing.T) {
	for _, c := range []struct{ name, event, answer, hint string }{
		{"refused", wire.EventError, `{"message":"no"}`, "compare its schema"},
		{"gone", wire.EventDeclared, `{"worker":"billing","variant":"b1"}`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := meshtest.New(t, shop)
			port := m.Serve(func(r *meshtest.Raw) {
				r.Hears(wire.EventDeclare)
				r.Tells(c.event, c.answer)
				r.Link.Close(errors.New("enough"))
			})
			logged := make(complaints, 1)
			m.Start("billing", "b1", func(cfg *node.Config) {
				cfg.Master, cfg.Logger = fmt.Sprintf("127.0.0.1:%d", port), slog.New(logged)
			})
			r := meshtest.Await(t, logged, "a complaint")
			hints := 0
			r.Attrs(func(a slog.Attr) bool {
				if a.Key == "hint" {
					hints++
					if c.hint == "" || !strings.Contains(a.Value.String(), c.hint) {
						t.Errorf("hint %q, want %q", a.Value, c.hint)
					}
				}
				return true
			})
			if want := min(1, len(c.hint)); hints != want {
				t.Errorf("%d hints, want %d", hints, want)
			}
		})
	}
}
