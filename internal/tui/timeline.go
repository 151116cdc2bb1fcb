package tui

import (
	"fmt"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/meshctl/meshctl/internal/tui/screen"
)

// steering is what can be done to a replay.
type steering int

const (
	playStop steering = iota
	stepBack
	stepForth
	leapBack
	leapForth
	slower
	faster
)

func speeds() []float64 { return []float64{1, 2, 5, 10, 30, 60} }

func (r *root) steer(what steering) tea.Cmd {
	tl := r.timeline
	step := map[steering]time.Duration{
		stepBack: -time.Second, stepForth: time.Second, leapBack: -10 * time.Second, leapForth: 10 * time.Second,
	}
	switch what {
	case playStop:
		from, to := tl.Span()
		if !tl.Playing() && !tl.Position().Before(to) {
			tl.Seek(from) // from its end it begins again
		}
		tl.Play(!tl.Playing())
	case slower, faster:
		tl.SetSpeed(nextSpeed(tl.Speed(), what == faster))
	default:
		from, to := tl.Span()
		at := tl.Position().Add(step[what])
		if at.Before(from) {
			at = from
		}
		if at.After(to) {
			at = to
		}
		tl.Seek(at)
	}
	return nil
}

func nextSpeed(now float64, up bool) float64 {
	all := speeds()
	if up {
		for _, s := range all {
			if s > now {
				return s
			}
		}
		return all[len(all)-1]
	}
	for i := len(all) - 1; i >= 0; i-- {
		if all[i] < now {
			return all[i]
		}
	}
	return all[0]
}

// timeBar is the line above the footer in a replay.
func (r *root) timeBar() string {
	t, tl := r.theme, r.timeline
	from, to := tl.Span()
	at := tl.Position()
	l := screen.NewLine(r.width, screen.Style{})
	if tl.Playing() {
		l.Text(" ▶ ", t.Good)
	} else {
		l.Text(" ■ ", t.Warn)
	}
	l.Cell(fmt.Sprintf("%g×", tl.Speed()), 4, false, t.Text)
	l.Text(at.Format("2006-01-02 15:04:05.0 "), t.Title)
	tail := fmt.Sprintf(" %s of %s ", screen.Span(at.Sub(from)), screen.Span(to.Sub(from)))
	width := l.Left() - screen.Width(tail)
	if width > 4 {
		done := 0
		if span := to.Sub(from); span > 0 {
			done = max(0, min(width-1, int(float64(width-1)*float64(at.Sub(from))/float64(span))))
		}
		l.Text(strings.Repeat("━", done), t.Accent).Text("●", t.Accent).Text(strings.Repeat("─", width-1-done), t.Faint)
	}
	return l.Text(tail, t.Muted).String()
}
