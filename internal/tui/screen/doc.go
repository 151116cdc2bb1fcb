// Package screen has what the dashboard's pages are drawn with: styles and themes, text
// that fits its place whatever it contains, lines, the table, charts, and a line to type
// in. It knows nothing of meshes, keeps no state of its own, and never writes to a
// terminal: everything gives lines of text.
package screen
