package schema

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Bounds on what a method may ask for.
const (
	maxConcurrency = 10_000
	maxOutput      = 1 << 30
	maxRetries     = 1000
	maxQueueDepth  = 10_000_000
)

func builtins() []string   { return []string{"status", "echo", "sleep", "fail"} }
func kinds() []string      { return []string{"builtin", "exec", "stdio", "http"} }
func limits() []string     { return []string{"concurrency", "timeout", "dir", "env", "max_output"} }
func methodKeys() []string { return append(kinds(), limits()...) }
func commandKeys() []string {
	return slices.Concat([]string{"method", "responds", "queued", keyCallers, keySensitive}, queueKeys(), callingKeys())
}
func queueKeys() []string { return []string{"retries", "max_depth"} }

func (c *checker) command(worker string, m member, path string, d Delivery) *Command {
	cmd := &Command{Name: m.key, Delivery: d, Responds: d == Balanced}
	path = join(path, m.key)
	members, _ := c.object(m.value, path, "command "+clip(m.key), "null, {builtin: …}, or {responds: …, queued: …, method: …}")
	if !c.wire && slices.ContainsFunc(members, func(m member) bool { return slices.Contains(kinds(), m.key) }) &&
		m.value.get("method") == nil {
		cmd.Method = c.method(members, path, m.value)
		return cmd
	}
	for _, m := range members {
		switch m.key {
		case "responds":
			c.boolean(m, path, &cmd.Responds)
		case "queued":
			c.boolean(m, path, &cmd.Queued)
		case "retries", "max_depth", "concurrency":
			if !c.wire {
				c.queueOption(cmd, members, m, path)
			}
		case keyIdempotent:
			c.boolean(m, path, &cmd.Idempotent)
		case keyRetry, keyBalance, keyMaxInFlight: // see calling
		case keyCallers:
			cmd.Callers = c.callers(m, path, commandPath(worker, cmd.Name))
		case keySensitive:
			cmd.Sensitive = c.sensitive(m, join(path, m.key))
		case "method":
			if c.wire || m.value.kind == null {
				continue
			}
			if inner, ok := c.object(m.value, join(path, m.key), "method", "{builtin: …}, {exec: …}, {stdio: …} or {http: …}"); ok {
				cmd.Method = c.method(inner, join(path, m.key), m.value)
			}
		default:
			if !c.wire && slices.Contains(methodKeys(), m.key) {
				c.add(m.at, join(path, m.key), fmt.Sprintf("%q belongs inside method", m.key),
					fmt.Sprintf("method: {…, %s: …}", m.key))
				continue
			}
			c.unknown(m, path, "command "+clip(cmd.Name), commandKeys())
		}
	}
	c.calling(cmd, members, path)
	return cmd
}

// queueOption reads an option that only queued commands have.
func (c *checker) queueOption(cmd *Command, members []member, m member, path string) {
	at := join(path, m.key)
	queued := slices.ContainsFunc(members, func(m member) bool { return m.key == "queued" && strings.EqualFold(m.value.text, "true") })
	switch {
	case !queued && m.key == "concurrency":
		c.add(m.at, at, `"concurrency" belongs inside method, unless the command is queued`, "method: {…, concurrency: …}")
	case !queued:
		c.add(m.at, at, fmt.Sprintf("%s has no meaning for a command that is not queued", m.key), "queued: true")
	case m.key == "retries":
		n := c.wholeNumber(m, at, "0", maxRetries)
		cmd.Retries = &n
	case m.key == "max_depth":
		cmd.MaxDepth = c.integer(m, at, maxQueueDepth)
	default:
		cmd.Concurrency = c.integer(m, at, maxConcurrency)
	}
}

