package config

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
)

func mustLoad(t *testing.T, e Environment, file string) *Config {
	t.Helper()
	c, err := Load(e, file, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestKeysAreMadeOnce(t *testing.T) {
	e, _ := place(t, nil)
	c := mustLoad(t, e, "")
	if _, err := c.FindKeys(); err == nil {
		t.Fatal("there are keys already")
	}
	const many = 16
	rings := make([]KeyRing, many)
	errs := make([]error, many)
	var wg sync.WaitGroup
	for i := range many {
		wg.Go(func() { rings[i], errs[i] = c.LoadKeys() })
	}
	wg.Wait()
	created := 0
	for i, r := range rings {
		if errs[i] != nil {
			t.Fatal(errs[i])
		}
		if r.Keys != rings[0].Keys {
			t.Error("two processes have different keys")
		}
		if r.Created {
			created++
		}
	}
	if created != 1 {
		t.Errorf("%d say that they made the keys", created)
	}
	home, _ := e.UserConfigDir()
	dir := filepath.Join(home, "meshctl")
	if runtime.GOOS != "windows" {
		for path, want := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, KeysFileName): 0o600} {
			st, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if st.Mode().Perm() != want {
				t.Errorf("%s has mode %o, want %o", path, st.Mode().Perm(), want)
			}
		}
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("temporary files are left: %v, %v", left, err)
	}
}

func TestWhichKeys(t *testing.T) {
	env := map[string]string{}
	e, work := place(t, env)
	const file = "public: \"%\"\nprivate: \"%\"\n"
	keysFile := func(path, name string) {
		t.Helper()
		write(t, path, strings.ReplaceAll(file, "%", name+"-0123456789"))
	}
	public := func() string {
		t.Helper()
		ring, err := mustLoad(t, e, "").FindKeys()
		if err != nil {
			t.Fatal(err)
		}
		name, _, _ := strings.Cut(ring.Keys.Public, "-")
		return name
	}
	home, _ := e.UserConfigDir()
	keysFile(filepath.Join(home, "meshctl", KeysFileName), "home")
	keysFile(filepath.Join(work, KeysFileName), "beside")
	if got := public(); got != "home" {
		t.Errorf("got %q: keys beside no configuration file are not asked for", got)
	}
	write(t, filepath.Join(work, FileName), "")
	if got := public(); got != "beside" {
		t.Errorf("got %q, want those beside the configuration file", got)
	}
	keysFile(filepath.Join(work, "named.yaml"), "named")
	env["MESHCTL_KEYS"] = "named.yaml"
	if got := public(); got != "named" {
		t.Errorf("got %q, want those of MESHCTL_KEYS", got)
	}
	env["MESHCTL_PUBLIC_KEY"] = "env-0123456789"
	if _, err := mustLoad(t, e, "").FindKeys(); err == nil {
		t.Error("one key alone was taken")
	}
	env["MESHCTL_PRIVATE_KEY"] = "env-0123456789"
	if got := public(); got != "env" {
		t.Errorf("got %q, want those of the environment", got)
	}
	delete(env, "MESHCTL_PUBLIC_KEY")
	delete(env, "MESHCTL_PRIVATE_KEY")
	env["MESHCTL_KEYS"] = "none.yaml"
	var missing *NotFoundError
	if _, err := mustLoad(t, e, "").LoadKeys(); !errors.As(err, &missing) {
		t.Errorf("a missing keys file that was named gives %v", err)
	}
}

func TestKeysFileOthersCanRead(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no mode bits")
	}
	path := filepath.Join(t.TempDir(), "my keys.yaml")
	if _, err := CreateKeysFile(path); err != nil {
		t.Fatal(err)
	}
	ring, err := ReadKeysFile(path)
	if err != nil || ring.Warning != "" {
		t.Fatalf("warning %q, error %v", ring.Warning, err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	ring, err = ReadKeysFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(ring.Warning, `chmod 600 "`+path+`"`) {
		t.Errorf("the warning is %q", ring.Warning)
	}
}

func TestMalformedKeys(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"", `k.yaml:1: a keys file has two lines`},
		{"public: hidden-0123456789", `k.yaml:1: a keys file has two lines`},
		{"public: hidden-0123456789\nprivate:", "k.yaml:2: private: has no value"},
		{"public: hidden-0123456789\nprivate: 12345", "k.yaml:2: private: is not a text: write it in quotes"},
		{"public: hidden-0123456789\nprivte: hidden", `k.yaml:2: unknown key "privte"`},
		{"public: *hidden", "k.yaml:1: is not valid YAML"},
		{"private: \"hidden\\q\"", "k.yaml:1: is not valid YAML"},
		{"hidden", "k.yaml:1: is not a list"},
		{"public: hidden-1\nprivate: hidden-2\naccepted: hidden", "k.yaml:3: accepted: is not a list of keys"},
		{"public: hidden-1\nprivate: hidden-2\naccepted:\n - hidden", "k.yaml:4: is not a pair"},
		{"public: hidden-1\nprivate: hidden-2\naccepted:\n - public: hidden-3", "k.yaml:4: a key has two lines"},
		{"public: hidden-1\nprivate: hidden-2\naccepted:\n - public: hidden-3\n   prvate: hidden", `k.yaml:5: unknown key "prvate"`},
		{"public: hidden-1\nprivate: hidden-2\naccepted:\n - {public: hidden-3, private: hidden-2}", "k.yaml:4: this private key was there before"},
		{"public: hidden\nprivate: hidden-2\naccepted: [{public: hidden, private: hidden-3},{public: hidden, private: hidden-4},{public: hidden, private: hidden-5},{public: hidden, private: hidden-6}]", "k.yaml:3: more than 4 keys"},
		{"public: hidden-1\nprivate: \"hidden\\n2\"", "k.yaml:1: private key has a control character"},
		{"public: hidden-1\npublic: hidden-2", "k.yaml:2: \"public\" was there before"},
	} {
		_, err := parseKeys("k.yaml", []byte(tc.text))
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%q: %v, want %q", tc.text, err, tc.want)
		}
		if err != nil && strings.Contains(err.Error(), "hidden") {
			t.Errorf("%q: the error shows a key: %v", tc.text, err)
		}
	}
}

func FuzzKeysFile(f *testing.F) {
	for _, seed := range []string{"", "public: a\nprivate: b", `{"public":"a","private":"b"}`, "public: *a", "public: |\n  x\nprivate: >\n  y", "public: \"\\q\"", "- a", "public: a\nprivate: b\naccepted:\n  - public: c\n    private: d\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := parseKeys("k.yaml", data)
		if err != nil {
			if keys != nil {
				t.Error("keys beside an error")
			}
			return
		}
		again, err := keysText(keys)
		if err != nil {
			t.Fatal(err)
		}
		same, err := parseKeys("k.yaml", again)
		if err != nil || !slices.Equal(same, keys) {
			t.Errorf("what was read cannot be written and read again: %v", err)
		}
		for _, k := range keys {
			if err := k.Validate(); err != nil {
				t.Errorf("took invalid keys: %v", err)
			}
		}
	})
}
