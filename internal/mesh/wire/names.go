package wire

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/meshctl/meshctl/internal/mesh/schema"
)

// ValidWorker fails unless s may name a worker. The rule is the schema's.
// OperatorWorker is not valid.
func ValidWorker(s string) error { return schema.ValidWorker(s) }

// ValidCommand fails unless s may name a command of a schema. The rule is the schema's.
func ValidCommand(s string) error { return schema.ValidCommand(s) }

// ValidVariant fails unless s may name a variant: 1 to MaxVariantLen printable ASCII
// characters but space, "/" and ",", which separate variants in names and lists,
// and no property that every JavaScript object inherits.
func ValidVariant(s string) error {
	return validID("variant", s, MaxVariantLen, &variantBytes)
}

// DrawVariant makes up a name of a variant, or of a master: that of the host, if it may
// stand in one, and six random characters.
func DrawVariant(host string) string {
	host, _, _ = strings.Cut(host, ".")
	if ValidVariant(host) != nil || len(host) > 64 {
		host = "node"
	}
	return host + "-" + uuid.NewString()[:6]
}

// ValidUID fails unless s may be the uid of a request: 1 to MaxUIDLen letters,
// digits, ".", "_", ":" and "-", and no property that every JavaScript object inherits.
func ValidUID(s string) error {
	return validID("uid", s, MaxUIDLen, &uidBytes)
}

// Which bytes variants and uids are made of.
var (
	variantBytes = bytesThat(func(c byte) bool { return c > ' ' && c <= '~' && c != '/' && c != ',' })
	uidBytes     = bytesThat(func(c byte) bool { return isAlnum(c) || c == '.' || c == '_' || c == ':' || c == '-' })
)

func bytesThat(are func(c byte) bool) (table [256]bool) {
	for c := range table {
		table[c] = are(byte(c))
	}
	return table
}

// ParseTarget splits "worker.command". Errors are *Error with CodeBadRequest.
func ParseTarget(s string) (worker, command string, err error) {
	worker, command, ok := strings.Cut(s, ".")
	if !ok {
		err = fmt.Errorf("%q is no target", clip(s, 2*MaxNameLen+1))
	} else if err = ValidWorker(worker); err == nil {
		err = ValidCommand(command)
	}
	if err != nil {
		e := badRequest("%v", err)
		e.Hint = "write a target as WORKER.COMMAND, for example worker.status"
		return "", "", e
	}
	return worker, command, nil
}

func validID(kind, s string, limit int, legal *[256]bool) error {
	if s == "" {
		return fmt.Errorf("%s is empty", kind)
	}
	if len(s) > limit {
		return fmt.Errorf("%s is longer than %d bytes", kind, limit)
	}
	for i := range len(s) {
		if !legal[s[i]] {
			r, _ := utf8.DecodeRuneInString(s[i:])
			return fmt.Errorf("%s %q has the character %q, which is not allowed", kind, s, r)
		}
	}
	if inherited(s) {
		return fmt.Errorf("%s %q is a property of every JavaScript object", kind, s)
	}
	return nil
}

// validMember says whether a peer may use s as the NAME of a command or response.
// It is wider than ValidCommand: a name that no schema has is unknown_command,
// which the caller answers, and control commands have a dot. What could
// disturb a log, a terminal or a JavaScript object is refused.
func validMember(s string) error {
	switch {
	case s == "":
		return errors.New("command name is empty")
	case len(s) > MaxNameLen:
		return fmt.Errorf("command name is longer than %d bytes", MaxNameLen)
	case s == memberUID || s == memberMeshctl:
		return fmt.Errorf("%q is a word of the protocol and cannot name a command", s)
	case inherited(s):
		return fmt.Errorf("%q is a property of every JavaScript object and cannot name a command", s)
	}
	for _, r := range s {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return fmt.Errorf("command name %q has a character that cannot be printed", s)
		}
	}
	return nil
}

// validHost accepts a host name, with underscores as container networks have them,
// or an IP address without brackets.
func validHost(s string) error {
	if s == "" || len(s) > MaxHostLen {
		return fmt.Errorf("host is empty or longer than %d bytes", MaxHostLen)
	}
	if _, err := netip.ParseAddr(s); err == nil {
		_, zone, _ := strings.Cut(s, "%")
		for i := range len(zone) {
			if !isAlnum(zone[i]) && !strings.ContainsRune("._-", rune(zone[i])) {
				return fmt.Errorf("host %q has a malformed zone", s)
			}
		}
		return nil
	}
	var label string
	for rest, more := strings.TrimSuffix(s, "."), true; more; {
		label, rest, more = strings.Cut(rest, ".")
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return fmt.Errorf("%q is neither a host name nor an IP address", s)
		}
		for i := range len(label) {
			if c := label[i]; !isAlnum(c) && c != '-' && c != '_' {
				return fmt.Errorf("%q is neither a host name nor an IP address", s)
			}
		}
	}
	// Some resolvers take "1.2.3" or "0x7f.1" for an address. A container's name may
	// well begin with a digit, or be a longer number.
	if _, err := strconv.ParseUint(label, 0, 32); err == nil {
		return fmt.Errorf("%q is neither a host name nor an IP address", s)
	}
	return nil
}

// inherited tells whether every JavaScript object has a property s, in whatever
// case: peers use names as object keys.
func inherited(s string) bool {
	if len(s) > len("propertyIsEnumerable") {
		return false // a uid, usually
	}
	switch strings.ToLower(s) {
	case "__proto__", "constructor", "prototype", "hasownproperty", "isprototypeof",
		"propertyisenumerable", "tolocalestring", "tostring", "valueof",
		"__definegetter__", "__definesetter__", "__lookupgetter__", "__lookupsetter__":
		return true
	}
	return false
}

func isAlnum(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// clip cuts s to at most limit bytes of valid UTF-8.
func clip(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "")
}
