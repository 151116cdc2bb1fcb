package schema

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/meshctl/meshctl/configs"
)

var update = flag.Bool("update", false, "write the .want files anew")

// parseFile parses a file of testdata as if testdata/… were the working directory.
func parseFile(t *testing.T, path string) (*Schema, error) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return Parse(filepath.Base(path), data)
}

func mustParse(t *testing.T, text string) *Schema {
	t.Helper()
	s, err := Parse("schema.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestProblems(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*[a-z]")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, path := range files {
		if filepath.Ext(path) == ".want" {
			continue
		}
		seen++
		t.Run(filepath.Base(path), func(t *testing.T) {
			_, err := parseFile(t, path)
			var problems Problems
			if !errors.As(err, &problems) || len(problems) == 0 {
				t.Fatalf("error is %v, want Problems", err)
			}
			got := problems.Error() + "\n"
			if *update {
				if err := os.WriteFile(path+".want", []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path + ".want")
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
			if strings.Contains(got, "hunter2") {
				t.Error("a problem shows a secret")
			}
		})
	}
	if seen < 20 {
		t.Fatalf("only %d files found", seen)
	}
}

func TestProblemPath(t *testing.T) {
	_, err := Parse("x.yaml", []byte("worker: {_commands: {_balanced: {a: {method: {exec: [1]}}}}}"))
	var problems Problems
	if !errors.As(err, &problems) {
		t.Fatal(err)
	}
	want := Problem{
		File: "x.yaml", Line: 1, Column: 54, Path: "worker._commands._balanced.a.method.exec",
		Message: "exec has 1 where text is expected", Instead: `"1"`,
	}
	if len(problems) != 1 || problems[0] != want {
		t.Errorf("got %+v\nwant %+v", problems, want)
	}
}

// A line ends at a line feed, as for editors and grep, whatever else YAML takes for
// the end of one.
func TestProblemLine(t *testing.T) {
	for _, c := range []struct {
		text string
		want position
	}{
		{"\r\r0", position{1, 3}},
		{"w:\r  x: 1\r", position{1, 6}},
		{"# \r\r\nw:\n  x: 1\n", position{3, 3}},
		{"# \u0085 \u2028 \u2029\r\nw:\r\n  x: 1\r\n", position{3, 3}},
		{"w:\r\r\r\r  [", position{1, 1}}, // the library tells the line, not the column
		{"w: {}\n# \xff", position{2, 3}},
		{"\xff\xfew\x00:\x00", position{1, 1}}, // UTF-16
	} {
		_, err := Parse("x.yaml", []byte(c.text))
		var problems Problems
		if !errors.As(err, &problems) {
			t.Fatalf("%q: error is %v, want Problems", c.text, err)
		}
		if got := (position{problems[0].Line, max(1, problems[0].Column)}); got != c.want {
			t.Errorf("%q: at %v, want %v: %v", c.text, got, c.want, err)
		}
	}
}

func TestFormatsAgree(t *testing.T) {
	var first *Schema
	for _, ext := range []string{".yaml", ".json", ".toml"} {
		data, err := os.ReadFile("testdata/good/mesh" + ext)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"mesh" + ext, "mesh" + strings.ToUpper(ext), "-", ""} {
			for _, prefix := range []string{"", "\ufeff"} {
				s, err := Parse(name, append([]byte(prefix), data...))
				if err != nil {
					t.Fatalf("%s as %q: %v", ext, name, err)
				}
				if first == nil {
					first = s
				}
				if !reflect.DeepEqual(s.Workers, first.Workers) {
					t.Errorf("%s as %q: got %s", ext, name, show(t, s))
				}
			}
		}
	}
	want := map[string]*Worker{
		"gateway": {Name: "gateway", Connect: Set{Workers: []string{"api", "worker"}}, Commands: map[string]*Command{}},
		"api": {
			Name: "api", Allow: Set{Workers: []string{"gateway"}}, Connect: Set{Any: true},
			Commands: map[string]*Command{
				"status": {Name: "status", Delivery: Balanced, Responds: true, Method: &Method{Builtin: "status"}},
				"plain":  {Name: "plain", Delivery: Balanced, Responds: true},
				"price": {Name: "price", Delivery: Balanced, Responds: true, Method: &Method{
					HTTP: "http://127.0.0.1:8080/price?x=1", Timeout: 500 * time.Millisecond, Concurrency: 8, MaxOutput: 64 << 10,
				}},
			},
		},
		"worker": {
			Name: "worker", Allow: Set{Any: true}, Connect: Set{Workers: []string{"api", "worker"}},
			Commands: map[string]*Command{
				"resize": {Name: "resize", Delivery: Balanced, Responds: true, Queued: true, Method: &Method{
					Exec: []string{"./resize", "--size", "10"}, Dir: "bin", Env: []string{"HOME", "LANG"},
					Timeout: 90 * time.Second, MaxOutput: 2 << 20,
				}},
				"info": {Name: "info", Delivery: Broadcast, Responds: true, Method: &Method{Stdio: []string{"node", "info.js"}}},
				"note": {Name: "note", Delivery: Broadcast, Queued: true},
			},
		},
	}
	if !reflect.DeepEqual(first.Workers, want) {
		t.Errorf("got:\n%s", show(t, first))
	}
}

