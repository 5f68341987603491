package conn

import (
	"testing"
	"unicode/utf8"
)

func TestWholeRunes(t *testing.T) {
	f := func(p string, n int, ok bool) {
		t.Helper()
		gotN, gotOK := wholeRunes([]byte(p))
		if gotOK != ok || ok && gotN != n {
			t.Errorf("wholeRunes(%q) = %d, %v, want %d, %v", p, gotN, gotOK, n, ok)
		}
	}
	f("", 0, true)
	f("abc", 3, true)
	f("aκ", 3, true)

	// Cut anywhere in a rune.
	f("a\xce", 1, true)
	f("€"[:1], 0, true)
	f("€"[:2], 0, true)
	f("abc😀"[:4], 3, true)
	f("abc😀"[:5], 3, true)
	f("abc😀"[:6], 3, true)
	f("abc😀", 7, true)

	// Never to become valid, whatever follows.
	f("\x80", 0, false)
	f("a\xc0", 0, false)            // overlong, whatever the second byte
	f("\xc1\xbf", 0, false)         // overlong
	f("\xe0\x80", 0, false)         // overlong, seen at the second byte
	f("\xe0\x9f\xbf", 0, false)     // overlong
	f("\xed\xa0", 0, false)         // surrogate, seen at the second byte
	f("\xf0\x8f", 0, false)         // overlong
	f("\xf4\x90", 0, false)         // above U+10FFFF, seen at the second byte
	f("\xf5", 0, false)             // above U+10FFFF, seen at the first byte
	f("\xe2\x82a", 0, false)        // a rune that another follows too early
	f("\xe2\x82\xac\x80", 0, false) // a continuation too many
	f("\xff and more", 0, false)    // never in UTF-8
	f("\xce\xba\xe1\xbd\xed", 0, false)
}

// TestWholeRunesBrute compares with the definition, for every tail of up to
// three bytes from the classes that RFC 3629 distinguishes.
func TestWholeRunesBrute(t *testing.T) {
	classes := []byte{
		'a', 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1,
		0xec, 0xed, 0xee, 0xef, 0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xff,
	}
	check := func(p []byte) {
		n, ok := wholeRunes(p)
		if want := canBecomeUTF8(p); ok != want {
			t.Fatalf("wholeRunes(%q) says %v, want %v", p, ok, want)
		}
		if ok && (len(p)-n >= utf8.UTFMax || !utf8.Valid(p[:n]) || n < len(p) && utf8.Valid(p)) {
			t.Fatalf("wholeRunes(%q) = %d", p, n)
		}
	}
	for _, a := range classes {
		check([]byte{a})
		for _, b := range classes {
			check([]byte{a, b})
			for _, c := range classes {
				check([]byte{a, b, c})
				check([]byte{'x', a, b, c})
				check([]byte{0xf1, a, b, c})
			}
		}
	}
}

// canBecomeUTF8 is the plain model: something that makes p valid can follow.
func canBecomeUTF8(p []byte) bool {
	if utf8.Valid(p) {
		return true
	}
	// The second byte of a rune has four ranges, all others have one.
	for _, second := range []byte{0x80, 0x90, 0xa0, 0xbf} {
		for _, tail := range []string{"", "\x80", "\x80\x80"} {
			if utf8.Valid(append(append(p[:len(p):len(p)], second), tail...)) {
				return true
			}
		}
	}
	return false
}
