package config

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/meshctl/meshctl/internal/mesh/link"
	"github.com/meshctl/meshctl/internal/mesh/node"
	"github.com/meshctl/meshctl/internal/mesh/schema"
	"github.com/meshctl/meshctl/internal/mesh/wire"
)

// Kind is what a setting's text has to look like.
type Kind string

// The kinds.
const (
	KindString   Kind = "string"
	KindPath     Kind = "path" // relative ones of a file start at that file's folder
	KindInt      Kind = "int"
	KindDuration Kind = "duration" // as time.ParseDuration reads it: 500ms, 3s, 1m30s
	KindBytes    Kind = "bytes"    // 65536, 64KiB, 1MiB
	KindBool     Kind = "bool"     // true or false; the flag alone means true
)

// Names of the commands that have settings, as they are typed.
const (
	CmdServeMaster = "serve-master"
	CmdJoin        = "join"
	CmdCall        = "call"
	CmdBench       = "bench"
	CmdList        = "ls"
	CmdExplain     = "explain"
	CmdSchemaShow  = "schema show"
	CmdKeysShow    = "keys show"
	CmdKeysNew     = "keys new"
	CmdKeys        = "keys" // list, add, use and remove
	CmdConfigShow  = "config show"
	CmdTokenShow   = "token show"
	CmdQueue       = "queue" // and its subcommands
	CmdWatch       = "watch"
	CmdEvents      = "events"
	CmdTop         = "top"
)

// Setting is one thing that can be configured.
type Setting struct {
	// Key is its name in the configuration file, that of its flag, and behind
	// MESHCTL_ in capitals with "_" that of its environment variable.
	Key     string
	Short   string // one-letter flag
	Kind    Kind
	Default string
	// OwnEnv replaces that name of the environment variable.
	OwnEnv string
	// Env are further environment variables, those of existing JavaScript
	// deployments. MESHCTL_… goes before them.
	Env      []string
	Commands []string // the commands that have it
	Usage    string   // one line
	Example  string   // in the sample configuration file, where the default says too little
	Secret   bool     // environment only: neither a flag nor a line of the configuration file
	// Shown is the text without what nobody may see, where config show has it; nil: the text.
	Shown    func(text string) string
	NoFlag   bool // an argument of its command instead of a flag
	Choices  []string
	Offers   []string // what shells complete, of a setting that takes other texts as well
	Min, Max int64    // of ints, bytes and durations (nanoseconds); unchecked when both are 0
	// Check refuses further texts. It is not asked about the empty text.
	Check func(text string) error
}

// EnvName is the setting's own environment variable.
func (s Setting) EnvName() string {
	if s.OwnEnv != "" {
		return s.OwnEnv
	}
	return "MESHCTL_" + strings.ToUpper(strings.ReplaceAll(s.Key, "-", "_"))
}

// EnvNames are all its environment variables; the first that is set and not empty counts.
func (s Setting) EnvNames() []string { return append([]string{s.EnvName()}, s.Env...) }

// Has tells whether a command has the setting.
func (s Setting) Has(command string) bool { return slices.Contains(s.Commands, command) }

// Validate says what is wrong with text as a value of the setting, if anything.
// The error never quotes the value of a secret.
func (s Setting) Validate(text string) error {
	if text == "" && (s.Kind == KindString || s.Kind == KindPath) {
		return nil
	}
	switch s.Kind {
	case KindInt:
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return fmt.Errorf("%q is not a whole number", text)
		}
		if s.outside(n) {
			return fmt.Errorf("%d is not between %d and %d", n, s.Min, s.Max)
		}
	case KindDuration:
		d, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("%q is not a duration such as 500ms, 3s or 1m30s", text)
		}
		if s.outside(int64(d)) {
			return fmt.Errorf("%s is not between %s and %s", d, time.Duration(s.Min), time.Duration(s.Max))
		}
	case KindBool:
		if text != "true" && text != "false" {
			return fmt.Errorf("%q is neither true nor false", text)
		}
	case KindBytes:
		n, err := ParseBytes(text)
		if err != nil {
			return err
		}
		if s.outside(int64(n)) {
			return fmt.Errorf("%s is not between %s and %s", n, Bytes(s.Min), Bytes(s.Max))
		}
	}
	if len(s.Choices) > 0 && !slices.Contains(s.Choices, text) {
		return fmt.Errorf("%q is none of %s", text, strings.Join(s.Choices, ", "))
	}
	if s.Check != nil {
		return s.Check(text)
	}
	return nil
}

