package wire

import "unicode/utf8"

// maxDepth is how deep arrays and objects may nest in a value: one field of a
// command, or the data of a message. Deeper text is treated as no JSON: decoders
// that recurse give up somewhere, and a bound that is stated beats one that is met.
const (
	maxDepth = 512
	tooDeep  = "nesting of at most 512"
)

// fault says where a text leaves RFC 8259; its zero value is none. It is no
// error yet, since most callers only ask whether there is one.
type fault struct {
	at   int
	want string // what should have stood there; empty: no fault
}

func (f fault) ok() bool { return f.want == "" }

// describe makes the fault an Error. p is the text in which it was found.
func (f fault) describe(p []byte) *Error {
	if f.at >= len(p) {
		return badRequest("not valid JSON: the text ends where there should be %s", f.want)
	}
	r, _ := utf8.DecodeRune(p[f.at:])
	return badRequest("not valid JSON: %q at byte %d where there should be %s", r, f.at, f.want)
}

// validJSON reports whether p is one JSON text of valid UTF-8 and of bearable depth.
func validJSON(p []byte) bool {
	// RFC 8259 section 8.1 asks for UTF-8; scanValue does not look inside strings for it.
	if !utf8.Valid(p) {
		return false
	}
	i, f := scanValue(p, 0)
	return f.ok() && skipSpace(p, i) == len(p)
}

// scanValue returns the index behind the JSON value that begins at i, which
// white space may precede. It keeps its own stack of one bit for each open
// array or object, so that hostile nesting costs neither stack nor heap.
func scanValue(p []byte, i int) (int, fault) {
	var inObject [maxDepth / 64]uint64 // bit d: what is open at depth d is an object
	depth := 0
	var f fault
value:
	for {
		if i = skipSpace(p, i); i == len(p) {
			return i, fault{i, "a value"}
		}
		switch c := p[i]; c {
		case '{', '[':
			if depth == maxDepth {
				return i, fault{i, tooDeep}
			}
			word, bit := depth/64, uint64(1)<<(depth%64)
			depth++
			i = skipSpace(p, i+1)
			if c == '[' {
				inObject[word] &^= bit
				if i == len(p) || p[i] != ']' {
					continue value
				}
			} else {
				inObject[word] |= bit
				if i == len(p) || p[i] != '}' {
					if _, i, f = scanKey(p, i); !f.ok() {
						return i, f
					}
					continue value
				}
			}
			i++
			depth--
		case '"':
			i, f = scanString(p, i)
		case 't':
			i, f = scanLiteral(p, i, "true")
		case 'f':
			i, f = scanLiteral(p, i, "false")
		case 'n':
			i, f = scanLiteral(p, i, "null")
		default:
			i, f = scanNumber(p, i)
		}
		if !f.ok() {
			return i, f
		}

		// A value is behind us: close what ends here, or go on to the next one.
		for depth > 0 {
			i = skipSpace(p, i)
			object := inObject[(depth-1)/64]>>((depth-1)%64)&1 == 1
			switch {
			case i < len(p) && p[i] == ',':
				i++
				if object {
					if _, i, f = scanKey(p, i); !f.ok() {
						return i, f
					}
				}
				continue value
			case i < len(p) && object && p[i] == '}', i < len(p) && !object && p[i] == ']':
				i++
				depth--
			case object:
				return i, fault{i, `"," or "}"`}
			default:
				return i, fault{i, `"," or "]"`}
			}
		}
		return i, fault{}
	}
}

// scanKey reads a member's name and its colon. The key has its quotes still.
func scanKey(p []byte, i int) (key []byte, end int, f fault) {
	i = skipSpace(p, i)
	if i == len(p) || p[i] != '"' {
		return nil, i, fault{i, "a field's name in quotes"}
	}
	end, f = scanString(p, i)
	if !f.ok() {
		return nil, end, f
	}
	key = p[i:end]
	end = skipSpace(p, end)
	if end == len(p) || p[end] != ':' {
		return nil, end, fault{end, `":"`}
	}
	return key, end + 1, fault{}
}

// scanString reads a string whose opening quote is at i (RFC 8259 section 7).
func scanString(p []byte, i int) (int, fault) {
	for i++; i < len(p); i++ {
		switch c := p[i]; {
		case c == '"':
			return i + 1, fault{}
		case c == '\\':
			i++
			if i == len(p) {
				return i, fault{i, "an escape"}
			}
			switch p[i] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
			case 'u':
				for range 4 {
					i++
					if i == len(p) || !isHex(p[i]) {
						return i, fault{i, "four hex digits"}
					}
				}
			default:
				return i, fault{i, "an escape"}
			}
		case c < 0x20:
			return i, fault{i, "a character that may stand in a string without an escape"}
		}
	}
	return i, fault{i, `the string's closing quote`}
}

// scanNumber reads a number (RFC 8259 section 6). What begins no value at all ends here too.
func scanNumber(p []byte, i int) (int, fault) {
	if i < len(p) && p[i] == '-' {
		i++
		if i == len(p) || !isDigit(p[i]) {
			return i, fault{i, "a digit"}
		}
	}
	if i == len(p) || !isDigit(p[i]) {
		return i, fault{i, "a value"}
	}
	if p[i] == '0' {
		i++ // a leading zero stands alone: 01 is no number
	} else {
		i = skipDigits(p, i)
	}
	if i < len(p) && p[i] == '.' {
		i++
		if i == len(p) || !isDigit(p[i]) {
			return i, fault{i, "a digit"}
		}
		i = skipDigits(p, i)
	}
	if i < len(p) && (p[i] == 'e' || p[i] == 'E') {
		i++
		if i < len(p) && (p[i] == '+' || p[i] == '-') {
			i++
		}
		if i == len(p) || !isDigit(p[i]) {
			return i, fault{i, "a digit"}
		}
		i = skipDigits(p, i)
	}
	return i, fault{}
}

func scanLiteral(p []byte, i int, word string) (int, fault) {
	for k := range len(word) {
		if i+k == len(p) || p[i+k] != word[k] {
			return i + k, fault{i + k, word}
		}
	}
	return i + len(word), fault{}
}

func skipSpace(p []byte, i int) int {
	for i < len(p) && (p[i] == ' ' || p[i] == '\n' || p[i] == '\t' || p[i] == '\r') {
		i++
	}
	return i
}

func skipDigits(p []byte, i int) int {
	for i < len(p) && isDigit(p[i]) {
		i++
	}
	return i
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isHex(c byte) bool { return isDigit(c) || 'a' <= c|0x20 && c|0x20 <= 'f' }
