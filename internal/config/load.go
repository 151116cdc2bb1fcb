package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/meshctl/meshctl/internal/bounded"
	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/spf13/pflag"
	"github.com/spf13/viper"
)

// FileName is the configuration file that is looked for where none is named.
const FileName = "meshctl.yaml"

// appDir is the folder below the user's configuration folder.
const appDir = "meshctl"

// Environment is what surrounds the process, so that tests can be somewhere else.
type Environment struct {
	LookupEnv     func(name string) (string, bool)
	UserConfigDir func() (string, error)
	WorkDir       string // where relative paths start; "" is the process's own
}

// OSEnvironment is the process's own.
func OSEnvironment() Environment {
	return Environment{LookupEnv: os.LookupEnv, UserConfigDir: os.UserConfigDir}
}

// env gives the value of the first variable that is set and not empty. Empty ones
// are skipped because container files often set what they do not use to "".
func (e Environment) env(names ...string) (value, name string) {
	for _, name := range names {
		if v, ok := e.LookupEnv(name); ok && v != "" {
			return v, name
		}
	}
	return "", ""
}

func (e Environment) path(p string) string {
	if e.WorkDir == "" || filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(e.WorkDir, p)
}

// Config is what one command runs with. Fields that the command has no setting for
// hold what the file, the environment or the default says all the same.
type Config struct {
	File string `mapstructure:"-"` // configuration file in use, or ""

	Schema        string `mapstructure:"schema"`
	KeysFile      string `mapstructure:"keys"`
	Master        string `mapstructure:"master"` // one or several, with the port of MASTER_SOCKET_PORT where it had none
	Host          string `mapstructure:"host"`
	Port          int    `mapstructure:"port"`
	DiscoveryPort int    `mapstructure:"discovery-port"`
	Link          string `mapstructure:"link"` // a link.Mode
	TLSCert       string `mapstructure:"tls-cert"`
	TLSKey        string `mapstructure:"tls-key"`
	TLSCA         string `mapstructure:"tls-ca"`
	TLSClients    string `mapstructure:"tls-clients"`
	RequireNative bool   `mapstructure:"require-native"`
	Heartbeat     string `mapstructure:"heartbeat"` // see Silence
	TokenFile     string `mapstructure:"token"`
	TokenIssuer   string `mapstructure:"token-issuer"`
	TokenDenyList string `mapstructure:"token-denylist"`
	HTTP          string `mapstructure:"http"`
	DumpAddress   string `mapstructure:"dump-address"`

	Worker          string        `mapstructure:"worker"`
	Variant         string        `mapstructure:"variant"`
	MeshPort        int           `mapstructure:"mesh-port"`
	Advertise       string        `mapstructure:"advertise"`
	DrainTimeout    time.Duration `mapstructure:"drain-timeout"`
	QueueDepth      int           `mapstructure:"queue-depth"`
	Queue           string        `mapstructure:"queue"`
	DataDir         string        `mapstructure:"data-dir"`
	Redis           string        `mapstructure:"redis"`
	Mesh            string        `mapstructure:"mesh"`
	QueueLease      time.Duration `mapstructure:"queue-lease"`
	MaxInFlight     int           `mapstructure:"max-in-flight"`
	InspectPayloads bool          `mapstructure:"inspect-payloads"`
	OnConnected     string        `mapstructure:"on-connected"`
	OnConnection    string        `mapstructure:"on-connection"`
	OnDisconnection string        `mapstructure:"on-disconnection"`

	Timeout    time.Duration `mapstructure:"timeout"`
	As         string        `mapstructure:"as"`
	MaxPayload Bytes         `mapstructure:"max-payload"`
	LogLevel   string        `mapstructure:"log-level"`
	LogFormat  string        `mapstructure:"log-format"`

	env    Environment
	values []Value
}

// Value is one setting as it is in effect.
type Value struct {
	Key    string `json:"key" yaml:"key"`
	Value  string `json:"value" yaml:"value"` // "(set)" for a secret
	Source string `json:"source" yaml:"source"`
}

// Values lists every setting in effect and where it came from, in table order.
func (c *Config) Values() []Value { return slices.Clone(c.values) }

// Silence is how long a peer may be silent, as heartbeat says; 0: the default.
func (c *Config) Silence() time.Duration {
	d, _ := link.ParseHeartbeat(c.Heartbeat) // it was checked when it was read
	return d
}