// method reads the members of n, which is either the value of "method" or a
// command in its short form.
func (c *checker) method(members []member, path string, n *node) *Method {
	method := &Method{}
	var answered []string
	for _, m := range members {
		if slices.Contains(kinds(), m.key) {
			answered = append(answered, m.key)
		}
		at := join(path, m.key)
		switch m.key {
		case "builtin":
			method.Builtin = c.builtin(m, at)
		case "exec":
			method.Exec = c.argv(m, at)
		case "stdio":
			method.Stdio = c.argv(m, at)
		case "http":
			method.HTTP = c.url(m, at)
		case "concurrency":
			method.Concurrency = c.integer(m, at, maxConcurrency)
		case "timeout":
			method.Timeout = c.duration(m, at)
		case "dir":
			method.Dir = c.dir(m, at)
		case "env":
			method.Env = c.env(m, at)
		case "max_output":
			method.MaxOutput = c.bytes(m, at)
		default:
			if slices.Contains(commandKeys(), m.key) {
				c.add(m.at, at, fmt.Sprintf("%q stands beside method, not inside it", m.key),
					fmt.Sprintf("{%s: …, method: {…}}", m.key))
				continue
			}
			if near := suggest(m.key, commandKeys()); near != "" && suggest(m.key, methodKeys()) == "" {
				c.add(m.at, at, fmt.Sprintf("unknown key %q in method", clip(m.key)), fmt.Sprintf("{%s: …, method: {…}}", near))
				continue
			}
			c.unknown(m, path, "method", methodKeys())
		}
	}
	if len(answered) != 1 {
		msg := "method says nothing of what answers the command"
		if len(answered) > 1 {
			msg = "method has more than one of " + strings.Join(answered, ", ")
		}
		c.add(n.at, path, msg, "exactly one of "+strings.Join(kinds(), ", "))
		return method
	}
	for _, m := range members {
		runs := answered[0] == "exec" || answered[0] == "stdio"
		if (m.key == "dir" || m.key == "env") && !runs || m.key == "max_output" && answered[0] == "builtin" {
			c.add(m.at, join(path, m.key), fmt.Sprintf("%s has no meaning for %s", m.key, answered[0]), "")
		}
	}
	return method
}

func (c *checker) boolean(m member, path string, to *bool) {
	switch {
	case m.value.kind == boolean && strings.EqualFold(m.value.text, "true"):
		*to = true
	case m.value.kind == boolean && strings.EqualFold(m.value.text, "false"):
		*to = false
	case m.value.kind == null && c.wire:
	default:
		c.add(m.value.at, join(path, m.key), fmt.Sprintf("%s is %s", m.key, m.value.describe()), "true or false")
	}
}

func (c *checker) builtin(m member, path string) string {
	if m.value.kind == text && slices.Contains(builtins(), m.value.text) {
		return m.value.text
	}
	instead := suggest(m.value.text, builtins())
	if instead == "" {
		instead = "one of " + strings.Join(builtins(), ", ")
	}
	what := m.value.describe()
	if m.value.kind == text {
		what = strconv.Quote(clip(m.value.text))
	}
	c.add(m.value.at, path, "there is no builtin "+what, instead)
	return ""
}

func (c *checker) argv(m member, path string) []string {
	const instead = "[PROGRAM, ARGUMENT, …]"
	argv, ok := c.texts(m, path, instead)
	if !ok {
		return nil
	}
	switch {
	case len(argv) == 0:
		c.add(m.value.at, path, m.key+" names no program", instead)
	case argv[0] == "":
		c.add(m.value.items[0].at, path, m.key+" names an empty program", instead)
	case slices.ContainsFunc(argv, func(a string) bool { return strings.ContainsRune(a, 0) }):
		c.add(m.value.at, path, m.key+" has an argument with a NUL byte", "")
	default:
		return argv
	}
	return nil
}

func (c *checker) env(m member, path string) []string {
	names, ok := c.texts(m, path, "[NAME, …]")
	if !ok {
		return nil
	}
	for i, name := range names {
		if !validEnv(name) {
			// What follows the name may be a secret.
			name, _, _ = strings.Cut(name, "=")
			instead := ""
			if validEnv(name) {
				instead = name
			}
			c.add(m.value.items[i].at, path, "env lists the names of variables that are passed through, not values", instead)
		}
	}
	return names
}

func validEnv(name string) bool {
	for i, r := range name {
		letter := r == '_' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
		if !letter && (i == 0 || r < '0' || r > '9') {
			return false
		}
	}
	return name != ""
}

