package inspect

import (
	"bytes"
	"encoding/json"
	"strings"
)

// MaxPayload is how many bytes of one payload are reported.
const MaxPayload = 2 << 10

// Mask makes a payload fit to be shown: the values of members named in sensitive, at any
// depth and in whatever case, are "***". What would be longer than MaxPayload is cut,
// and is then JSON text of which the beginning is there. payload has to be valid JSON;
// of what is not, nothing is shown.
func Mask(payload json.RawMessage, sensitive []string) (shown json.RawMessage, cutOff bool) {
	m := masker{dec: json.NewDecoder(bytes.NewReader(payload)), sensitive: sensitive}
	m.dec.UseNumber()
	switch err := m.value(); {
	case m.full():
		text, err := json.Marshal(cut(m.out.String(), MaxPayload))
		if err != nil {
			return nil, true
		}
		return escapeJSON(text), true
	case err != nil:
		return nil, true
	}
	return escapeJSON(m.out.Bytes()), false
}

type masker struct {
	dec       *json.Decoder
	out       bytes.Buffer
	sensitive []string
}

// full tells that there is more than will be shown.
func (m *masker) full() bool { return m.out.Len() > MaxPayload }

// value copies one value. It ends early, without an error, when the output is full.
func (m *masker) value() error {
	token, err := m.dec.Token()
	if err != nil {
		return err
	}
	delim, ok := token.(json.Delim)
	if !ok {
		return m.scalar(token)
	}
	m.out.WriteRune(rune(delim))
	object := delim == '{'
	for first := true; m.dec.More() && !m.full(); first = false {
		if !first {
			m.out.WriteByte(',')
		}
		masked := false
		if object {
			if masked, err = m.key(); err != nil {
				return err
			}
		}
		if masked {
			var skipped json.RawMessage
			if err := m.dec.Decode(&skipped); err != nil {
				return err
			}
			m.out.WriteString(`"***"`)
		} else if err := m.value(); err != nil {
			return err
		}
	}
	if m.full() {
		return nil
	}
	end, err := m.dec.Token()
	if err == nil {
		m.out.WriteRune(rune(end.(json.Delim)))
	}
	return err
}

func (m *masker) key() (masked bool, err error) {
	token, err := m.dec.Token()
	if err != nil {
		return false, err
	}
	name, _ := token.(string)
	for _, s := range m.sensitive {
		masked = masked || strings.EqualFold(s, name)
	}
	if err := m.scalar(name); err != nil {
		return masked, err
	}
	m.out.WriteByte(':')
	return masked, nil
}

func (m *masker) scalar(v any) error {
	if s, ok := v.(string); ok {
		v = cut(s, MaxPayload+1) // the rest would be cut off anyway
	}
	text, err := json.Marshal(v)
	m.out.Write(text)
	return err
}
