package pushd

import "encoding/json"

// decode reads a message of the server. What it returns are parts of text, or copies.
func decode(text []byte, m *envelope) error { return json.Unmarshal(text, m) }
