package wire

import (
	"encoding/json"
	"strconv"
	"strings"

	"github.com/meshctl/meshctl/internal/mesh/identity"
)

// DecodeDeclare reads a node's introduction. Names are checked, but whether the schema
// has the worker is the caller's business. OperatorWorker passes only from a
// meshctl peer. As JavaScript peers may be careless, a port may be a numeric string,
// and a variant a number or null. Errors are *Error with CodeBadRequest.
func DecodeDeclare(body []byte) (Declare, error) {
	o, err := decodeObject(body)
	if err != nil {
		return Declare{}, err
	}
	f := fields{o: o}
	d := Declare{Meshctl: f.extra()}
	d.Worker = f.worker(d.Meshctl != nil)
	d.Variant = f.variant(false)
	d.Port = f.port(false)
	d.Hostname = f.host("hostname", false)
	if f.err != nil {
		return Declare{}, f.err
	}
	return d, nil
}

// DecodeDeclared reads the acceptance of a declare, with the same checks.
func DecodeDeclared(body []byte) (Declared, error) {
	o, err := decodeObject(body)
	if err != nil {
		return Declared{}, err
	}
	f := fields{o: o}
	d := Declared{Meshctl: f.extra()}
	d.Worker = f.worker(d.Meshctl != nil)
	d.Variant = f.variant(true)
	d.ClientID = f.clientID()
	d.Port = f.port(false)
	d.IP = f.host("ip", false)
	if f.err != nil {
		return Declared{}, f.err
	}
	return d, nil
}

// DecodePeers reads the array of an addnode. Entries that nobody could connect to
// (a bad name, no address, no port) are left out and counted in skipped. It fails
// as a whole, with CodeBadRequest, when the body is no JSON array or has more than
// MaxNodesPerMessage entries.
func DecodePeers(body []byte) (peers []Peer, skipped int, err error) {
	body, err = clean(body)
	if err != nil {
		return nil, 0, err
	}
	count := 0
	isArray := splitArray(body, func(raw json.RawMessage) {
		if count++; count > MaxNodesPerMessage {
			return
		}
		o, err := splitObject(raw)
		if err != nil {
			skipped++
			return
		}
		p, err := decodePeer(o, true)
		if err != nil {
			skipped++
			return
		}
		peers = append(peers, p)
	})
	if !isArray {
		return nil, 0, badRequest("not a JSON array")
	}
	if count > MaxNodesPerMessage {
		return nil, 0, badRequest("more than %d nodes", MaxNodesPerMessage)
	}
	return peers, skipped, nil
}

// DecodePeer reads the body of removenode or drain. Address and port may be missing.
// Errors are *Error with CodeBadRequest.
func DecodePeer(body []byte) (Peer, error) {
	o, err := decodeObject(body)
	if err != nil {
		return Peer{}, err
	}
	return decodePeer(o, false)
}

func decodePeer(o object, reachable bool) (Peer, error) {
	f := fields{o: o}
	p := Peer{Meshctl: f.extra()}.Public() // nobody tells of another's token
	p.Worker = f.worker(false)
	p.Variant = f.variant(true)
	p.IP = f.host("ip", reachable)
	p.Port = f.port(reachable)
	if f.err != nil {
		return Peer{}, f.err
	}
	return p, nil
}

// DecodeErrorMessage reads the body of an error event. A message that is missing, or is
// no string, is empty; a long one is cut to MaxErrorLen. Errors are *Error with
// CodeBadRequest and mean that the body itself is malformed.
func DecodeErrorMessage(body []byte) (ErrorMessage, error) {
	o, err := decodeObject(body)
	if err != nil {
		return ErrorMessage{}, err
	}
	message, _ := unquoteAny(o.get("message"))
	code, _ := unquoteAny(o.get("code"))
	return ErrorMessage{Message: clip(message, MaxErrorLen), Code: validCode(Code(code), "")}, nil
}

// DecodeWatch reads the body of watch. Errors are *Error with CodeBadRequest.
func DecodeWatch(body []byte) (Watch, error) {
	o, err := decodeObject(body)
	if err != nil {
		return Watch{}, err
	}
	on, err := o.flag("on")
	return Watch{On: on}, err
}

// DecodeObserve reads the body of observe. EveryMillis is then from 0 to MaxTimeout.
// Errors are *Error with CodeBadRequest.
func DecodeObserve(body []byte) (Observe, error) {
	o, err := decodeObject(body)
	if err != nil {
		return Observe{}, err
	}
	on, err := o.flag("on")
	if err != nil {
		return Observe{}, err
	}
	var every uint64
	if raw := o.get("every_ms"); raw != nil {
		every, err = strconv.ParseUint(string(raw), 10, 63)
		if err != nil {
			return Observe{}, badRequest("every_ms is not a whole number")
		}
	}
	return Observe{On: on, EveryMillis: int64(min(every, uint64(MaxTimeout.Milliseconds())))}, nil
}

