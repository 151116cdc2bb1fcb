// Package inspect says what is happening in a mesh. Nodes count (Meter) and, while
// somebody watches, report (Report); a Source delivers reports and the coming and going
// of nodes as Updates, live or from a recording; a Model folds them into a Picture,
// which the dashboard, `meshctl top` and assertions read.
package inspect
