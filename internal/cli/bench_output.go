package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"slices"
	"strconv"

	"github.com/meshctl/meshctl/internal/bounded"
	"github.com/meshctl/meshctl/internal/config"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// benchResult is what -o json prints and --compare reads.
type benchResult struct {
	Target       string              `json:"target"`
	InFlight     int                 `json:"in_flight"`
	Rate         int                 `json:"rate,omitempty"`
	PayloadBytes int                 `json:"payload_bytes"`
	Seconds      float64             `json:"seconds"`
	Calls        int64               `json:"calls"`
	Errors       int64               `json:"errors"`
	PerSecond    float64             `json:"calls_per_second"`
	P50          float64             `json:"p50_ms"`
	P90          float64             `json:"p90_ms"`
	P99          float64             `json:"p99_ms"`
	P999         float64             `json:"p999_ms"`
	Max          float64             `json:"max_ms"`
	NotBegun     int64               `json:"not_begun,omitempty"` // due by --rate, for which no caller was free
	Codes        map[wire.Code]int64 `json:"errors_by_code,omitempty"`
	Compared     []benchDifference   `json:"compared,omitempty"`
}

// benchDifference is one figure beside that of an earlier run.
type benchDifference struct {
	Figure string  `json:"figure"`
	Before float64 `json:"before"`
	Now    float64 `json:"now"`
	// Change is in percent of Before, absent where that is 0.
	Change *float64 `json:"change_percent,omitempty"`
}

// maxBenchResult bounds the file of --compare.
const maxBenchResult = 1 << 20

// readBenchResult reads an earlier result; without a path there is none.
func readBenchResult(path string) (*benchResult, error) {
	if path == "" {
		return nil, nil
	}
	const hint = "--compare reads what meshctl bench -o json has written"
	data, err := bounded.ReadFile(path, maxBenchResult)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &config.NotFoundError{What: "earlier result", Path: path, Hint: hint}
	}
	if err != nil {
		return nil, usagef(hint, "read earlier result: %v", err)
	}
	var r benchResult
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, usagef(hint, "%s is not JSON of meshctl bench: %v", path, err)
	}
	if r.Calls <= 0 {
		return nil, usagef(hint, "%s has no calls to compare with", path)
	}
	return &r, nil
}

func (r *benchResult) compareWith(before *benchResult) {
	if before == nil {
		return
	}
	earlier := before.figures()
	for i, f := range r.figures() {
		d := benchDifference{Figure: f.name, Before: earlier[i].value, Now: f.value}
		if d.Before != 0 {
			change := math.Round((d.Now-d.Before)/d.Before*1000) / 10
			d.Change = &change
		}
		r.Compared = append(r.Compared, d)
	}
}

type benchFigure struct {
	name     string // as in JSON
	value    float64
	decimals int
}

func (r *benchResult) figures() []benchFigure {
	return []benchFigure{
		{"calls", float64(r.Calls), 0}, {"errors", float64(r.Errors), 0}, {"calls_per_second", r.PerSecond, 1},
		{"p50_ms", r.P50, 3}, {"p90_ms", r.P90, 3}, {"p99_ms", r.P99, 3}, {"p999_ms", r.P999, 3}, {"max_ms", r.Max, 3},
	}
}

func (r *benchResult) write(app *App, as format) error {
	if as == formatJSON {
		return writeJSON(app.Out, r, true)
	}
	header := []string{"MEASURE", "VALUE"}
	if r.Compared != nil {
		header = append(header, "BEFORE", "CHANGE")
	}
	var rows [][]string
	for i, f := range r.figures() {
		row := []string{f.name, strconv.FormatFloat(f.value, 'f', f.decimals, 64)}
		if r.Compared != nil {
			d, change := r.Compared[i], ""
			if d.Change != nil {
				change = fmt.Sprintf("%+.1f%%", *d.Change)
			}
			row = append(row, strconv.FormatFloat(d.Before, 'f', f.decimals, 64), change)
		}
		rows = append(rows, row)
	}
	for _, code := range slices.Sorted(maps.Keys(r.Codes)) {
		row := []string{"errors: " + string(code), strconv.FormatInt(r.Codes[code], 10)}
		if r.Compared != nil {
			row = append(row, "", "")
		}
		rows = append(rows, row)
	}
	if err := writeTable(app.Out, header, rows); err != nil {
		return err
	}
	if r.NotBegun > 0 {
		app.notice("%d calls that --rate asked for were not begun: no caller was free; -c allows more in flight", r.NotBegun)
	}
	return nil
}

// verdict is nil when no call failed, else has the exit code of the commonest failure,
// and says so unless the run was interrupted.
func (r *benchResult) verdict(interrupted bool) error {
	if r.Calls == 0 && !interrupted {
		return &reported{code: codeFailure, message: "no call ended"}
	}
	var commonest wire.Code
	for _, code := range slices.Sorted(maps.Keys(r.Codes)) {
		if r.Codes[code] > r.Codes[commonest] {
			commonest = code
		}
	}
	if commonest == "" {
		return nil
	}
	if interrupted {
		return &reported{code: commonest}
	}
	return &reported{code: commonest, message: fmt.Sprintf("%d of %d calls failed, most with %s", r.Errors, r.Calls, commonest)}
}