// flag reads a member that has to be true or false.
func (o object) flag(name string) (bool, error) {
	switch string(o.get(name)) {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, badRequest("%s is neither true nor false", name)
}

// DecodeCancelRequest reads the payload of ControlCancel. Errors are *Error with
// CodeBadRequest.
func DecodeCancelRequest(body []byte) (CancelRequest, error) {
	o, err := decodeObject(body)
	if err != nil {
		return CancelRequest{}, err
	}
	node, _ := unquoteAny(o.get("node"))
	worker, variant, _ := strings.Cut(node, "/")
	if err := ValidWorker(worker); err != nil {
		return CancelRequest{}, badRequest("node: %v", err)
	}
	if err := ValidVariant(variant); err != nil {
		return CancelRequest{}, badRequest("node: %v", err)
	}
	uid, err := o.uid()
	if err == nil && uid == "" {
		err = badRequest("no uid")
	}
	if err != nil {
		return CancelRequest{}, err
	}
	return CancelRequest{Node: node, UID: uid}, nil
}

// DecodeCancel reads the body of cancel and of withdraw. Errors are *Error with CodeBadRequest.
func DecodeCancel(body []byte) (Cancel, error) {
	o, err := decodeObject(body)
	if err != nil {
		return Cancel{}, err
	}
	uid, err := o.uid()
	if err != nil {
		return Cancel{}, err
	}
	if uid == "" {
		return Cancel{}, badRequest("cancel without uid")
	}
	return Cancel{UID: uid}, nil
}

// DecodeSchemaUpdate reads a changed schema without judging it. Schema shares memory
// with body. Errors are *Error with CodeBadRequest.
func DecodeSchemaUpdate(body []byte) (SchemaUpdate, error) {
	o, err := decodeObject(body)
	if err != nil {
		return SchemaUpdate{}, err
	}
	u := SchemaUpdate{Schema: o.get("schema")}
	if u.Revision, err = strconv.ParseInt(string(o.get("revision")), 10, 64); err != nil {
		return SchemaUpdate{}, badRequest("revision is not an integer")
	}
	if len(u.Schema) == 0 || u.Schema[0] != '{' {
		return SchemaUpdate{}, badRequest("schema is not an object")
	}
	return u, nil
}

// DecodeDenyList reads a deny list. Errors are *Error with CodeBadRequest.
func DecodeDenyList(body []byte) (DenyList, error) {
	o, err := decodeObject(body)
	if err != nil {
		return DenyList{}, err
	}
	var l DenyList
	if json.Unmarshal(o.get("entries"), &l.Entries) != nil || l.Entries == nil {
		return DenyList{}, badRequest("entries is not a list of text")
	}
	if len(l.Entries) > identity.MaxDenied {
		return DenyList{}, badRequest("more than %d entries in the deny list", identity.MaxDenied)
	}
	return l, nil
}

// fields reads members one by one and keeps the first error.
type fields struct {
	o   object
	err error
}

func (f *fields) fail(format string, args ...any) {
	if f.err == nil {
		f.err = badRequest(format, args...)
	}
}

// text reads a string, or a number as text; what is missing or null is "".
func (f *fields) text(name string) string {
	raw := f.o.get(name)
	if raw == nil {
		return ""
	}
	if c := raw[0]; c == '-' || '0' <= c && c <= '9' {
		return string(raw)
	}
	s, ok := unquoteAny(raw)
	if !ok {
		f.fail("%s is neither a string nor a number", name)
	}
	return s
}

func (f *fields) worker(operator bool) string {
	s, ok := unquoteAny(f.o.get("worker"))
	if !ok {
		f.fail("worker is not a string")
		return ""
	}
	if operator && s == OperatorWorker {
		return s
	}
	if err := ValidWorker(s); err != nil {
		f.fail("%v", err)
	}
	return s
}

func (f *fields) variant(required bool) string {
	s := f.text("variant")
	if s == "" && !required {
		return ""
	}
	if err := ValidVariant(s); err != nil {
		f.fail("%v", err)
	}
	return s
}

// clientID reads what names a connection at the other end, by the rule of variants,
// as it serves as one.
func (f *fields) clientID() string {
	s := f.text("clientId")
	if s == "" {
		return ""
	}
	if err := ValidVariant(s); err != nil {
		f.fail("clientId: %v", err)
	}
	return s
}

func (f *fields) host(name string, required bool) string {
	raw := f.o.get(name)
	s, ok := unquoteAny(raw)
	switch {
	case raw != nil && !ok:
		f.fail("%s is not a string", name)
	case s == "" && !required:
	default:
		if err := validHost(s); err != nil {
			f.fail("%s: %v", name, err)
		}
	}
	return s
}

func (f *fields) port(required bool) int {
	s := f.text("port")
	if s == "" && !required {
		return 0
	}
	port, err := strconv.ParseUint(s, 10, 16)
	if err != nil || required && port == 0 {
		f.fail("port is not a number from 0 to 65535")
	}
	return int(port)
}

// extra reads what a meshctl peer adds. A member that is something else, as a
// JavaScript peer might have one, or that names no protocol version, is ignored.
func (f *fields) extra() *Extra {
	raw := f.o.get(memberMeshctl)
	if len(raw) == 0 || raw[0] != '{' {
		return nil
	}
	var x Extra
	if json.Unmarshal(raw, &x) != nil || x.Protocol < 1 {
		return nil
	}
	if x.Version != "" && ValidVariant(x.Version) != nil {
		x.Version = "" // for display only
	}
	if x.Instance != "" {
		if err := ValidUID(x.Instance); err != nil {
			f.fail("instance: %v", err)
		}
	}
	if len(x.Token) > identity.MaxLen {
		f.fail("the token is longer than %d bytes", identity.MaxLen)
	}
	if len(x.Denied) > identity.MaxDenied {
		f.fail("more than %d entries in the deny list", identity.MaxDenied)
	}
	if validFingerprints(x.Keys) != nil {
		f.fail("keys is not a list of fingerprints")
	}
	if x.Ticket != "" {
		if err := ValidUID(x.Ticket); err != nil {
			f.fail("ticket: %v", err)
		}
	}
	x.Attach = min(max(x.Attach, 0), 1<<53) // what JSON and Redis can count
	return &x
}

// unquoteAny gives the text of a string that is part of a clean value.
func unquoteAny(raw json.RawMessage) (string, bool) {
	if len(raw) == 0 || raw[0] != '"' {
		return "", false
	}
	s, err := unquote(raw)
	return s, err == nil
}
