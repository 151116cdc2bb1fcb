//go:build !race

package wire

import "testing"

// Allocations per call must not grow; the race detector adds its own.
func TestAllocations(t *testing.T) {
	command := Command{UID: "c81fc4f7-52b3-4623-9174-e40bae45a43b", Name: "status", Payload: payload200(), Meta: &CommandMeta{TimeoutMS: 3000}}
	response := Response{UID: command.UID, Name: "status", Result: payload200()}
	encodedCommand, err := EncodeCommand(command)
	if err != nil {
		t.Fatal(err)
	}
	encodedResponse, err := EncodeResponse(response)
	if err != nil {
		t.Fatal(err)
	}
	known := func(name string) bool { return name == "status" }
	for _, tc := range []struct {
		name    string
		ceiling float64
		do      func() error
	}{
		{"encode a command", 3, func() error { _, err := EncodeCommand(command); return err }},
		{"decode a command", 10, func() error { _, err := DecodeCommand(encodedCommand, known); return err }},
		{"encode a response", 1, func() error { _, err := EncodeResponse(response); return err }},
		{"decode a response", 5, func() error { _, err := DecodeResponse(encodedResponse); return err }},
		{"check a command", 0, func() error { return command.Check() }},
		{"check a response", 0, func() error { return response.Check() }},
	} {
		n := testing.AllocsPerRun(200, func() {
			if err := tc.do(); err != nil {
				t.Fatal(err)
			}
		})
		t.Logf("%s: %.0f", tc.name, n)
		if n > tc.ceiling {
			t.Errorf("%s: %.0f allocations, at most %.0f are wanted", tc.name, n, tc.ceiling)
		}
	}
}
