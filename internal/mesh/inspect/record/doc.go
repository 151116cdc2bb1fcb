// Package record writes what a watcher learns into a file, and replays it.
//
// A recording is a sequence of zstd frames, so that `zstdcat FILE` shows it whole: the
// first frame holds the Header, as a line of JSON; each further one is a segment of about
// ten seconds, an inspect.Update per line. A segment begins with a key frame, which are
// the updates of Model.Snapshot: replay can begin at any of them. What is not yet ten
// seconds old is flushed every second, so that a crash loses no more than that.
package record