func show(t *testing.T, s *Schema) []byte {
	t.Helper()
	text, err := s.YAML()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestStarter(t *testing.T) {
	s, err := Parse("schema.yaml", configs.StarterSchema)
	if err != nil {
		t.Fatal(err)
	}
	want := `worker:
  _allow: anyNode
  _connect: [worker]
  _commands:
    _balanced:
      echo: {responds: true, queued: false, method: {builtin: echo}}
      fail: {responds: true, queued: false, method: {builtin: fail}}
      sleep: {responds: true, queued: false, method: {builtin: sleep}}
      status: {responds: true, queued: false, method: {builtin: status}}
    _broadcast:
      info: {responds: true, queued: false, method: {builtin: status}}
      note: {responds: false, queued: true, method: {builtin: echo}}
`
	if got := string(show(t, s)); got != want {
		t.Errorf("got:\n%s", got)
	}
}

// What the starter teaches in comments has to be true as well.
func TestStarterExamples(t *testing.T) {
	text := string(configs.StarterSchema)
	head, tail, ok := strings.Cut(text, "      # upper:")
	if !ok {
		t.Fatal("no examples in the starter schema")
	}
	s := mustParse(t, head+"      upper:"+strings.ReplaceAll(tail, "      # ", "      "))
	for name, want := range map[string]*Method{
		"upper": {
			Exec: []string{"python3", "upper.py"}, Dir: ".", Env: []string{"HOME"},
			Timeout: 5 * time.Second, Concurrency: 4, MaxOutput: 1 << 20,
		},
		"lookup": {Stdio: []string{"node", "lookup.js"}, Dir: "."},
		"price":  {HTTP: "http://127.0.0.1:8080/price"},
	} {
		c, ok := s.Lookup("worker", name)
		if !ok || !reflect.DeepEqual(c.Method, want) {
			t.Errorf("%s: got %+v", name, c)
		}
	}
}

func TestYAMLQuotesNames(t *testing.T) {
	s := mustParse(t, `{null: {_allow: ["null", "true"], _commands: {_balanced: {yes: {exec: ["1", "~", "a\nb", "# c", ""]}}}}, "true": {}}`)
	again, err := Parse("again.yaml", show(t, s))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(s.Workers, again.Workers) {
		t.Errorf("got:\n%s", show(t, again))
	}
}

func TestLimits(t *testing.T) {
	many := func(n int, format string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, format, i)
		}
		return b.String()
	}
	for _, c := range []struct{ name, file, text, want string }{
		{"size", "x.yaml", strings.Repeat("#", MaxSize+1), "more than 1048576 bytes"},
		{"workers", "x.yaml", many(MaxWorkers+1, "w%d:\n"), "more than 1000 workers"},
		{"commands", "x.yaml", "w:\n _commands:\n  _balanced:\n" + many(MaxCommands+1, "   c%d:\n"), "more than 1000 commands"},
		{"nodes json", "x.json", `{"w": [` + strings.Repeat("1,", maxNodes) + `1]}`, "more than 100000 values"},
		{"nodes toml", "x.toml", `w = [` + strings.Repeat("1,", maxNodes) + `1]`, "more than 100000 values"},
		{"nodes yaml", "x.yaml", `w: [` + strings.Repeat("1,", maxNodes) + `1]`, "more than 100000 values"},
		{"depth json", "x.json", strings.Repeat(`{"a":`, maxDepth) + "1" + strings.Repeat("}", maxDepth), "32 levels"},
		{"depth toml", "x.toml", strings.Repeat("a.", maxDepth) + "a = 1", "32 levels"},
		{"depth yaml", "x.yaml", strings.Repeat("[", maxDepth+1) + strings.Repeat("]", maxDepth+1), "32 levels"},
		{"brackets json", "x.json", strings.Repeat("[", MaxSize), "not JSON"},
		{"brackets toml", "x.toml", "a=" + strings.Repeat("[", MaxSize-2), "not TOML"},
		{"brackets yaml", "x.yaml", strings.Repeat("[", MaxSize), "not YAML"},
		{"dots toml", "x.toml", "[" + strings.Repeat("a.", MaxSize/2-2) + "a]", "32 levels"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse(c.file, []byte(c.text))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %.300v, want %q", err, c.want)
			}
		})
	}
	if s := mustParse(t, many(MaxWorkers, "w%d:\n")); len(s.Workers) != MaxWorkers {
		t.Errorf("%d workers at the limit", len(s.Workers))
	}
}

