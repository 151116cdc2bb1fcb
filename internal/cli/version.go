package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// Build says which build of meshctl this is.
type Build struct {
	Version string `json:"version"`
	Commit  string `json:"commit"`
	Date    string `json:"date"`
}

// filled takes what the release build has not set from what Go recorded.
func (b Build) filled() Build {
	info, ok := debug.ReadBuildInfo()
	if ok {
		if v := info.Main.Version; b.Version == "" && v != "" && v != "(devel)" {
			b.Version = v
		}
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision" && b.Commit == "":
				b.Commit = s.Value
			case s.Key == "vcs.time" && b.Date == "":
				b.Date = s.Value
			}
		}
	}
	if b.Version == "" {
		b.Version = "dev"
	}
	return b
}

type versionInfo struct {
	Build
	Go   string `json:"go"`
	OS   string `json:"os"`
	Arch string `json:"arch"`
}

func newCmdVersion(app *App) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArgs,
	}
	output := addFormat(cmd, "how to print it", formatTable, formatJSON, formatYAML, formatTable)
	cmd.RunE = func(*cobra.Command, []string) error { return runVersion(app, *output) }
	return cmd
}

func (a *App) version() versionInfo {
	return versionInfo{Build: a.Build, Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
}

func runVersion(app *App, output format) error {
	v := app.version()
	if output != formatTable {
		return writeValue(app.Out, v, output)
	}
	_, err := fmt.Fprintln(app.Out, v.line())
	return err
}

func (v versionInfo) line() string {
	line := "meshctl " + v.Version
	if v.Commit != "" {
		line += fmt.Sprintf(" (%.12s, %s)", v.Commit, v.Date)
	}
	return fmt.Sprintf("%s %s %s/%s", line, v.Go, v.OS, v.Arch)
}
