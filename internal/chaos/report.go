package chaos

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Verdict is what came of a scenario.
type Verdict string

// The verdicts.
const (
	Held    Verdict = "held"
	Broken  Verdict = "broken"  // something did not hold
	Failed  Verdict = "failed"  // it could not be carried out
	Skipped Verdict = "skipped" // it cannot be carried out here
)

// maxViolations is how many violations of a scenario are told in full.
const maxViolations = 20

// Report is what a scenario measured, and what did not hold. It is not safe for concurrent use.
type Report struct {
	Figures    []Figure
	Notes      []string // what else is to be known, such as a part that could not be carried out here
	Violations []string // at most maxViolations, and how many more
	more       int
}

// Figure is one number that was measured.
type Figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit,omitempty"` // "" counts; "s", "ms", "MiB", "%"
}

// Count adds a figure that counts.
func (r *Report) Count(name string, n int) { r.Measure(name, float64(n), "") }

// Took adds a figure that is a time, in milliseconds below a second, else in seconds.
func (r *Report) Took(name string, d time.Duration) {
	if d < time.Second {
		r.Measure(name, d.Seconds()*1000, "ms")
		return
	}
	r.Measure(name, d.Seconds(), "s")
}

// Measure adds a figure.
func (r *Report) Measure(name string, value float64, unit string) {
	r.Figures = append(r.Figures, Figure{name, value, unit})
}

// Note adds something else that is to be known.
func (r *Report) Note(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}

// Must notes a violation unless ok.
func (r *Report) Must(ok bool, format string, args ...any) {
	switch {
	case ok:
	case len(r.Violations) < maxViolations:
		r.Violations = append(r.Violations, fmt.Sprintf(format, args...))
	default:
		r.more++
	}
}

func (f Figure) String() string {
	switch {
	case f.Unit == "":
		return fmt.Sprintf("%s %s", thousands(int64(f.Value)), f.Name)
	case f.Value != 0 && f.Value < 10:
		return fmt.Sprintf("%s %.2f %s", f.Name, f.Value, f.Unit)
	}
	return fmt.Sprintf("%s %.0f %s", f.Name, f.Value, f.Unit)
}

// thousands writes 100000 as 100,000.
func thousands(n int64) string {
	digits := fmt.Sprint(n)
	var b strings.Builder
	for i, d := range digits {
		if left := len(digits) - i; i > 0 && left%3 == 0 && digits[i-1] != '-' {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return b.String()
}

// Result is a scenario that has ended.
type Result struct {
	Scenario   string   `json:"scenario"`
	Shows      string   `json:"shows"`
	Size       string   `json:"size"`
	Verdict    Verdict  `json:"verdict"`
	Figures    []Figure `json:"figures,omitempty"`
	Notes      []string `json:"notes,omitempty"`
	Violations []string `json:"violations,omitempty"` // what did not hold
	Reason     string   `json:"reason,omitempty"`     // why it was skipped, or failed
	Folder     string   `json:"folder,omitempty"`     // with logs and histories, unless it held
	Seconds    float64  `json:"seconds"`
}

// Measured is the figures and notes in a line.
func (r Result) Measured() string {
	words := make([]string, len(r.Figures))
	for i, f := range r.Figures {
		words[i] = f.String()
	}
	return strings.Join(append([]string{strings.Join(words, ", ")}, r.Notes...), "; ")
}

// Figure gives a figure's value, and whether it was measured.
func (r Result) Figure(name string) (float64, bool) {
	for _, f := range r.Figures {
		if f.Name == name {
			return f.Value, true
		}
	}
	return 0, false
}

// finish decides the verdict.
func (r *Result) finish(report Report, err error, took time.Duration) {
	r.Figures, r.Notes, r.Violations, r.Seconds = report.Figures, report.Notes, report.Violations, took.Seconds()
	if report.more > 0 {
		r.Violations = append(r.Violations, fmt.Sprintf("and %d more", report.more))
	}
	var skip *skipError
	switch {
	case errors.As(err, &skip):
		r.Verdict, r.Reason = Skipped, skip.reason
	case err != nil:
		r.Verdict, r.Reason = Failed, err.Error()
	case len(r.Violations) > 0:
		r.Verdict = Broken
	default:
		r.Verdict = Held
	}
}

// skipError is why a scenario cannot be carried out here.
type skipError struct{ reason string }

func (e *skipError) Error() string { return "skipped: " + e.reason }

// Skip makes the error of a scenario that cannot be carried out here.
func Skip(format string, args ...any) error { return &skipError{fmt.Sprintf(format, args...)} }