// texts reads a list of text. It fails, reporting every culprit, on anything else.
func (c *checker) texts(m member, path, instead string) ([]string, bool) {
	if m.value.kind != list {
		c.add(m.value.at, path, fmt.Sprintf("%s is %s, not a list", m.key, m.value.describe()), instead)
		return nil, false
	}
	ok := true
	out := make([]string, 0, len(m.value.items))
	for _, item := range m.value.items {
		if item.kind != text {
			c.add(item.at, path, fmt.Sprintf("%s has %s where text is expected", m.key, item.describe()), quoted(item))
			ok = false
		}
		out = append(out, item.text)
	}
	return out, ok
}

// quoted gives a number or boolean as text to write instead.
func quoted(n *node) string {
	if n.kind == number || n.kind == boolean {
		return strconv.Quote(clip(n.text))
	}
	return ""
}

func (c *checker) url(m member, path string) string {
	const instead = "an address such as http://127.0.0.1:8080/path"
	if m.value.kind != text {
		c.add(m.value.at, path, fmt.Sprintf("http is %s", m.value.describe()), instead)
		return ""
	}
	// An address may hold a password: messages never quote it.
	u, err := url.Parse(m.value.text)
	switch {
	case err != nil || u.Scheme == "":
		c.add(m.value.at, path, "http is not a valid address", instead)
	case u.Scheme != "http" && u.Scheme != "https":
		c.add(m.value.at, path, fmt.Sprintf("http has the scheme %q", clip(u.Scheme)), "http:// or https://")
	case u.Hostname() == "":
		c.add(m.value.at, path, "http has no host", instead)
	case u.User != nil:
		c.add(m.value.at, path, "http has a user name or password, which everybody who reads the schema would see",
			"the address without it")
	default:
		return m.value.text
	}
	return ""
}

func (c *checker) integer(m member, path string, most int) int {
	return c.wholeNumber(m, path, "0 (the default)", most)
}

func (c *checker) wholeNumber(m member, path, least string, most int) int {
	n, err := strconv.Atoi(m.value.text)
	if m.value.kind != number || err != nil || n < 0 || n > most {
		c.add(m.value.at, path, fmt.Sprintf("%s is %s", m.key, m.value.describe()),
			fmt.Sprintf("a whole number from %s to %d", least, most))
		return 0
	}
	return n
}

func (c *checker) duration(m member, path string) time.Duration {
	d, err := time.ParseDuration(m.value.text)
	if m.value.kind != text || err != nil || d < 0 {
		instead := `a duration such as "500ms", "5s" or "2m"`
		if n, err := strconv.Atoi(m.value.text); m.value.kind == number && err == nil && n > 0 {
			instead = fmt.Sprintf(`"%ds" or "%dms"`, n, n)
		}
		c.add(m.value.at, path, fmt.Sprintf("%s is %s", m.key, m.value.describe()), instead)
		return 0
	}
	return d
}

func (c *checker) dir(m member, path string) string {
	if m.value.kind != text || m.value.text == "" || strings.ContainsRune(m.value.text, 0) {
		c.add(m.value.at, path, fmt.Sprintf("dir is %s", m.value.describe()), "the path of a directory")
		return ""
	}
	return m.value.text
}

// bytes reads a number of bytes, plain or with a unit.
func (c *checker) bytes(m member, path string) int {
	if n, ok := parseBytes(m.value.text); ok && (m.value.kind == number || m.value.kind == text) {
		return n
	}
	c.add(m.value.at, path, fmt.Sprintf("%s is %s", m.key, m.value.describe()),
		`a number of bytes, or text such as "64KiB" or "1MiB", up to "1GiB"`)
	return 0
}

func parseBytes(s string) (int, bool) {
	digits := strings.TrimRight(s, "BKMGikmg ")
	unit := 1
	switch strings.TrimSpace(s[len(digits):]) {
	case "", "B":
	case "kB", "KB":
		unit = 1000
	case "KiB":
		unit = 1 << 10
	case "MB":
		unit = 1000 * 1000
	case "MiB":
		unit = 1 << 20
	case "GB":
		unit = 1000 * 1000 * 1000
	case "GiB":
		unit = 1 << 30
	default:
		return 0, false
	}
	n, err := strconv.Atoi(digits)
	if err != nil || n < 0 || n > maxOutput/unit {
		return 0, false
	}
	return n * unit, true
}