// IsDefault tells whether nobody has set key.
func (c *Config) IsDefault(key string) bool {
	for _, v := range c.values {
		if v.Key == key {
			return v.Source == sourceDefault
		}
	}
	return true
}

const (
	sourceDefault = "default"
	redacted      = "(set)"
)

// Load finds out the configuration. file is the one named by --config, or ""; flags
// are the parsed ones of the command, or nil. The error is Problems, a
// *NotFoundError, or that of reading the file.
func Load(env Environment, file string, flags *pflag.FlagSet) (*Config, error) {
	path, err := findFile(env, file)
	if err != nil {
		return nil, err
	}
	v := viper.New()
	sources := map[string]string{}
	var problems Problems
	for _, s := range Settings() {
		if !s.Secret {
			v.SetDefault(s.Key, s.Default)
		}
	}
	if path != "" {
		data, err := bounded.ReadFile(path, maxFile)
		if err != nil {
			return nil, fmt.Errorf("read configuration: %w", err)
		}
		values, ps := parseConfig(path, data)
		problems = append(problems, ps...)
		if err := merge(v, values, path, sources); err != nil {
			return nil, err
		}
	}
	values, ps := fromEnvironment(env)
	problems = append(problems, ps...)
	if err := merge(v, values, "", sources); err != nil {
		return nil, err
	}
	for _, s := range Settings() {
		f := lookupFlag(flags, s)
		if f == nil {
			continue
		}
		if err := v.BindPFlag(s.Key, f); err != nil {
			return nil, fmt.Errorf("bind --%s: %w", s.Key, err)
		}
		if f.Changed {
			sources[s.Key] = "--" + s.Key
		}
	}
	if len(problems) > 0 {
		return nil, problems
	}
	c := &Config{env: env, File: path}
	if err := v.Unmarshal(c, viper.DecodeHook(decodeText)); err != nil {
		return nil, fmt.Errorf("decode configuration: %w", err)
	}
	for _, s := range Settings() {
		c.values = append(c.values, effective(v, s, sources, env))
	}
	c.joinMasterPort()
	return c, nil
}

func lookupFlag(flags *pflag.FlagSet, s Setting) *pflag.Flag {
	if flags == nil || s.Secret || s.NoFlag {
		return nil
	}
	f := flags.Lookup(s.Key)
	if f == nil {
		return nil
	}
	// A command may have a flag of the same name that is not the setting's.
	if _, ours := f.Value.(*flagValue); !ours {
		return nil
	}
	return f
}

// given is the text given for a key and who gave it.
type given struct{ key, text, source string }

func merge(v *viper.Viper, values []given, file string, sources map[string]string) error {
	layer := make(map[string]any, len(values))
	for _, g := range values {
		text := g.text
		s, _ := Lookup(g.key)
		if s.Kind == KindPath && file != "" && text != "" && !filepath.IsAbs(text) {
			text = filepath.Join(filepath.Dir(file), text)
		}
		layer[g.key] = text
		sources[g.key] = g.source
	}
	if err := v.MergeConfigMap(layer); err != nil {
		return fmt.Errorf("merge configuration: %w", err)
	}
	return nil
}

func effective(v *viper.Viper, s Setting, sources map[string]string, env Environment) Value {
	if s.Secret {
		if _, name := env.env(s.EnvName()); name != "" {
			return Value{s.Key, redacted, "environment " + name}
		}
		return Value{s.Key, "", sourceDefault}
	}
	source := sources[s.Key]
	if source == "" {
		source = sourceDefault
	}
	text := v.GetString(s.Key)
	if s.Shown != nil && text != "" {
		text = s.Shown(text)
	}
	return Value{s.Key, text, source}
}

// joinMasterPort gives the masters the port of MASTER_SOCKET_PORT where they have none,
// as nodes of the JavaScript library take the two.
func (c *Config) joinMasterPort() {
	entries, err := node.SplitMasters(c.Master)
	text, name := c.env.env("MASTER_SOCKET_PORT")
	if err != nil || name == "" {
		return
	}
	// "0" is how a deployment says that its master has no fixed port.
	if n, err := strconv.Atoi(text); err != nil || n == 0 {
		return
	}
	joined := false
	for i, e := range entries {
		if host, port, err := node.SplitMaster(e); err == nil && port == 0 {
			entries[i], joined = net.JoinHostPort(host, text), true
		}
	}
	if !joined {
		return
	}
	c.Master = strings.Join(entries, ",")
	for i := range c.values {
		if v := &c.values[i]; v.Key == "master" {
			v.Value = c.Master
			v.Source += " and environment " + name
		}
	}
}