// A file with ever so many mistakes gives a bounded report.
func TestManyProblems(t *testing.T) {
	text := "w: {_allow: [" + strings.Repeat("unknwon-worker-with-a-long-name,", 20_000) + "w]}"
	_, err := Parse("x.yaml", []byte(text))
	var problems Problems
	if !errors.As(err, &problems) || len(problems) != maxProblems {
		t.Fatalf("%d problems, want %d", len(problems), maxProblems)
	}
}

func FuzzParse(f *testing.F) {
	paths, err := filepath.Glob("testdata/*/*.*")
	if err != nil {
		f.Fatal(err)
	}
	exts := []string{".yaml", ".json", ".toml", ""}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		for i := range exts {
			f.Add(byte(i), data)
		}
	}
	f.Add(byte(0), configs.StarterSchema)
	f.Add(byte(0), []byte("\r\r0"))
	f.Add(byte(0), []byte("w:\u2028 \u0085[\u2029"))
	f.Fuzz(func(t *testing.T, format byte, data []byte) {
		ext := exts[int(format)%len(exts)]
		s, err := Parse("fuzz"+ext, data)
		if err != nil {
			var problems Problems
			if !errors.As(err, &problems) || len(problems) == 0 || len(problems) > maxProblems {
				t.Fatalf("error is %T with %d problems", err, len(problems))
			}
			for _, p := range problems {
				if p.Line < 0 || p.Column < 0 || p.Line > bytes.Count(data, []byte("\n"))+1 {
					t.Fatalf("problem at an impossible place: %+v", p)
				}
			}
			return
		}
		again, err := Parse("again.yaml", show(t, s))
		if err != nil {
			t.Fatalf("own YAML: %v", err)
		}
		if !reflect.DeepEqual(s.Workers, again.Workers) {
			t.Fatalf("own YAML reads otherwise:\n%s\n%s", show(t, s), show(t, again))
		}
	})
}
