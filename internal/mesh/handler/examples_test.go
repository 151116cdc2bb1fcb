//go:build unix

package handler

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/meshctl/meshctl/internal/mesh/schema"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

const examples = "../../../configs/examples"

// mesh is the example's workers in one process: it routes calls by their target.
type mesh struct {
	mu      sync.Mutex
	workers map[string]*Set
}

func (m *mesh) CallJSON(ctx context.Context, target string, payload json.RawMessage) (json.RawMessage, error) {
	worker, command, _ := strings.Cut(target, ".")
	m.mu.Lock()
	set := m.workers[worker]
	m.mu.Unlock()
	if set == nil {
		return nil, &wire.Error{Code: wire.CodeNoVariant, Message: "no variant of " + worker}
	}
	h, ok := set.Handler(command)
	if !ok {
		return nil, &wire.Error{Code: wire.CodeUnknownCommand, Message: target}
	}
	r := request(command, string(payload))
	r.Worker = worker
	return h.Handle(ctx, r)
}

// startExamples runs configs/examples/schema.yaml, without what is not installed.
func startExamples(t *testing.T, log *slog.Logger, workers ...string) *mesh {
	t.Helper()
	data, err := os.ReadFile(examples + "/schema.yaml")
	if err != nil {
		t.Fatal(err)
	}
	s, err := schema.Parse("schema.yaml", data)
	if err != nil {
		t.Fatal(err)
	}
	needs := map[string]string{"text": "python3", "shop": "node"}
	m := &mesh{workers: map[string]*Set{}}
	for _, w := range workers {
		if _, err := exec.LookPath(needs[w]); err != nil {
			t.Skipf("%s is not installed: %v", needs[w], err)
		}
		set, _ := runSet(t, s.Workers[w], Config{SchemaDir: examples, Env: Env{Caller: m}, Logger: log})
		m.mu.Lock()
		m.workers[w] = set
		m.mu.Unlock()
	}
	return m
}

// call is m.CallJSON with a deadline that allows for slow starts of the programs.
func (m *mesh) call(t *testing.T, target, payload string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := m.CallJSON(ctx, target, json.RawMessage(payload))
	return string(out), err
}

func TestExamplePython(t *testing.T) {
	m := startExamples(t, nil, "text")
	if n := len(m.workers["text"].Programs()); n != 1 {
		t.Errorf("%d processes, want one for all stdio commands", n)
	}
	for _, tt := range []struct {
		target, payload, want string
		code                  wire.Code
	}{
		{"text.count", `{"text":"to be\nor not to be"}`, `{"lines": 2, "words": 6, "chars": 18}`, ""},
		{"text.count", `[]`, `the payload must be`, wire.CodeBadRequest},
		{"text.slug", `{"text":"Hello, Mesh!"}`, `{"slug": "hello-mesh"}`, ""},
		{"text.slug", `1`, `exit status 1: the payload must be {"text": "..."}`, wire.CodeHandlerError},
		{"text.estimate", `{"text":"a b"}`, `no variant of shop`, wire.CodeHandlerError},
	} {
		checkCall(t, m, tt.target, tt.payload, tt.want, tt.code)
	}
	manyAtOnce(t, m, "text.count", `{"text":"a b"}`, `{"lines": 1, "words": 2, "chars": 3}`)
}

func TestExampleNode(t *testing.T) {
	m := startExamples(t, nil, "shop")
	for _, tt := range []struct {
		target, payload, want string
		code                  wire.Code
	}{
		{"shop.quote", `{"item":"apple","quantity":3}`, `{"item":"apple","quantity":3,"total":1.05}`, ""},
		{"shop.quote", `{"item":"unicorn"}`, `item must be one of translation, apple, pear`, wire.CodeBadRequest},
		{"shop.quote", `null`, `item must be one of`, wire.CodeBadRequest},
		{"shop.invoice", `{"texts":["a"]}`, `no variant of text`, wire.CodeHandlerError},
	} {
		checkCall(t, m, tt.target, tt.payload, tt.want, tt.code)
	}
	manyAtOnce(t, m, "shop.quote", `{"item":"pear"}`, `{"item":"pear","quantity":1,"total":0.42}`)
}

func checkCall(t *testing.T, m *mesh, target, payload, want string, code wire.Code) {
	t.Helper()
	got, err := m.call(t, target, payload)
	if wire.CodeOf(err) != code {
		t.Errorf("%s %s: got %s, %v", target, payload, got, err)
		return
	}
	if err != nil {
		got = err.Error()
	}
	if !strings.Contains(got, want) {
		t.Errorf("%s %s: got %s, want %s", target, payload, got, want)
	}
}

func manyAtOnce(t *testing.T, m *mesh, target, payload, want string) {
	t.Helper()
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if got, err := m.call(t, target, payload); err != nil || got != want {
				t.Errorf("%s: got %s, %v", target, got, err)
			}
		})
	}
	wg.Wait()
}

func TestExamplesCallEachOther(t *testing.T) {
	m := startExamples(t, nil, "text", "shop")
	checkCall(t, m, "text.estimate", `{"text":"to be or not to be"}`, `{"words": 6, "price": 0.72}`, "")
	texts := make([]string, 30)
	for i := range texts {
		texts[i] = "two words"
	}
	payload, _ := json.Marshal(map[string]any{"texts": texts})
	checkCall(t, m, "shop.invoice", string(payload), `{"texts":30,"words":60,"total":7.2}`, "")
}

func TestExamplesCancel(t *testing.T) {
	for target, want := range map[string]string{"text.slow_count": "canceled after", "shop.haggle": "haggle was canceled"} {
		t.Run(target, func(t *testing.T) {
			var log syncBuffer
			worker, command, _ := strings.Cut(target, ".")
			m := startExamples(t, slog.New(slog.NewTextHandler(&log, nil)), worker)
			set := m.workers[worker]
			h, _ := set.Handler(command)
			r := request(command, fmt.Sprintf(`{"text":%q}`, strings.Repeat("word ", 100)))
			if err := cancelInFlight(t, set, h, r); wire.CodeOf(err) != wire.CodeCanceled {
				t.Errorf("got %v", err)
			}
			eventually(t, "the program says that it was canceled", func() bool { return strings.Contains(log.String(), want) })
		})
	}
}
