package wire

import (
	"bytes"
	"math"
	"strconv"
	"unicode/utf8"
)

// CommandType is what a client asks for. Its zero value is none.
type CommandType uint8

const (
	CommandSubscribe CommandType = iota + 1
	CommandUnsubscribe
	CommandPublish
	CommandAuth
	CommandPresence
	CommandPing
	NumCommandTypes // the length of an array indexed by CommandType
)

// String returns the type as it stands in the command, which is also its metric label.
func (t CommandType) String() string {
	switch t {
	case CommandSubscribe:
		return "subscribe"
	case CommandUnsubscribe:
		return "unsubscribe"
	case CommandPublish:
		return "publish"
	case CommandAuth:
		return "auth"
	case CommandPresence:
		return "presence"
	case CommandPing:
		return "ping"
	}
	return "invalid"
}

func parseCommandType(s string) (CommandType, bool) {
	for t := CommandSubscribe; t < NumCommandTypes; t++ {
		if t.String() == s {
			return t, true
		}
	}
	return 0, false
}

// maxIDLength is the longest id, in bytes of its JSON text (a string's quotes included).
const maxIDLength = 64

// ID is a command's id, an integer or a string, kept as the JSON text that goes
// back in the reply. Its zero value is no id. It is a plain value: unlike the
// strings of a Command it may be kept for a reply that comes later.
type ID struct {
	n   uint8
	raw [maxIDLength]byte
}

// String returns the id's JSON text, for logs; empty where there is none.
func (id ID) String() string { return string(id.raw[:id.n]) }

// Command is one command of a client.
//
// Its strings and Data are views: they are good until the next Parse with the
// same Parser, and only while the text that was parsed is not overwritten.
// Clone what must outlive that, such as a topic that becomes the key of a map.
type Command struct {
	Type CommandType
	ID   ID

	Topics []string // "topic" alone, or "topics" in order; of subscribe, unsubscribe, publish and presence; syntax not checked

	Cursor  string  // subscribe: resume after it; empty: from now
	Mode    Mode    // subscribe; empty: as the namespace says
	MaxRate float64 // subscribe: updates a second for each concrete topic, above 0; 0: no limit

	Data     []byte // publish: the JSON text of "data"; see PayloadOf
	Encoding string // publish: what "data" is encoded with; see PayloadOf
	Key      string // publish: the same again is the same publication; empty: none

	Token string // auth
}

// field is a field of commands or publications that this version knows.
type field uint8

const (
	fieldType field = iota
	fieldID
	fieldTopic
	fieldTopics
	fieldCursor
	fieldMode
	fieldMaxRate
	fieldData
	fieldEncoding
	fieldToken
	fieldKey
	numFields
)

// fieldNames is read only.
var fieldNames = [numFields]string{
	fieldType:     "type",
	fieldID:       "id",
	fieldTopic:    "topic",
	fieldTopics:   "topics",
	fieldCursor:   "cursor",
	fieldMode:     "mode",
	fieldMaxRate:  "max_rate",
	fieldData:     "data",
	fieldEncoding: "encoding",
	fieldToken:    "token",
	fieldKey:      "idempotency_key",
}

func (f field) String() string { return fieldNames[f] }

func parseField(name []byte) (field, bool) {
	for f := range fieldNames {
		if fieldNames[f] == string(name) {
			return field(f), true
		}
	}
	return 0, false
}

// Limits on what a Parser and a Command keep for the next Parse, so that one
// huge command does not cost memory for ever.
const (
	keptScratch = 4 << 10 // bytes
	keptTopics  = 256
)

// Parser reads commands. Its zero value is ready for use; it is reused, and not
// for concurrent use.
type Parser struct {
	fields   [numFields][]byte // JSON text of each field of the object being read; nil: absent
	repeated field             // a field that stands there twice; numFields: none does
	scratch  []byte            // strings whose escapes had to be undone
}

