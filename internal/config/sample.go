package config

import (
	"fmt"
	"strings"
)

// SampleFile is a configuration file with every setting as a comment, and with the
// given ones, by key, set.
func SampleFile(set map[string]string) []byte {
	var b strings.Builder
	b.WriteString("# meshctl's configuration. Every setting is here with its default, as a comment.\n" +
		"# Flags and MESHCTL_… environment variables go before this file. It is read from\n" +
		"# --config FILE, MESHCTL_CONFIG, ./meshctl.yaml, or meshctl/meshctl.yaml in the\n" +
		"# user's configuration folder. Relative paths start at this file's folder.\n")
	for _, s := range Settings() {
		if s.Secret {
			continue
		}
		fmt.Fprintf(&b, "\n# %s\n", strings.Join(wrap(sentence(s.Usage), 86), "\n# "))
		value, ok := set[s.Key]
		if ok {
			fmt.Fprintf(&b, "%s: %s\n", s.Key, value)
			continue
		}
		value = s.Default
		if value == "" {
			value = s.Example
		}
		if value == "" {
			value = `""`
		}
		fmt.Fprintf(&b, "#%s: %s\n", s.Key, value)
	}
	return []byte(b.String())
}

// sentence is a usage text without the marks that pflag reads.
func sentence(usage string) string {
	text := strings.ReplaceAll(usage, "`", "")
	return strings.ToUpper(text[:1]) + text[1:] + "."
}

func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}
