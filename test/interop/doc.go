// Package interop tests meshctl against JavaScript peers, in both roles and with
// both lines of socket.io that are in use. The peers (*.mjs) are our own, written from
// docs/protocol.md; `npm ci` installs what they need. Without it the tests are
// skipped, or fail where CI or MESHCTL_REQUIRE_INTEROP is set.
package interop
