package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

// place is an empty working and user's folder with an environment of its own.
func place(t *testing.T, env map[string]string) (Environment, string) {
	t.Helper()
	work, home := t.TempDir(), t.TempDir()
	return Environment{
		LookupEnv:     func(name string) (string, bool) { v, ok := env[name]; return v, ok },
		UserConfigDir: func() (string, error) { return home, nil },
		WorkDir:       work,
	}, work
}

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func flags(t *testing.T, command string, args ...string) *pflag.FlagSet {
	t.Helper()
	fs := pflag.NewFlagSet(command, pflag.ContinueOnError)
	AddFlags(fs, command)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return fs
}

func TestPrecedence(t *testing.T) {
	env := map[string]string{}
	e, work := place(t, env)
	load := func(args ...string) *Config {
		t.Helper()
		c, err := Load(e, "", flags(t, CmdJoin, args...))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	check := func(c *Config, want time.Duration, source string) {
		t.Helper()
		if c.DrainTimeout != want {
			t.Errorf("drain-timeout is %s, want %s", c.DrainTimeout, want)
		}
		for _, v := range c.Values() {
			if v.Key == "drain-timeout" && (!strings.HasPrefix(v.Source, source) || v.Value != want.String()) {
				t.Errorf("drain-timeout is shown as %+v, want %s from %s", v, want, source)
			}
		}
	}
	check(load(), 10*time.Second, "default")
	file := write(t, filepath.Join(work, FileName), "drain-timeout: 11s\n")
	check(load(), 11*time.Second, file+":1")
	env["MESHCTL_DRAIN_TIMEOUT"] = "12s"
	check(load(), 12*time.Second, "environment MESHCTL_DRAIN_TIMEOUT")
	check(load("--drain-timeout", "13s"), 13*time.Second, "--drain-timeout")
	env["MESHCTL_DRAIN_TIMEOUT"] = "" // as if it was not set
	check(load(), 11*time.Second, file+":1")
}

func TestEveryKind(t *testing.T) {
	e, work := place(t, nil)
	path := write(t, filepath.Join(work, "sub", "c.yaml"), `
schema: s.yaml
keys: /abs/k.yaml
mesh-port: 4001
max-payload: 2MiB
variant: 7
timeout: 1m30s
log-format: json
`)
	c, err := Load(e, path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.Schema != filepath.Join(work, "sub", "s.yaml") || c.KeysFile != "/abs/k.yaml" || c.MeshPort != 4001 ||
		c.MaxPayload != 2<<20 || c.Variant != "7" || c.Timeout != 90*time.Second || c.LogFormat != "json" || c.File != path {
		t.Errorf("loaded %+v", c)
	}
}

func TestWhichFile(t *testing.T) {
	env := map[string]string{}
	e, work := place(t, env)
	variant := func(named string) string {
		t.Helper()
		c, err := Load(e, named, nil)
		if err != nil {
			t.Fatal(err)
		}
		return c.Variant
	}
	home, _ := e.UserConfigDir()
	write(t, filepath.Join(home, "meshctl", FileName), "variant: home")
	if v := variant(""); v != "home" {
		t.Errorf("got %q, want that of the user's folder", v)
	}
	write(t, filepath.Join(work, FileName), "variant: here")
	if v := variant(""); v != "here" {
		t.Errorf("got %q, want that of the working folder", v)
	}
	env["MESHCTL_CONFIG"] = write(t, filepath.Join(work, "e.yaml"), "variant: env")
	if v := variant(""); v != "env" {
		t.Errorf("got %q, want that of MESHCTL_CONFIG", v)
	}
	write(t, filepath.Join(work, "f.yaml"), "variant: flag")
	if v := variant("f.yaml"); v != "flag" {
		t.Errorf("got %q, want that of --config", v)
	}
	var missing *NotFoundError
	if _, err := Load(e, "none.yaml", nil); !errors.As(err, &missing) {
		t.Errorf("a missing --config gives %v", err)
	}
}

func TestEnvironmentOfJavaScriptDeployments(t *testing.T) {
	for _, tc := range []struct {
		name   string
		env    map[string]string
		args   []string
		master string
	}{
		{"host and port", map[string]string{"MASTER_HOST": "m.example", "MASTER_SOCKET_PORT": "4000"}, nil, "m.example:4000"},
		{"port alone", map[string]string{"MASTER_SOCKET_PORT": "4000"}, nil, "127.0.0.1:4000"},
		{"no fixed port", map[string]string{"MASTER_HOST": "m.example", "MASTER_SOCKET_PORT": "0"}, nil, "m.example"},
		{"own name first", map[string]string{"MASTER_HOST": "m.example", "MESHCTL_MASTER": "n.example:1"}, nil, "n.example:1"},
		{"flag with a port", map[string]string{"MASTER_SOCKET_PORT": "4000"}, []string{"--master", "f.example:5"}, "f.example:5"},
		{"flag without a port", map[string]string{"MASTER_SOCKET_PORT": "4000"}, []string{"--master", "f.example"}, "f.example:4000"},
		{"several", map[string]string{"MASTER_HOST": "m.example, n.example", "MASTER_SOCKET_PORT": "4000"}, nil, "m.example:4000,n.example:4000"},
		{"several, one with a port", map[string]string{"MASTER_SOCKET_PORT": "4000"}, []string{"--master", "f.example:5,::1"}, "f.example:5,[::1]:4000"},
		{"several with ports", map[string]string{"MASTER_SOCKET_PORT": "4000"}, []string{"--master", "f.example:5, g.example:6"}, "f.example:5, g.example:6"},
		{"IPv6", map[string]string{"MASTER_HOST": "fd00::1", "MASTER_SOCKET_PORT": "4000"}, nil, "[fd00::1]:4000"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e, _ := place(t, tc.env)
			c, err := Load(e, "", flags(t, CmdJoin, tc.args...))
			if err != nil {
				t.Fatal(err)
			}
			if c.Master != tc.master {
				t.Errorf("master is %q, want %q", c.Master, tc.master)
			}
		})
	}
	e, _ := place(t, map[string]string{"MY_POD_IP": "10.0.0.7", "LOCAL_SOCKET_PORT": "4001", "MASTER_SOCKET_PORT": "4000"})
	c, err := Load(e, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.Advertise != "10.0.0.7" || c.MeshPort != 4001 || c.Port != 4000 {
		t.Errorf("advertise %q, mesh port %d, port %d", c.Advertise, c.MeshPort, c.Port)
	}
}

func TestProblems(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"prot: 1", `c.yaml:1: unknown key "prot": did you mean "port"?`},
		{"meshPort: 1", `c.yaml:1: unknown key "meshPort": did you mean "mesh-port"?`},
		{"\nport: x", "c.yaml:2: port: is not a whole number"},
		{`port: "80"`, "c.yaml:1: port: is not a whole number (write it without quotes)"},
		{"port: 70000", "c.yaml:1: port: 70000 is not between 0 and 65535"},
		{"timeout: 3", "c.yaml:1: timeout: is not a duration"},
		{"timeout: 0s", "c.yaml:1: timeout: 0s is not between"},
		{"variant: true", "c.yaml:1: variant: is not a text: write it in quotes"},
		{"variant:", "c.yaml:1: variant: has no value"},
		{"variant: [a]", "c.yaml:1: variant: is a list"},
		{"variant: {a: 1}", "c.yaml:1: variant: has lines below it"},
		{"port: 1\nport: 2", `c.yaml:2: "port" was there before, in line 1`},
		{"- a", "c.yaml:1: is not a list of"},
		{"private-key: hidden", `c.yaml:1: "private-key" does not belong here`},
		{"a: [", "is not valid YAML"},
		{"port: 1\n---\nport: 2", "more than one YAML document"},
		{"port: &a 1\nmesh-port: *a", "c.yaml:2: mesh-port: is a YAML alias"},
		{"? [a]\n: 1", "c.yaml:1: a key has to be a word"},
	} {
		e, work := place(t, nil)
		write(t, filepath.Join(work, "c.yaml"), tc.text)
		_, err := Load(e, "c.yaml", nil)
		var ps Problems
		if !errors.As(err, &ps) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%q: %v, want %q", tc.text, err, tc.want)
		}
		if err != nil && strings.Contains(err.Error(), "hidden") {
			t.Errorf("%q: the error shows a secret: %v", tc.text, err)
		}
	}
	// All at once, the environment's too.
	e, work := place(t, map[string]string{"MESHCTL_PORT": "x"})
	write(t, filepath.Join(work, FileName), "a: 1\nb: 2\n")
	_, err := Load(e, "", nil)
	var ps Problems
	if !errors.As(err, &ps) || len(ps) != 3 {
		t.Errorf("got %v, want three problems", err)
	}
}

