// Command publish runs scenarios of meshctl chaos in their long form and writes what came of them into the table of
// docs/reliability.md, between its marks. Rows of scenarios that did not run stay as they are. `make chaos` calls it.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/meshctl/meshctl/internal/chaos"
)

const (
	begin = "<!-- begin: written by make chaos -->"
	end   = "<!-- end -->"
	head  = "| scenario | must show | measured | verdict | run |\n| --- | --- | --- | --- | --- |\n"
)

// output is what meshctl chaos run -o json prints.
type output struct {
	Version string
	Form    string
	Scale   float64
	Seed    uint64
	Begun   time.Time
	Results []chaos.Result
}

func main() {
	program := flag.String("program", "bin/meshctl", "the meshctl to be tested")
	doc := flag.String("out", "docs/reliability.md", "the page that has the table")
	flag.Parse()
	if err := publish(*program, *doc, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func publish(program, doc string, args []string) error {
	cmd := exec.Command(program, append([]string{"chaos", "run", "--long", "-o", "json"}, args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return err
	}
	var o output
	if err := json.Unmarshal(out, &o); err != nil || len(o.Results) == 0 {
		return fmt.Errorf("meshctl chaos run: %s", bytes.TrimSpace(out))
	}
	page, err := os.ReadFile(doc)
	if err != nil {
		return err
	}
	next, err := o.into(string(page))
	if err != nil {
		return fmt.Errorf("%s: %w", doc, err)
	}
	if err := os.WriteFile(doc, []byte(next), 0o644); err != nil {
		return err
	}
	var bad []string
	for _, r := range o.Results {
		fmt.Printf("%s %s: %s %s\n", r.Scenario, r.Verdict, r.Measured(), r.Reason)
		if r.Verdict != chaos.Held {
			bad = append(bad, fmt.Sprintf("%s %s %s\n  %s", r.Scenario, r.Verdict, r.Folder, strings.Join(r.Violations, "\n  ")))
		}
	}
	if len(bad) > 0 {
		return fmt.Errorf("not all held:\n%s", strings.Join(bad, "\n"))
	}
	return nil
}

// into puts the results into the table of a page.
func (o output) into(page string) (string, error) {
	before, rest, ok := strings.Cut(page, begin)
	table, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		return "", fmt.Errorf("there is no %s … %s", begin, end)
	}
	rows := map[string]string{}
	for line := range strings.Lines(table) {
		if name, _, found := strings.Cut(strings.TrimPrefix(line, "| `"), "`"); found && strings.HasPrefix(line, "| `") {
			rows[name] = line
		}
	}
	for _, r := range o.Results {
		rows[r.Scenario] = o.row(r)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s%s\n\n%s", before, begin, head)
	for _, s := range chaos.Scenarios() {
		b.WriteString(rows[s.Name])
	}
	fmt.Fprintf(&b, "\n%s%s", end, after)
	return b.String(), nil
}

func (o output) row(r chaos.Result) string {
	measured := r.Measured()
	if r.Reason != "" {
		measured = strings.TrimPrefix(measured+"; "+r.Reason, "; ")
	}
	verdict := string(r.Verdict)
	if r.Verdict != chaos.Held {
		verdict = "**" + verdict + "**"
	}
	command := fmt.Sprintf("`meshctl chaos run %s --%s --seed %d`", r.Scenario, o.Form, o.Seed)
	if o.Scale != 1 {
		command = strings.TrimSuffix(command, "`") + fmt.Sprintf(" --scale %g`", o.Scale)
	}
	took := time.Duration(r.Seconds * float64(time.Second)).Round(time.Second)
	run := fmt.Sprintf("%s, %s, %s, %d processors, %s", command, o.Begun.Format(time.DateOnly), took, runtime.NumCPU(), runtime.GOOS)
	cell := func(s string) string { return strings.ReplaceAll(s, "|", "\\|") }
	return fmt.Sprintf("| `%s` | %s | %s | %s | %s |\n", r.Scenario, cell(r.Shows), cell(measured), verdict, cell(run))
}