func (s Setting) outside(n int64) bool {
	return (s.Min != 0 || s.Max != 0) && (n < s.Min || n > s.Max)
}

// Lookup finds a setting by its key.
func Lookup(key string) (Setting, bool) {
	for _, s := range Settings() {
		if s.Key == key {
			return s, true
		}
	}
	return Setting{}, false
}

// Settings is the table of everything that can be configured, in the order of the
// documentation. The caller owns it.
func Settings() []Setting {
	dial := []string{CmdJoin, CmdCall, CmdBench, CmdList, CmdExplain, CmdSchemaShow, CmdQueue, CmdWatch, CmdEvents, CmdTop, CmdKeys}
	servers := []string{CmdServeMaster, CmdJoin}
	all := append([]string{CmdServeMaster, CmdKeysShow, CmdKeysNew, CmdConfigShow}, dial...)
	const maxPort = 65535
	const maxCount = 1 << 20
	return []Setting{
		{Key: "schema", Kind: KindPath, Commands: append([]string{CmdServeMaster}, dial...), Example: "schema.yaml",
			Usage: "schema `file` (YAML, JSON or TOML); without it the starter schema, or the master's"},
		{Key: "keys", Kind: KindPath, Commands: all, Example: "keys.yaml",
			Usage: "keys `file`, see meshctl keys; default: keys.yaml beside the configuration file, then meshctl/keys.yaml in the user's configuration folder"},
		{Key: "public-key", Kind: KindString, Secret: true, Commands: all,
			Usage: "public key, instead of a keys file"},
		{Key: "private-key", Kind: KindString, Secret: true, Commands: all,
			Usage: "private key, instead of a keys file"},

		{Key: "master", Kind: KindString, Default: "127.0.0.1", Env: []string{"MASTER_HOST"}, Commands: dial, Check: checkMaster, Example: "m1.example.com:4000,m2.example.com:4000",
			Usage: "`host[:port]` of the master, or several with commas between; one is used at a time; without a port discovery is asked (or MASTER_SOCKET_PORT is taken)"},
		{Key: "host", Kind: KindString, Commands: servers, Check: checkHost,
			Usage: "`address` to listen on; empty is every interface"},
		{Key: "port", Short: "p", Kind: KindInt, Default: "0", Max: maxPort, Env: []string{"MASTER_SOCKET_PORT"}, Commands: []string{CmdServeMaster},
			Usage: "`port` of the master; 0 takes a free one, which nodes find by discovery"},
		{Key: "discovery-port", Kind: KindInt, Default: strconv.Itoa(node.DefaultDiscoveryPort), Max: maxPort, Commands: append([]string{CmdServeMaster}, dial...),
			Usage: "`port` where the master answers nodes that know none; 0 turns that off"},
		{Key: "link", Kind: KindString, Default: string(link.Auto), Choices: []string{string(link.Auto), string(link.SocketIO)},
			Commands: append([]string{CmdServeMaster}, dial...),
			Usage:    "`kind` of link to meshctl peers: auto (the native link), or socketio where a proxy lets only that through"},
		{Key: "heartbeat", Kind: KindString, Default: "lan", Check: checkHeartbeat, Offers: []string{"lan", "wan"}, Commands: append([]string{CmdServeMaster}, dial...), Example: "wan",
			Usage: "`time` that a peer may be silent before it is lost: lan (3s), wan (10s) or a duration; JavaScript peers have twice as long"},
		{Key: "require-native", Kind: KindBool, Default: "false", Commands: append([]string{CmdServeMaster}, dial...),
			Usage: "refuse JavaScript peers and everything else that is not a native link"},
		{Key: "token", Kind: KindPath, OwnEnv: "MESHCTL_TOKEN_FILE", Commands: append([]string{CmdTokenShow}, dial...), Example: "worker.token",
			Usage: "`file` with the token that says who may be which worker; read again when it is renewed"},
		{Key: "token-issuer", Kind: KindPath, Commands: append([]string{CmdServeMaster, CmdTokenShow}, dial...), Example: "issuer.pub",
			Usage: "`file` with the public key of the tokens' issuer (meshctl token keygen)"},
		{Key: "token-denylist", Kind: KindPath, Commands: []string{CmdServeMaster}, Example: "denylist.txt",
			Usage: "`file` of who is revoked: a token's id, WORKER or WORKER/VARIANT per line; read again when it changes"},
		{Key: "tls-cert", Kind: KindPath, Commands: append([]string{CmdServeMaster}, dial...), Example: "node.pem",
			Usage: "`file` (PEM) with the certificate to speak TLS with; master and nodes need one where the mesh speaks TLS"},
		{Key: "tls-key", Kind: KindPath, Commands: append([]string{CmdServeMaster}, dial...), Example: "node-key.pem",
			Usage: "`file` (PEM) with the private key of tls-cert"},
		{Key: "tls-ca", Kind: KindPath, Commands: append([]string{CmdServeMaster}, dial...), Example: "ca.pem",
			Usage: "`file` (PEM) with the CA that signs the certificates of the mesh; default: the system's CAs for those dialled, and none asked of those that dial"},
		{Key: "tls-clients", Kind: KindString, Default: "require", Choices: []string{"require", "optional"}, Commands: servers,
			Usage: "`rule` for peers that dial in, with tls-ca: require a certificate, or optional where JavaScript peers have none"},
		{Key: "http", Kind: KindString, Commands: servers, Check: checkListen, Example: "127.0.0.1:9090",
			Usage: "`address` ([host]:port) to serve /healthz, /readyz and /metrics on; empty serves none"},
		{Key: "dump-address", Kind: KindPath, Commands: servers,
			Usage: "`file` to write HOST:PORT to, once it listens there"},

		{Key: "worker", Kind: KindString, Default: "worker", NoFlag: true, Commands: []string{CmdJoin},
			Usage: "worker that join is when its argument is missing"},
		{Key: "variant", Kind: KindString, Commands: []string{CmdJoin}, Check: wire.ValidVariant,
			Usage: "`name` of this instance of the worker; default: the host name and six random characters"},
		{Key: "mesh-port", Kind: KindInt, Default: "0", Max: maxPort, Env: []string{"LOCAL_SOCKET_PORT"}, Commands: []string{CmdJoin},
			Usage: "`port` that other nodes reach this one on; 0 takes a free one"},
		{Key: "advertise", Kind: KindString, Env: []string{"MY_POD_IP"}, Commands: []string{CmdServeMaster, CmdJoin}, Check: checkHost, Example: "10.0.0.7",
			Usage: "`host` that other nodes reach this one by, or other masters this one; default: the address that the master sees, or Redis"},
		{Key: "drain-timeout", Kind: KindDuration, Default: "10s", Min: 1, Max: int64(time.Hour), Commands: []string{CmdJoin},
			Usage: "`time` that requests under way have to finish at the end"},
		{Key: "queue-depth", Kind: KindInt, Default: "1000", Min: 1, Max: maxCount, Commands: []string{CmdJoin},
			Usage: "`number` of queued requests that may wait, per command whose schema has no max_depth"},
		{Key: "queue", Kind: KindString, Default: node.QueueEmbedded, Choices: []string{node.QueueEmbedded, node.QueueMemory}, Commands: []string{CmdJoin},
			Usage: "`store` of queued requests: embedded (a file in data-dir), or memory, which loses them when the node ends; not with redis, where they are then"},
		{Key: "redis", Kind: KindString, Commands: []string{CmdServeMaster, CmdJoin, CmdCall}, Check: checkRedis, Shown: withoutPassword, Example: "redis://redis.example.com:6379/0",
			Usage: "`URL` of a Redis (6.2 or later), as redis, rediss or unix: masters share who is there in it, nodes have their queues in it, and call puts jobs of queued commands there"},
		{Key: "mesh", Kind: KindString, Default: "mesh", Commands: []string{CmdServeMaster, CmdJoin, CmdCall}, Check: checkMeshName,
			Usage: "`name` of the mesh in Redis; meshes with different names share nothing"},
		{Key: "queue-lease", Kind: KindDuration, Default: "15s", Min: int64(time.Second), Max: int64(time.Hour), Commands: []string{CmdJoin},
			Usage: "`time` after which what a lost node was working on is taken over, with redis; work that takes longer is safe where all variants have the same"},
		{Key: "data-dir", Kind: KindPath, Commands: []string{CmdJoin}, Example: "/var/lib/meshctl/worker-1",
			Usage: "`folder` of this node alone, for its embedded queues; default: one by worker and variant in the user's state folder"},
		{Key: "max-in-flight", Kind: KindInt, Default: "4096", Min: 1, Max: maxCount, Commands: []string{CmdJoin},
			Usage: "`number` of requests answered at once; more are refused as overloaded"},
		{Key: "inspect-payloads", Kind: KindBool, Default: "false", Commands: []string{CmdJoin},
			Usage: "show the payloads of requests to who watches the mesh, but for what x-sensitive in the schema names"},
		{Key: "on-connected", Kind: KindPath, Commands: []string{CmdJoin},
			Usage: "`program` to run, this node as JSON on its stdin, when the master accepted it"},
		{Key: "on-connection", Kind: KindPath, Commands: []string{CmdJoin},
			Usage: "`program` to run, the peer as JSON on its stdin, when a link to a node came up"},
		{Key: "on-disconnection", Kind: KindPath, Commands: []string{CmdJoin},
			Usage: "`program` to run, the peer as JSON on its stdin, when the last link to a node went"},

		{Key: "timeout", Short: "t", Kind: KindDuration, Default: "3s", Min: 1, Max: int64(24 * time.Hour), Commands: []string{CmdCall, CmdBench, CmdQueue},
			Usage: "`time` to wait for a response; where it is set, for connecting too (call: both together), which has 10s otherwise"},
		{Key: "as", Kind: KindString, Commands: []string{CmdCall, CmdBench}, Check: schema.ValidWorker,
			Usage: "`worker` to call as; default: the operator, whom meshctl nodes accept"},
		{Key: "max-payload", Kind: KindBytes, Default: Bytes(wire.DefaultMaxPayload).String(), Min: 1 << 10, Max: 256 << 20,
			Commands: append([]string{CmdServeMaster}, dial...),
			Usage:    "`size` of the largest message accepted or sent, such as 512KiB or 4MiB"},

		{Key: "log-level", Kind: KindString, Default: "info", Choices: []string{"trace", "debug", "info", "warn", "error"}, Commands: servers,
			Usage: "least `level` that is logged: trace, debug, info, warn or error"},
		{Key: "log-format", Kind: KindString, Default: "text", Choices: []string{"text", "json"}, Commands: servers,
			Usage: "`format` of the log on stderr: text, or json with one line per event"},
	}
}

