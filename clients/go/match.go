package pushd

import "strings"

// match reports whether a message to topic reaches who subscribed to pattern:
// "*" is exactly one token, a last ">" one or more. Both are names that a server
// has accepted.
func match(pattern, topic string) bool {
	for {
		want, wantTail, wantMore := strings.Cut(pattern, ".")
		if want == ">" {
			return true // what is left of topic is at least one token
		}
		got, gotTail, gotMore := strings.Cut(topic, ".")
		if want != got && want != "*" || wantMore != gotMore {
			return false
		}
		if !wantMore {
			return true
		}
		pattern, topic = wantTail, gotTail
	}
}

// isPattern reports whether a name stands for more topics than itself.
func isPattern(name string) bool { return strings.ContainsAny(name, "*>") }
