package inspect

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxLogLine = 512 // bytes
	maxLogs    = 20  // a second, and in one report
)

// Logs keeps the newest log lines of level warn and above while somebody watches. It is
// safe for concurrent use, and bounded in lines and bytes.
type Logs struct {
	on atomic.Bool

	mu    sync.Mutex
	lines []logLine
	of    uint64
	// The second that is being counted, for the bound on the rate.
	second time.Time
	inIt   int
}

type logLine struct {
	at      time.Time
	level   string
	message string
}

// untold is the key of contexts that Untold gives.
type untold struct{}

// Untold gives a context for log lines that are not to be reported, because a row tells
// the same. They are logged as ever.
func Untold(ctx context.Context) context.Context { return context.WithValue(ctx, untold{}, true) }

// Handler gives a slog.Handler that hands everything to next, and keeps lines besides.
func (l *Logs) Handler(next slog.Handler) slog.Handler { return logHandler{next: next, logs: l} }

// logHandler is immutable; attrs are those of With, written already.
type logHandler struct {
	next   slog.Handler
	logs   *Logs
	attrs  string
	prefix string // of the groups that are open: "a.b."
}

// Enabled tells whether anybody wants lines of the level.
func (h logHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && h.logs.on.Load() || h.next.Enabled(ctx, level)
}

// Handle passes a line on.
func (h logHandler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn && h.logs.on.Load() && ctx.Value(untold{}) == nil {
		h.logs.add(r.Time, r.Level, func() string {
			var b strings.Builder
			b.WriteString(r.Message)
			b.WriteString(h.attrs)
			r.Attrs(func(a slog.Attr) bool {
				writeAttr(&b, h.prefix, a)
				return b.Len() < maxLogLine
			})
			return b.String()
		})
	}
	if !h.next.Enabled(ctx, r.Level) {
		return nil
	}
	return h.next.Handle(ctx, r)
}

// WithAttrs and WithGroup are those of slog.Handler.
func (h logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	var b strings.Builder
	b.WriteString(h.attrs)
	for _, a := range attrs {
		writeAttr(&b, h.prefix, a)
	}
	h.attrs, h.next = b.String(), h.next.WithAttrs(attrs)
	return h
}

// WithGroup opens a group.
func (h logHandler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	h.prefix += name + "."
	h.next = h.next.WithGroup(name)
	return h
}

func writeAttr(b *strings.Builder, prefix string, a slog.Attr) {
	v := a.Value.Resolve()
	if a.Equal(slog.Attr{}) || b.Len() >= maxLogLine {
		return
	}
	if v.Kind() == slog.KindGroup {
		if a.Key != "" {
			prefix += a.Key + "."
		}
		for _, inner := range v.Group() {
			writeAttr(b, prefix, inner)
		}
		return
	}
	b.WriteByte(' ')
	b.WriteString(prefix)
	b.WriteString(a.Key)
	b.WriteByte('=')
	text := v.String()
	if strings.ContainsAny(text, " =\"") {
		text = `"` + strings.ReplaceAll(text, `"`, `'`) + `"`
	}
	b.WriteString(text)
}

// add keeps a line, unless there were too many of late. Only then is text not called.
func (l *Logs) add(at time.Time, level slog.Level, text func() string) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.of++
	if now.Sub(l.second) >= time.Second {
		l.second, l.inIt = now, 0
	}
	if l.inIt++; l.inIt > maxLogs {
		return
	}
	if at.IsZero() {
		at = now
	}
	if len(l.lines) == maxLogs {
		l.lines = slices.Delete(l.lines, 0, 1)
	}
	l.lines = append(l.lines, logLine{at, strings.ToLower(level.String()), CleanText(text(), maxLogLine)})
}

// observe begins or ends keeping lines.
func (l *Logs) observe(on bool) {
	l.on.Store(on)
	if !on {
		l.take()
	}
}

// take gives the lines that were kept, and how many there were, and begins anew.
func (l *Logs) take() ([]logLine, uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines, of := l.lines, l.of
	l.lines, l.of = nil, 0
	return lines, of
}