// checkRedis never quotes the text: it may have a password.
func checkRedis(text string) error {
	u, err := url.Parse(text)
	if err != nil || !slices.Contains([]string{"redis", "rediss", "unix"}, u.Scheme) {
		return errors.New("it is no URL such as redis://HOST:PORT/0, rediss://HOST:PORT/0 or unix:///PATH")
	}
	return nil
}

func withoutPassword(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return redacted
	}
	return u.Redacted()
}

func checkHeartbeat(text string) error {
	_, err := link.ParseHeartbeat(text)
	return err
}

func checkMeshName(text string) error { return schema.ValidWorker(text) }

// checkMaster accepts HOST[:PORT], and several with commas between.
func checkMaster(text string) error {
	entries, err := node.SplitMasters(text)
	if bad := (*wire.Error)(nil); errors.As(err, &bad) {
		return fmt.Errorf("%s; %s", bad.Message, bad.Hint) // its code tells nothing here
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		host, _, _ := node.SplitMaster(e) // it was checked
		if err := checkHost(host); err != nil {
			return err
		}
	}
	return nil
}

func checkHost(text string) error {
	if strings.Contains(text, "://") {
		return fmt.Errorf("%q is a URL: write the host alone", text)
	}
	if strings.ContainsAny(text, " \t\r\n/@?#[]") {
		return fmt.Errorf("%q is not a host name or address", text)
	}
	if strings.Contains(text, ":") && net.ParseIP(zoneless(text)) == nil {
		return fmt.Errorf("%q is not a host name or address; a port does not belong here", text)
	}
	return nil
}

func zoneless(ip string) string {
	ip, _, _ = strings.Cut(ip, "%")
	return ip
}

func checkListen(text string) error {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return fmt.Errorf("%q is not [HOST]:PORT", text)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("%q has the port %q, which is not between 0 and 65535", text, port)
	}
	if host == "" {
		return nil
	}
	return checkHost(host)
}
