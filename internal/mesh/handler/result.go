package handler

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// resultOf makes valid JSON of what a program or service wrote: JSON as it is, other
// text as a string without its trailing newline, nothing as null.
func resultOf(out []byte) json.RawMessage {
	if !utf8.Valid(out) {
		out = bytes.ToValidUTF8(out, []byte("\uFFFD"))
	}
	trimmed := bytes.TrimSpace(out)
	switch {
	case len(trimmed) == 0:
		return json.RawMessage("null")
	case json.Valid(trimmed):
		return json.RawMessage(trimmed)
	default:
		text := bytes.TrimSuffix(bytes.TrimSuffix(out, []byte("\n")), []byte("\r"))
		return mustJSON(string(text))
	}
}

// mustJSON encodes values of this package's own types, without escaping <, > and &.
func mustJSON(v any) json.RawMessage {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(err) // a type that JSON cannot hold: a mistake in this package
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

func failed(format string, args ...any) *wire.Error {
	return &wire.Error{Code: wire.CodeHandlerError, Message: limitText(fmt.Sprintf(format, args...))}
}

func badRequest(format string, args ...any) *wire.Error {
	return &wire.Error{Code: wire.CodeBadRequest, Message: limitText(fmt.Sprintf(format, args...))}
}

func tooLarge(limit int) *wire.Error { return failed("output exceeds %d bytes", limit) }

// limitText makes text of any origin fit for an error message.
func limitText(s string) string {
	if len(s) > messageLimit {
		s = s[:messageLimit]
	}
	return strings.TrimSpace(strings.ToValidUTF8(s, "\uFFFD"))
}

// oneLine drops what must not get into an environment variable or a header.
func oneLine(s string) string {
	return strings.Map(func(c rune) rune {
		if unicode.IsControl(c) {
			return -1
		}
		return c
	}, s)
}

// tail keeps the last max bytes written to it.
type tail struct {
	mu  sync.Mutex
	max int
	buf []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(p)
	if n >= t.max {
		t.buf = append(t.buf[:0], p[n-t.max:]...)
		return n, nil
	}
	if over := len(t.buf) + n - t.max; over > 0 {
		t.buf = t.buf[:copy(t.buf, t.buf[over:])]
	}
	t.buf = append(t.buf, p...)
	return n, nil
}

// String is what was kept, without a character cut in two and white space around it.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.buf
	for i := 0; i < utf8.UTFMax && len(b) > 0 && !utf8.RuneStart(b[0]); i++ {
		b = b[1:]
	}
	return limitText(string(b))
}

// capped keeps up to max bytes; beyond, it fails and calls over.
type capped struct {
	max  int
	buf  bytes.Buffer
	over func()
}

func (c *capped) Write(p []byte) (int, error) {
	if c.buf.Len()+len(p) > c.max {
		c.over()
		return 0, errOutput
	}
	return c.buf.Write(p)
}
