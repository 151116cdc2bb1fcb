package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/meshctl/meshctl/internal/chaos"
)

// Ctrl-C ends the scenario that runs; what those before it showed, and the seed, are printed, and
// the folder of one that did not hold stays. It may have taken an hour.
func TestChaosInterrupted(t *testing.T) {
	for _, as := range []format{formatTable, formatJSON} {
		t.Run(string(as), func(t *testing.T) {
			dir, err := os.MkdirTemp("", "chaos") // a short path, for sockets
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(dir) })
			ctx, cancel := context.WithCancelCause(t.Context())
			var out bytes.Buffer
			app := testApp(t)
			app.Out = &out
			opts := &chaosOptions{app: app, as: &as, run: chaos.Options{Scale: 1, Seed: 7, Dir: dir, Scenarios: []chaos.Scenario{
				{Name: "first", Run: func(context.Context, *chaos.Lab) (report chaos.Report, _ error) {
					report.Must(false, "it does not hold")
					return report, nil
				}},
				{Name: "second", Run: func(ctx context.Context, lab *chaos.Lab) (chaos.Report, error) {
					cancel(errInterrupted)
					return chaos.Report{}, lab.Await("what never comes", time.Minute, func() bool { return false })
				}},
			}}}
			err = runChaos(ctx, opts)
			if err == nil || classify(err).Code != codeInterrupted {
				t.Errorf("it ended with %v", err)
			}
			if as == formatTable {
				if text := out.String(); !strings.Contains(text, "first     broken") || !strings.Contains(text, "seed 7") || strings.Contains(text, "second") {
					t.Errorf("printed:\n%s", text)
				}
				return
			}
			var told chaosOutput
			if err := json.Unmarshal(out.Bytes(), &told); err != nil {
				t.Fatalf("%v in %s", err, out.String())
			}
			if len(told.Results) != 1 || told.Seed != 7 || !told.Interrupted {
				t.Fatalf("printed %+v", told)
			}
			if _, err := os.Stat(told.Results[0].Folder); err != nil {
				t.Errorf("the folder that is named: %v", err)
			}
			if left, _ := os.ReadDir(dir); len(left) != 1 {
				t.Errorf("it left %v", left)
			}
		})
	}
}