// Parse reads one command from p into c, all of which it overwrites. Where it
// returns an Error, c.ID is set if it could be read, so that the reply can carry it.
//
// Fields that this version does not know are ignored, and so are known ones
// that the command's type does not use. Those that it does use must have the
// right type; null is none. A known field may not stand there twice: RFC 8259
// section 4 leaves open which one counts, and a proxy that checked the other
// would be deceived.
func (r *Parser) Parse(p []byte, c *Command) *Error {
	if cap(c.Topics) > keptTopics {
		c.Topics = nil
	}
	*c = Command{Topics: c.Topics[:0]}
	if err := r.readFields(p); err != nil {
		return err
	}
	if err := r.readID(&c.ID); err != nil {
		return err
	}
	if err := r.duplicate(); err != nil {
		return err
	}
	if r.fields[fieldType] == nil {
		return missing(fieldType)
	}
	name, err := r.text(fieldType)
	if err != nil {
		return err
	}
	var known bool
	if c.Type, known = parseCommandType(name); !known {
		return &Error{Code: UnknownType, Message: "unknown type " + quote(name)}
	}

	switch c.Type {
	case CommandSubscribe:
		return r.readSubscribe(c)
	case CommandUnsubscribe:
		return r.readTopics(c)
	case CommandPublish:
		if err := r.readTopic(c); err != nil {
			return err
		}
		if c.Key, err = r.key(); err != nil {
			return err
		}
		c.Data, c.Encoding, err = r.data()
		return err
	case CommandPresence:
		return r.readTopic(c)
	case CommandAuth:
		if r.fields[fieldToken] == nil {
			return missing(fieldToken)
		}
		c.Token, err = r.text(fieldToken)
		return err
	}
	return nil // ping has no more
}

// readFields finds the known fields of the object that p is.
func (r *Parser) readFields(p []byte) *Error {
	clear(r.fields[:])
	r.repeated = numFields
	if cap(r.scratch) > keptScratch {
		r.scratch = nil
	}
	r.scratch = r.scratch[:0]

	if !utf8.Valid(p) {
		return badRequest("not valid UTF-8")
	}
	i := skipSpace(p, 0)
	if i == len(p) || p[i] != '{' {
		// What is no JSON at all is told so, rather than that it is no object.
		if end, f := scanValue(p, i); !f.ok() {
			return f.describe(p)
		} else if end = skipSpace(p, end); end < len(p) {
			return fault{end, "the end"}.describe(p)
		}
		return badRequest("not a JSON object")
	}
	i = skipSpace(p, i+1)
	if i < len(p) && p[i] == '}' {
		i++
	} else {
		for more := true; more; {
			var f fault
			if i, more, f = r.readMember(p, i); !f.ok() {
				return f.describe(p)
			}
		}
	}
	if i = skipSpace(p, i); i < len(p) {
		return fault{i, "the end"}.describe(p)
	}
	return nil
}

// readMember reads one member of the object, and the comma or brace behind it.
func (r *Parser) readMember(p []byte, i int) (end int, more bool, f fault) {
	key, i, f := scanKey(p, i)
	if !f.ok() {
		return i, false, f
	}
	start := skipSpace(p, i)
	end, f = scanValue(p, start)
	if !f.ok() {
		return end, false, f
	}
	if field, known := parseField(r.unquote(key)); known {
		if r.fields[field] != nil {
			r.repeated = field
		}
		r.fields[field] = p[start:end]
	}
	end = skipSpace(p, end)
	if end < len(p) && (p[end] == ',' || p[end] == '}') {
		return end + 1, p[end] == ',', fault{}
	}
	return end, false, fault{end, `"," or "}"`}
}

func (r *Parser) duplicate() *Error {
	if r.repeated < numFields {
		return badRequest("%q stands there twice", r.repeated)
	}
	return nil
}

func missing(f field) *Error { return badRequest("%q is missing", f) }

