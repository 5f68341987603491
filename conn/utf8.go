package conn

import "unicode/utf8"

// wholeRunes checks p, the next piece of a text that may go on, for UTF-8
// (RFC 3629). n bytes of it are whole, valid runes; the at most three bytes
// behind them are a rune that is cut, and can still become valid. ok is false
// as soon as nothing that follows can make p valid: a bad text is refused at
// its first bad byte, not at the end of its frame (RFC 6455, 8.1).
func wholeRunes(p []byte) (n int, ok bool) {
	n = len(p)
	for i := n - 1; i >= 0 && i >= n-(utf8.UTFMax-1); i-- {
		if utf8.RuneStart(p[i]) {
			// FullRune calls a rune full that is invalid already, so that one
			// stays in what Valid looks at.
			if !utf8.FullRune(p[i:]) {
				n = i
			}
			break
		}
	}
	return n, utf8.Valid(p[:n])
}
