// Package configs holds the files that a new mesh starts from.
package configs

import _ "embed"

// StarterSchema is the schema that is used where none is given. Its owner must
// not change it.
//
//go:embed schema.yaml
var StarterSchema []byte
