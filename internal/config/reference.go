package config

import (
	"fmt"
	"strings"
)

// Reference is docs/configuration.md.
func Reference() []byte {
	var b strings.Builder
	b.WriteString(referenceHead)
	for _, s := range Settings() {
		if s.Secret {
			continue
		}
		flag := "`--" + s.Key + "`"
		if s.Short != "" {
			flag += ", `-" + s.Short + "`"
		}
		if s.NoFlag {
			flag = "argument"
		}
		value := s.Default
		if value != "" {
			value = "`" + value + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s | %s |\n", s.Key, flag, code(s.EnvNames()), s.Kind,
			value, code(s.Commands), strings.ReplaceAll(strings.ReplaceAll(s.Usage, "`", ""), "|", "\\|"))
	}
	b.WriteString(referenceKeys)
	for _, s := range Settings() {
		if s.Secret {
			fmt.Fprintf(&b, "| `%s` | %s |\n", s.EnvName(), s.Usage)
		}
	}
	b.WriteString(referenceTail)
	return []byte(b.String())
}

func code(words []string) string { return "`" + strings.Join(words, "`, `") + "`" }

const referenceHead = `# Configuration

<!-- Generated from the table in internal/config/settings.go by "make generate". Do not edit. -->

Nothing has to be configured. What is, is taken from the first of these that says something:

1. the command's flags,
2. the environment: ` + "`MESHCTL_`" + ` and the setting's name in capitals, and the variables of existing JavaScript
   deployments (an empty variable counts as not set),
3. the configuration file: ` + "`--config FILE`" + `, else ` + "`MESHCTL_CONFIG`" + `, else ` + "`./meshctl.yaml`" + `, else ` + "`meshctl/meshctl.yaml`" + `
   in the user's configuration folder (` + "`$XDG_CONFIG_HOME`" + ` or ` + "`~/.config`" + ` on Linux, ` + "`~/Library/Application Support`" + ` on
   macOS, ` + "`%AppData%`" + ` on Windows); the first that exists is read, and only that one,
4. the default.

A key that does not exist, one that is there twice and a value of the wrong kind are errors, with file and line. Relative
paths in the file start at the file's folder, others at the working directory. ` + "`meshctl init`" + ` writes a commented file;
` + "`meshctl config show`" + ` prints what is in effect and where it came from.

| setting | flag | environment | kind | default | commands | meaning |
| --- | --- | --- | --- | --- | --- | --- |
`

const referenceKeys = `
Durations are written ` + "`500ms`, `3s`, `1m30s`" + `; sizes ` + "`65536`, `512KiB`, `4MiB`" + `. Where ` + "`master`" + ` has no port and the environment
has ` + "`MASTER_SOCKET_PORT`" + `, the two are joined.

## Keys

Every member of a mesh has the same public and private key. Neither has a flag, because other users of a machine can read
command lines, nor a line in the configuration file. They come from the first of:

1. the environment, both or neither:

| variable | meaning |
| --- | --- |
`

const referenceTail = `
2. the keys file that ` + "`--keys FILE`, `MESHCTL_KEYS`" + ` or the configuration's ` + "`keys:`" + ` names,
3. ` + "`keys.yaml`" + ` beside the configuration file in use,
4. ` + "`meshctl/keys.yaml`" + ` in the user's configuration folder. It is made with random keys, for its owner alone, when the first
   command needs it, and meshctl says so on stderr.

A keys file is YAML or JSON:

    public: "…"
    private: "…"

Both are free-form texts. ` + "`meshctl keys show`" + ` prints the file in use and the fingerprint of its keys, by which two machines can be
compared, and never the keys. A keys file that others can read is reported with the chmod to type.

## Reading the schema again

` + "`serve-master`" + ` reads its schema file again when it changes and on SIGHUP. The configuration itself is read once.
`
