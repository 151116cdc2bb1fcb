package native

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"testing"

	"github.com/meshctl/meshctl/internal/mesh/wire"
)

var update = flag.Bool("update", false, "write testdata/vectors.json anew")

// vectors are what another implementation can be checked against: all that both ends
// write, with ephemeral keys that are given. Bytes are in hexadecimal.
type vectors struct {
	PrivateKey         string   `json:"private_key"`
	PresharedKey       string   `json:"preshared_key"`
	KeyID              string   `json:"key_id"`
	Prologue           string   `json:"prologue"`
	InitiatorEphemeral string   `json:"initiator_ephemeral"`
	ResponderEphemeral string   `json:"responder_ephemeral"`
	InitiatorHello     string   `json:"initiator_hello"`
	ResponderHello     string   `json:"responder_hello"`
	First              string   `json:"first_message"`
	Second             string   `json:"second_message"`
	Frames             []vframe `json:"frames"`
}

type vframe struct {
	From   string `json:"from"`
	Plain  string `json:"plain"`
	Sealed string `json:"sealed"`
}

func TestVectors(t *testing.T) {
	const file = "testdata/vectors.json"
	got := makeVectors(t)
	text, err := json.MarshalIndent(got, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	text = append(text, '\n')
	if *update {
		if err := os.WriteFile(file, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(text, want) {
		t.Errorf("the native link writes other bytes than %s has:\n%s", file, text)
	}
}

func makeVectors(t *testing.T) vectors {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	const private = "randomPrivateKey"
	key := newKey(private)
	psk, id, err := key.Native()
	must(err)
	ephemeral := func(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }
	i, err := newHandshakeFrom(bytes.NewReader(ephemeral(1)), key, Hello{Name: "nodeA/a1", Protocol: 1}, true)
	must(err)
	r, err := newHandshakeFrom(bytes.NewReader(ephemeral(2)), key, Hello{Name: "nodeB/b1", Protocol: 1}, false)
	must(err)
	first, err := i.first()
	must(err)
	second, hello, rc, err := r.answer(first)
	must(err)
	if hello.Name != "nodeA/a1" {
		t.Errorf("the responder learnt %+v", hello)
	}
	hello, ic, err := i.finish(second)
	must(err)
	if hello.Name != "nodeB/b1" {
		t.Errorf("the initiator learnt %+v", hello)
	}
	v := vectors{
		PrivateKey: private, PresharedKey: hex.EncodeToString(psk), KeyID: hex.EncodeToString(id[:]),
		Prologue:           hex.EncodeToString(prologue),
		InitiatorEphemeral: hex.EncodeToString(ephemeral(1)), ResponderEphemeral: hex.EncodeToString(ephemeral(2)),
		InitiatorHello: string(i.hello), ResponderHello: string(r.hello),
		First: hex.EncodeToString(first), Second: hex.EncodeToString(second),
	}
	add := func(from string, send interface {
		Encrypt(out, ad, plaintext []byte) ([]byte, error)
	}, open func(out, ad, ciphertext []byte) ([]byte, error), plain []byte) {
		sealed, err := send.Encrypt(nil, nil, plain)
		must(err)
		back, err := open(nil, nil, sealed)
		must(err)
		if !bytes.Equal(back, plain) {
			t.Errorf("%x became %x", plain, back)
		}
		v.Frames = append(v.Frames, vframe{from, hex.EncodeToString(plain), hex.EncodeToString(sealed)})
	}
	request := wire.CommandMessage(wire.Command{UID: "u1", Number: 1 << 20, Name: "status", Payload: []byte(`{"test":"data"}`), Meta: &wire.CommandMeta{TimeoutMS: 3000}})
	add("initiator", ic.send, rc.receive.Decrypt, appendRecord(appendRecord(nil, wire.Message{Event: wire.EventDeclare, Body: []byte(`{"worker":"nodeA"}`)}), request))
	add("responder", rc.send, ic.receive.Decrypt, appendRecord(nil, wire.ResponseMessage(wire.Response{Number: 1 << 20, Result: []byte(`{"variant":"b1"}`)})))
	add("responder", rc.send, ic.receive.Decrypt, appendHeader(appendRecord(nil, wire.ResponseMessage(wire.Response{Number: 2, Err: &wire.Error{Code: wire.CodeDenied, Message: "no"}})), recordRekey, 0))
	rc.send.Rekey()
	ic.receive.Rekey()
	add("responder", rc.send, ic.receive.Decrypt, appendChunk(nil, false, []byte{recordEvent, 6, 5, 'd'}))
	add("responder", rc.send, ic.receive.Decrypt, appendClose(appendChunk(nil, true, []byte("rain")), wire.CodeReplaced, ""))
	return v
}
