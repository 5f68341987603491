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

// overlap reports whether there is a topic that two names both stand for.
func overlap(a, b string) bool {
	for {
		tokenA, tailA, moreA := strings.Cut(a, ".")
		tokenB, tailB, moreB := strings.Cut(b, ".")
		if tokenA == ">" || tokenB == ">" {
			return true // what is left of the other is at least one token
		}
		if tokenA != tokenB && tokenA != "*" && tokenB != "*" || moreA != moreB {
			return false
		}
		if !moreA {
			return true
		}
		a, b = tailA, tailB
	}
}
