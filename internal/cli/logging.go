package cli

import (
	"io"
	"log/slog"
	"strings"

	"github.com/meshctl/meshctl/internal/config"
)

// levelTrace is below slog's own levels, as the JavaScript nodes have one.
const levelTrace = slog.LevelDebug - 4

// commandLog is the log of a command.
type commandLog struct {
	*slog.Logger
	json bool // then nothing else is written to stderr
}

// startLog gives the log of a command that runs on, where what it has to say goes from now on.
func (a *App) startLog(cfg *config.Config) *slog.Logger {
	log := newLogger(cfg, a.Err)
	a.log.Store(&commandLog{log, cfg.LogFormat == "json"})
	return log
}

// warn tells of something that is not as it should be, and stops nothing.
func (a *App) warn(text string) {
	if log := a.log.Load(); log != nil {
		log.Warn(text)
		return
	}
	a.notice("warning: %s", text)
}

// newLogger writes to w what --log-level and --log-format ask for.
func newLogger(cfg *config.Config, w io.Writer) *slog.Logger {
	opts := &slog.HandlerOptions{Level: logLevel(cfg.LogLevel), ReplaceAttr: readable}
	if cfg.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}

func logLevel(name string) slog.Level {
	switch name {
	case "trace":
		return levelTrace
	case "debug":
		return slog.LevelDebug
	case "warn":
		return slog.LevelWarn
	case "error":
		return slog.LevelError
	}
	return slog.LevelInfo
}

// readable writes levels as --log-level has them, and durations with their unit in
// JSON as well.
func readable(groups []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		return slog.String(a.Key, a.Value.Duration().String())
	}
	if len(groups) > 0 || a.Key != slog.LevelKey {
		return a
	}
	level, ok := a.Value.Any().(slog.Level)
	if !ok {
		return a
	}
	if level == levelTrace {
		return slog.String(a.Key, "trace")
	}
	return slog.String(a.Key, strings.ToLower(level.String()))
}
