// Package tui is the dashboard: pages of what an inspect.Source tells of a mesh, in a
// terminal. Run is all that others need.
//
// # How it flows
//
// A feed (feed.go) applies the source's updates to a Model and says when it is time for a
// frame: ten times a second at most when something changed, else once a second. The root
// (root.go) then takes a Picture and calls Refresh of the page in front; View (view.go)
// draws the header, the tabs, the title line, the page and the footer. A frame that is
// equal to the last one is not written to the terminal. While the dashboard is frozen no
// Picture is taken. A Picture, and all that a page made of it, is valid until the next
// Refresh and is never changed by anybody.
//
// # How a page is made
//
// A page is a type with the methods of Page (page.go), in a file named after it; pages.go
// lists them. page_connections.go is the example to follow.
//
//   - Refresh(env) makes rows of env.Picture. It is called before Draw whenever there is a
//     new picture, and when the page comes to the front. Do sorting and matching here (the
//     Table does) and nothing expensive in Draw.
//   - Draw(env) gives at most env.Height lines, made with screen.NewLine, screen.Table and
//     the charts of package screen, whose text is cleaned and cut there: text from the
//     network goes to a terminal in no other way. Styles come from env.Theme by meaning. A
//     state has a symbol beside its colour (healthMark).
//   - Update(env, msg) gets keys that the root has no use for, and mouse messages with Y
//     counted from the page's first line; hand both to the Table first. What takes time
//     goes into the tea.Cmd that is returned, and comes back as a message of a type that
//     is declared beside its sender. All pages get such messages, in front or not.
//   - Keys() lists the page's own keys; footer and help are made from it.
//   - Further abilities are further methods: Filterer (`/`), Sorter, Copier (`y`), Caller
//     (`c`), Canceler (`x`), Exporter (`w`), Typist (a form), Jumper (`:` and Go).
//
// What opens on Enter is a page too: return Open(page); esc closes it, and the
// breadcrumbs are the titles of the stack. Go("worker.command") goes wherever that is
// shown; Tell and Complain speak in the footer.
//
// # How a page is tested
//
// Add a line to the list in golden_test.go: it is then drawn at every size, in every
// state (empty, normal, overfull, disconnected, without colours), compared with
// testdata/*.golden (go test ./internal/tui -run Golden -update), and its lines are
// checked to fit in windows of many sizes filled with random pictures. tuitest.Picture
// and tuitest.NewSource give data to draw; `go run ./internal/tui/testdata/lively` shows
// it in a terminal.
package tui