func TestFlagsRefuseBadValues(t *testing.T) {
	fs := pflag.NewFlagSet(CmdServeMaster, pflag.ContinueOnError)
	AddFlags(fs, CmdServeMaster)
	if err := fs.Parse([]string{"--port", "99999"}); err == nil {
		t.Error("--port 99999 was taken")
	}
	for _, secret := range []string{"public-key", "private-key"} {
		if fs.Lookup(secret) != nil {
			t.Errorf("--%s exists", secret)
		}
	}
}

func TestSecretsAreNotShown(t *testing.T) {
	e, _ := place(t, map[string]string{"MESHCTL_PRIVATE_KEY": "hidden", "MESHCTL_PUBLIC_KEY": "hidden"})
	c, err := Load(e, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range c.Values() {
		if strings.Contains(v.Value, "hidden") {
			t.Errorf("%+v shows a secret", v)
		}
		if v.Key == "private-key" && v.Value != redacted {
			t.Errorf("%+v does not say that it is set", v)
		}
	}
}

func TestSampleLoads(t *testing.T) {
	e, work := place(t, nil)
	sample := string(SampleFile(map[string]string{"schema": "schema.yaml"}))
	write(t, filepath.Join(work, FileName), sample)
	c, err := Load(e, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.Schema != filepath.Join(work, "schema.yaml") {
		t.Errorf("schema is %q", c.Schema)
	}
	// Its commented lines are valid as well.
	var all strings.Builder
	for line := range strings.Lines(sample) {
		if rest, ok := strings.CutPrefix(line, "#"); ok && !strings.HasPrefix(rest, " ") {
			line = rest
		}
		all.WriteString(line)
	}
	if _, ps := parseConfig("all", []byte(all.String())); len(ps) > 0 {
		t.Errorf("with every line: %v", ps)
	}
}

func FuzzConfig(f *testing.F) {
	for _, seed := range []string{"", "port: 1", "a: [", "variant: &a x\nmaster: *a", "schema: s\nkeys: k\n", "- 1", "\x00", "? {a: b}\n: 1",
		"timeout: 3s\nmax-payload: 1MiB", "%YAML 9.9\n---\na", "port: 1\n---\nport: 2", "{\"port\": 1}", "<<: *x", "!!binary x: y"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		values, problems := parseConfig("c.yaml", data)
		for _, g := range values {
			s, ok := Lookup(g.key)
			if !ok || s.Secret || s.Validate(g.text) != nil {
				t.Errorf("took %q: %q", g.key, g.text)
			}
		}
		for _, p := range problems {
			if !strings.HasPrefix(p.Where, "c.yaml:") || p.Message == "" {
				t.Errorf("problem without a place or message: %+v", p)
			}
		}
	})
}
