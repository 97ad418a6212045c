package policy

import _ "embed"

//go:embed schema.json
var schema []byte

// Schema returns the JSON Schema (draft 2020-12) of a policy file, for editors.
// [Load] checks more: names that refer to each other, and values.
func Schema() []byte { return append([]byte(nil), schema...) }
