package interop

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
)

// TestCommandLine uses the commands of meshctl in a mesh with JavaScript nodes.
func TestCommandLine(t *testing.T) {
	for _, sio := range lines {
		t.Run(fmt.Sprint("socket.io ", sio), func(t *testing.T) {
			requireJS(t)
			t.Parallel()
			k, schema := newKeys(), pair(dials{left: true, right: true})
			master := serveMaster(t, k, schema, 0)
			at := fmt.Sprintf("--master=127.0.0.1:%d", master.port)
			left := jsNode(t, sio, k, schema, master.port, "left", "l1", nil)
			l2 := jsNode(t, 7-sio, k, schema, master.port, "left", "l2", nil)
			join(t, k, schema, master.port, "right", "r1")
			for _, l := range []*peer{left, l2} {
				l.await("connection", link("right", "r1", true))
			}
			echo(t, left)

			out, code := run(t, k, "ls", at, "-o", "json")
			if code != 0 {
				t.Fatal("ls failed")
			}
			var list struct {
				Nodes []struct{ Worker, Variant, Kind string }
			}
			if err := json.Unmarshal(out, &list); err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, r := range list.Nodes {
				names = append(names, r.Worker+"/"+r.Variant+" "+r.Kind)
			}
			slices.Sort(names)
			if want := []string{"left/l1 javascript", "left/l2 javascript", "right/r1 meshctl"}; !slices.Equal(names, want) {
				t.Errorf("ls lists %v, want %v", names, want)
			}

			for _, c := range []struct {
				args []string
				code int
			}{
				{[]string{"call", "left.echo", "-d", `{"n":1}`, "--only", "l2", "--timeout", "20s"}, 0},
				{[]string{"call", "left.info", "--timeout", "20s"}, 0},
				{[]string{"call", "left.shout", "-d", "1", "--exclude", "l1", "--timeout", "20s"}, 0},
				{[]string{"call", "right.echo", "--timeout", "20s"}, 0},
				{[]string{"call", "left.echo", "--only", "l9"}, 3},
				{[]string{"call", "left.slow", "--timeout", "8s"}, 5},
			} {
				if _, code := run(t, k, append(c.args, at, "-o", "json")...); code != c.code {
					t.Errorf("%v: exit code %d, want %d", c.args, code, c.code)
				}
			}
			wantJSON(t, l2.await("command", command("echo")).Message, `{"echo":{"n":1}}`)
			wantJSON(t, l2.await("command", command("shout")).Message, `{"shout":1}`)
			left.await("command", command("info"))
			l2.await("command", command("info"))
			if n := left.count("command", command("shout")) + left.count("command", command("echo")); n != 0 {
				t.Error("a variant that was not selected got the command")
			}
		})
	}
}

// TestCommandLineWithJavaScriptMaster calls through a JavaScript master.
func TestCommandLineWithJavaScriptMaster(t *testing.T) {
	requireJS(t)
	k, schema := newKeys(), pair(dials{left: true, right: true})
	master := jsMaster(t, 3, k, schema, nil)
	left := jsNode(t, 3, k, schema, master.port, "left", "l1", nil)
	join(t, k, schema, master.port, "right", "r1")
	left.await("connection", link("right", "r1", true))
	file := schemaFile(t, schema)
	for _, target := range []string{"left.echo", "right.echo"} {
		out, code := run(t, k, "call", target, "-d", `{"n":1}`, "--schema", file, "--timeout", "20s", "-o", "json",
			fmt.Sprintf("--master=127.0.0.1:%d", master.port))
		if code != 0 || !json.Valid(out) {
			t.Errorf("%s: exit code %d, %s", target, code, out)
		}
	}
}
