package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
)

// format is a value of -o. The empty one leaves the choice to the command.
type format string

const (
	formatJSON  format = "json"
	formatYAML  format = "yaml"
	formatTable format = "table"
	formatRaw   format = "raw"
)

// formatFlag is the flag -o with the formats that one command can write.
type formatFlag struct {
	value   format
	choices []format
}

func (f *formatFlag) String() string { return string(f.value) }
func (f *formatFlag) Type() string   { return "format" }

func (f *formatFlag) Set(text string) error {
	if !slices.Contains(f.choices, format(text)) {
		return fmt.Errorf("%q is none of %s", text, f.list())
	}
	f.value = format(text)
	return nil
}

func (f *formatFlag) list() string {
	words := make([]string, len(f.choices))
	for i, c := range f.choices {
		words[i] = string(c)
	}
	return strings.Join(words, ", ")
}

// addFormat adds -o to a command. The returned value is valid once flags are parsed.
func addFormat(cmd *cobra.Command, usage string, preset format, choices ...format) *format {
	f := &formatFlag{value: preset, choices: choices}
	cmd.Flags().VarP(f, "output", "o", usage+": "+f.list())
	words := make([]string, len(choices))
	for i, c := range choices {
		words[i] = string(c)
	}
	// It fails only where the flag does not exist.
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
	return &f.value
}

// writeValue writes v, which must marshal to JSON, as JSON or YAML.
func writeValue(w io.Writer, v any, as format) error {
	if as != formatYAML {
		return writeJSON(w, v, true)
	}
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode output: %w", err)
	}
	return writeYAML(w, data)
}

// writeJSON writes v and a newline. Control characters that terminals act on are
// escaped, those beyond ASCII as well.
func writeJSON(w io.Writer, v any, indent bool) error {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if indent {
		enc.SetIndent("", "  ")
	}
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("encode output: %w", err)
	}
	_, err := w.Write(escapeControls(buf.Bytes()))
	return err
}

// escapeControls writes U+007F to U+009F, which JSON allows in strings as they are,
// as escapes.
func escapeControls(data []byte) []byte {
	if !bytes.ContainsFunc(data, func(r rune) bool { return r >= 0x7f && r <= 0x9f }) {
		return data
	}
	out := make([]byte, 0, len(data)+16)
	for len(data) > 0 {
		r, n := utf8.DecodeRune(data)
		if r >= 0x7f && r <= 0x9f {
			out = fmt.Appendf(out, `\u%04x`, r)
		} else {
			out = append(out, data[:n]...)
		}
		data = data[n:]
	}
	return out
}

func compactJSON(data []byte) []byte {
	var buf bytes.Buffer
	if err := json.Compact(&buf, data); err != nil {
		return data
	}
	return escapeControls(buf.Bytes())
}

// writeYAML writes JSON as YAML, members in their order.
func writeYAML(w io.Writer, data []byte) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	n, err := yamlNode(dec)
	if err != nil {
		return fmt.Errorf("encode output: %w", err)
	}
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	if err := enc.Encode(n); err != nil {
		return fmt.Errorf("encode output: %w", err)
	}
	return enc.Close()
}

// yamlNode turns the next JSON value into a YAML node.
func yamlNode(dec *json.Decoder) (*yaml.Node, error) {
	tok, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch t := tok.(type) {
	case json.Delim:
		n := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
		if t == '{' {
			n.Kind, n.Tag = yaml.MappingNode, "!!map"
		}
		for dec.More() {
			// In objects keys and values alternate, as in the node's content.
			child, err := yamlNode(dec)
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, child)
		}
		_, err := dec.Token()
		return n, err
	case string:
		// Encode quotes what other YAML readers would not take for a text.
		n := &yaml.Node{}
		return n, n.Encode(t)
	case json.Number:
		tag := "!!int"
		if strings.ContainsAny(t.String(), ".eE") {
			tag = "!!float"
		}
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: t.String()}, nil
	case bool:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: strconv.FormatBool(t)}, nil
	default:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Value: "null"}, nil
	}
}

// writeTable writes rows below a header, columns aligned.
func writeTable(w io.Writer, header []string, rows [][]string) error {
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, row := range append([][]string{header}, rows...) {
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = printable(cell)
			if cell == "" {
				cells[i] = "-"
			}
		}
		fmt.Fprintln(tw, strings.Join(cells, "\t"))
	}
	return tw.Flush()
}

// printable escapes whatever a terminal might act on: what peers say is not to be
// trusted with it.
func printable(s string) string {
	if !strings.ContainsFunc(s, hidden) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if hidden(r) {
			q := strconv.QuoteRuneToASCII(r)
			b.WriteString(q[1 : len(q)-1])
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// printableLines is printable, but keeps line ends.
func printableLines(s string) string {
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		lines[i] = printable(l)
	}
	return strings.Join(lines, "\n")
}

// counted is a number of things, such as "1 node" or "2 nodes".
func counted(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return strconv.Itoa(n) + " " + what
}

// hidden tells control characters and those that reorder or hide text.
func hidden(r rune) bool {
	return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r)
}
