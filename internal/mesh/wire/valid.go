package wire

import "encoding/binary"

// plainInString marks the bytes that stand for themselves in a JSON string.
var plainInString = func() (t [256]bool) {
	for c := range t {
		t[c] = c >= 0x20 && c != '"' && c != '\\'
	}
	return t
}()

// checkJSON tells in one pass whether b is one JSON value (RFC 8259) whose arrays and
// objects nest at most limit deep; limit is at most 64. It accepts what json.Valid does,
// which a fuzz test compares, and allocates nothing.
func checkJSON(b []byte, limit int) error {
	v := validator{b: b, limit: limit}
	if !v.document() {
		if v.deep {
			return badRequest("nested deeper than %d", limit)
		}
		return badRequest("not valid JSON")
	}
	return nil
}

// validator walks JSON without recursion: whether the array or object at a depth is an
// object is a bit.
type validator struct {
	b       []byte
	i       int
	depth   int
	objects uint64
	limit   int
	deep    bool
}

func (v *validator) document() bool {
	for {
		if !v.begin() {
			return false
		}
		more, ok := v.end()
		if !ok {
			return false
		}
		if !more {
			v.space()
			return v.i == len(v.b)
		}
	}
}

// begin reads up to the end of the next scalar, or of an empty array or object.
func (v *validator) begin() bool {
	for {
		v.space()
		if v.i >= len(v.b) {
			return false
		}
		switch c := v.b[v.i]; c {
		case '{', '[':
			v.i++
			v.space()
			if v.i < len(v.b) && v.b[v.i] == c+2 { // '}' and ']' are two further
				v.i++
				return v.depth < v.limit || v.tooDeep()
			}
			if !v.push(c == '{') {
				return false
			}
			if c == '{' && !v.key() {
				return false
			}
		case '"':
			return v.str()
		case 't':
			return v.word("true")
		case 'f':
			return v.word("false")
		case 'n':
			return v.word("null")
		default:
			return v.number()
		}
	}
}

// end reads what follows a value: more tells whether another one has to come.
func (v *validator) end() (more, ok bool) {
	for v.depth > 0 {
		v.space()
		if v.i >= len(v.b) {
			return false, false
		}
		object := v.objects&1 != 0
		switch c := v.b[v.i]; {
		case c == ',':
			v.i++
			return true, !object || v.key()
		case c == '}' && object, c == ']' && !object:
			v.i++
			v.depth--
			v.objects >>= 1
		default:
			return false, false
		}
	}
	return false, true
}

func (v *validator) push(object bool) bool {
	if v.depth >= v.limit {
		return v.tooDeep()
	}
	v.depth++
	v.objects <<= 1
	if object {
		v.objects |= 1
	}
	return true
}

func (v *validator) tooDeep() bool {
	v.deep = true
	return false
}

// key reads a member's name and the colon.
func (v *validator) key() bool {
	v.space()
	if v.i >= len(v.b) || v.b[v.i] != '"' || !v.str() {
		return false
	}
	v.space()
	if v.i >= len(v.b) || v.b[v.i] != ':' {
		return false
	}
	v.i++
	return true
}

func (v *validator) space() {
	for v.i < len(v.b) {
		switch v.b[v.i] {
		case ' ', '\t', '\n', '\r':
			v.i++
		default:
			return
		}
	}
}

// str reads a string, from one quotation mark to the other.
func (v *validator) str() bool {
	b, i := v.b, v.i+1
	for i < len(b) {
		for len(b)-i >= 8 && plainWord(binary.LittleEndian.Uint64(b[i:])) {
			i += 8
		}
		if i == len(b) {
			return false
		}
		c := b[i]
		i++
		switch {
		case plainInString[c]:
		case c == '"':
			v.i = i
			return true
		case c != '\\' || i >= len(b):
			return false
		default:
			esc := b[i]
			i++
			switch esc {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			case 'u':
				if i+4 > len(b) || !isHex(b[i]) || !isHex(b[i+1]) || !isHex(b[i+2]) || !isHex(b[i+3]) {
					return false
				}
				i += 4
			default:
				return false
			}
		}
	}
	return false
}

// plainWord tells whether eight bytes stand for themselves in a JSON string. It may say no
// of some that do.
func plainWord(w uint64) bool {
	const ones, high = 0x0101010101010101, 0x8080808080808080
	quote, backslash := w^ones*'"', w^ones*'\\'
	// The high bit of a byte is set by subtraction where the byte is less than what is
	// subtracted, or, which does no harm, where a lower one is.
	return ((w-ones*0x20)&^w|(quote-ones)&^quote|(backslash-ones)&^backslash)&high == 0
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func (v *validator) word(w string) bool {
	if len(v.b)-v.i < len(w) || string(v.b[v.i:v.i+len(w)]) != w {
		return false
	}
	v.i += len(w)
	return true
}

func (v *validator) number() bool {
	if v.at('-') {
		v.i++
	}
	switch {
	case v.at('0'):
		v.i++
	case !v.digits():
		return false
	}
	if v.at('.') {
		v.i++
		if !v.digits() {
			return false
		}
	}
	if v.at('e') || v.at('E') {
		v.i++
		if v.at('+') || v.at('-') {
			v.i++
		}
		return v.digits()
	}
	return true
}

func (v *validator) at(c byte) bool { return v.i < len(v.b) && v.b[v.i] == c }

func (v *validator) digits() bool {
	from := v.i
	for v.i < len(v.b) && '0' <= v.b[v.i] && v.b[v.i] <= '9' {
		v.i++
	}
	return v.i > from
}
