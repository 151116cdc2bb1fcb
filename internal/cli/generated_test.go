package cli

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

var update = flag.Bool("update", false, "write the generated files")

// TestGenerated fails when completions/ or the generated pages of docs/ differ from
// the commands; "make generate" writes them.
func TestGenerated(t *testing.T) {
	root := filepath.Join("..", "..")
	files := map[string]func(*bytes.Buffer) error{
		"completions/meshctl.bash": func(b *bytes.Buffer) error { return testRoot(t).GenBashCompletionV2(b, true) },
		"completions/_meshctl":     func(b *bytes.Buffer) error { return testRoot(t).GenZshCompletion(b) },
		"completions/meshctl.fish": func(b *bytes.Buffer) error { return testRoot(t).GenFishCompletion(b, true) },
		"completions/meshctl.ps1":  func(b *bytes.Buffer) error { return testRoot(t).GenPowerShellCompletionWithDesc(b) },
		"docs/cli.md": func(b *bytes.Buffer) error {
			b.WriteString("# Commands\n\n<!-- Generated from the commands' own help by \"make generate\". Do not edit. -->\n\n" +
				"What every command exits with: [exit-codes.md](exit-codes.md). What can be configured, and where:\n[configuration.md](configuration.md).\n")
			describe(b, testRoot(t))
			return nil
		},
		"docs/exit-codes.md": func(b *bytes.Buffer) error {
			b.WriteString("# Exit codes\n\n<!-- Generated from the table in internal/cli/exitcode.go by \"make generate\". Do not edit. -->\n\n" +
				"Scripts may depend on these: they do not change. With `-o json` failures are one JSON object on stdout, with one of the\ncodes below:\n\n" +
				"    {\"error\": {\"code\": \"no_variant\", \"message\": \"…\", \"hint\": \"…\"}}\n\n| exit code | codes of `-o json` | meaning |\n| --- | --- | --- |\n")
			for _, row := range exitCodes() {
				codes := ""
				if len(row.codes) > 0 {
					codes = "`" + joinCodes(row.codes, "`, `") + "`"
				}
				fmt.Fprintf(b, "| %d | %s | %s |\n", row.exit, codes, row.meaning)
			}
			return nil
		},
	}
	for name, generate := range files {
		var want bytes.Buffer
		if err := generate(&want); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(root, filepath.FromSlash(name))
		if *update {
			if err := os.WriteFile(path, want.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Error(err)
			continue
		}
		if !bytes.Equal(got, want.Bytes()) {
			t.Errorf("%s is not what the commands give; run make generate", name)
		}
	}
}

// describe writes a command and those below it as Markdown.
func describe(b *bytes.Buffer, cmd *cobra.Command) {
	if !cmd.Runnable() && !cmd.HasSubCommands() || cmd.Hidden || cmd.Name() == "help" {
		return
	}
	if cmd.HasParent() {
		fmt.Fprintf(b, "\n## %s\n\n    %s\n", cmd.CommandPath(), cmd.UseLine())
	}
	text := cmd.Long
	if text == "" {
		text = cmd.Short + "."
	}
	fmt.Fprintf(b, "\n```text\n%s\n```\n", strings.TrimSpace(text))
	if cmd.Example != "" {
		fmt.Fprintf(b, "\nExamples:\n\n```sh\n%s\n```\n", strings.TrimSpace(strings.ReplaceAll(cmd.Example, "\n  ", "\n")))
	}
	if rows := flagRows(cmd.NonInheritedFlags()); rows != "" {
		fmt.Fprintf(b, "\n| flag | default | meaning |\n| --- | --- | --- |\n%s", rows)
	}
	for _, child := range cmd.Commands() {
		describe(b, child)
	}
}

func flagRows(fs *pflag.FlagSet) string {
	var b strings.Builder
	fs.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		value, usage := pflag.UnquoteUsage(f)
		name := "--" + f.Name
		if f.Shorthand != "" {
			name = "-" + f.Shorthand + ", " + name
		}
		preset := ""
		if f.DefValue != "" && f.DefValue != "[]" {
			preset = "`" + f.DefValue + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", strings.TrimSpace(name+" "+value), preset, strings.ReplaceAll(usage, "|", "\\|"))
	})
	return b.String()
}

// testRoot is the command tree as the released binary has it.
func testRoot(t *testing.T) *cobra.Command {
	t.Helper()
	root := newCmdRoot(testApp(t))
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	return root
}