func (r *Parser) readID(id *ID) *Error {
	raw := r.fields[fieldID]
	if raw == nil || r.repeated == fieldID {
		return nil
	}
	if raw[0] != '"' && (raw[0] != '-' && !isDigit(raw[0]) || bytes.ContainsAny(raw, ".eE")) {
		return badRequest(`"id" must be an integer or a string`)
	}
	if len(raw) > maxIDLength {
		return badRequest(`"id" has %d bytes of JSON, of at most %d`, len(raw), maxIDLength)
	}
	id.n = uint8(copy(id.raw[:], raw))
	return nil
}

func (r *Parser) readSubscribe(c *Command) *Error {
	err := r.readTopics(c)
	if err != nil {
		return err
	}
	if c.Cursor, err = r.text(fieldCursor); err != nil {
		return err
	}
	if r.fields[fieldMode] != nil {
		mode, err := r.text(fieldMode)
		if err != nil {
			return err
		}
		if c.Mode, err = ParseMode(mode); err != nil {
			return err
		}
	}
	if rate := r.fields[fieldMaxRate]; rate != nil {
		if rate[0] != '-' && !isDigit(rate[0]) {
			return badRequest(`"max_rate" must be a number`)
		}
		if c.MaxRate, err = ParseMaxRate(view(rate)); err != nil {
			return err
		}
	}
	return nil
}

// ParseMaxRate reads updates a second, from a command or from max_rate= in a query string.
func ParseMaxRate(s string) (float64, *Error) {
	rate, err := strconv.ParseFloat(s, 64)
	if err != nil || !(rate > 0) || math.IsInf(rate, 0) {
		return 0, badRequest(`"max_rate" is %s: it must be a number above 0, of updates a second`, quote(s))
	}
	return rate, nil
}

// readTopics reads "topic" or "topics".
func (r *Parser) readTopics(c *Command) *Error {
	list := r.fields[fieldTopics]
	if list == nil {
		return r.readTopic(c)
	}
	if r.fields[fieldTopic] != nil {
		return badRequest(`both "topic" and "topics" are there: send one of them`)
	}
	if list[0] != '[' {
		return badRequest(`"topics" must be an array of strings`)
	}
	for i := skipSpace(list, 1); list[i] != ']'; {
		if list[i] != '"' {
			return badRequest(`"topics" must be an array of strings`)
		}
		end, _ := scanString(list, i) // the whole array was found good before
		c.Topics = append(c.Topics, view(r.unquote(list[i:end])))
		if i = skipSpace(list, end); list[i] == ',' {
			i = skipSpace(list, i+1)
		}
	}
	if len(c.Topics) == 0 {
		return badRequest(`"topics" is empty`)
	}
	return nil
}

// readTopic reads "topic" where there must be exactly one.
func (r *Parser) readTopic(c *Command) *Error {
	if r.fields[fieldTopic] == nil {
		return missing(fieldTopic)
	}
	topic, err := r.text(fieldTopic)
	if err != nil {
		return err
	}
	c.Topics = append(c.Topics, topic)
	return nil
}

// data returns the JSON text of "data", and "encoding".
func (r *Parser) data() (data []byte, encoding string, err *Error) {
	data = r.fields[fieldData]
	if data == nil {
		return nil, "", missing(fieldData)
	}
	encoding, err = r.text(fieldEncoding)
	return data, encoding, err
}

// text returns a field that must be a string; empty where it is absent.
func (r *Parser) text(f field) (string, *Error) {
	raw := r.fields[f]
	if raw == nil {
		return "", nil
	}
	if raw[0] != '"' {
		return "", badRequest("%q must be a string", f)
	}
	return view(r.unquote(raw)), nil
}

// unquote returns the contents of a JSON string: a part of it where it has no
// escapes, else a part of scratch. Should scratch move as it grows, then what
// was returned before stays good in the old place.
func (r *Parser) unquote(quoted []byte) []byte {
	if bytes.IndexByte(quoted, '\\') < 0 {
		return quoted[1 : len(quoted)-1]
	}
	start := len(r.scratch)
	r.scratch = appendUnquoted(r.scratch, quoted)
	return r.scratch[start:]
}