// findFile gives the configuration file to read, or "" where there is none.
func findFile(env Environment, named string) (string, error) {
	asked := named
	what := "configuration file"
	if asked == "" {
		var name string
		if asked, name = env.env("MESHCTL_CONFIG"); name != "" {
			what += " of " + name
		}
	}
	if asked != "" {
		asked = env.path(asked)
		if _, err := os.Stat(asked); errors.Is(err, fs.ErrNotExist) {
			return "", &NotFoundError{What: what, Path: asked, Hint: "meshctl init writes a sample"}
		}
		return asked, nil
	}
	candidates := []string{env.path(FileName)}
	// Without a home there is no such folder, and no file in it either.
	if dir, err := env.UserConfigDir(); err == nil {
		candidates = append(candidates, filepath.Join(dir, appDir, FileName))
	}
	for _, c := range candidates {
		if st, err := os.Stat(c); err == nil && st.Mode().IsRegular() {
			return c, nil
		}
	}
	return "", nil
}

// parseConfig reads a configuration file: what it gives, and what is wrong in it.
func parseConfig(name string, data []byte) ([]given, Problems) {
	fields, problems := parseFlat(name, data)
	table := map[string]Setting{}
	for _, s := range Settings() {
		table[s.Key] = s
	}
	var values []given
	for _, f := range fields {
		s, ok := table[f.key]
		switch {
		case !ok:
			problems = append(problems, Problem{f.where, unknownKey(f.key)})
			continue
		case s.Secret:
			problems = append(problems, Problem{f.where, fmt.Sprintf("%q does not belong here: put it into a keys file, and name that with \"keys: FILE\"", f.key)})
			continue
		}
		text, tag, err := f.scalar()
		if err == nil {
			err = checkType(s, tag)
		}
		if err == nil {
			err = s.Validate(text)
		}
		if err != nil {
			problems = append(problems, Problem{f.where, f.key + ": " + err.Error()})
			continue
		}
		values = append(values, given{f.key, text, f.where})
	}
	return values, problems
}

func checkType(s Setting, tag string) error {
	switch {
	case s.Kind == KindBool && tag == "!!bool":
	case s.Kind == KindBool:
		return errors.New("is neither true nor false (write it without quotes)")
	case tag == "!!str" && s.Kind != KindInt:
	case tag == "!!int" && (s.Kind == KindInt || s.Kind == KindBytes):
	case tag == "!!int" && s.Kind == KindString: // variant: 7
	case s.Kind == KindInt:
		return errors.New("is not a whole number (write it without quotes)")
	case s.Kind == KindDuration:
		return errors.New("is not a duration such as 500ms, 3s or 1m30s")
	case s.Kind == KindBytes:
		return errors.New("is not a size such as 65536, 512KiB or 4MiB")
	default:
		return errors.New("is not a text: write it in quotes")
	}
	return nil
}

func unknownKey(key string) string {
	var keys []string
	for _, s := range Settings() {
		if !s.Secret {
			keys = append(keys, s.Key)
		}
	}
	text := fmt.Sprintf("unknown key %q", clip(key))
	// mesh_port and meshPort, as others write names, are mesh-port.
	if near := Nearest(strings.ReplaceAll(strings.ToLower(key), "_", "-"), keys); near != "" {
		return text + fmt.Sprintf(": did you mean %q?", near)
	}
	return text + ": docs/configuration.md has them all"
}

func fromEnvironment(env Environment) ([]given, Problems) {
	var values []given
	var problems Problems
	for _, s := range Settings() {
		text, name := env.env(s.EnvNames()...)
		if name == "" || s.Secret {
			continue
		}
		if err := s.Validate(text); err != nil {
			problems = append(problems, Problem{name, err.Error()})
			continue
		}
		values = append(values, given{s.Key, text, "environment " + name})
	}
	return values, problems
}
