package wire

import (
	"bytes"
	"encoding/base64"
)

// Publication is one line of POST /publish as newline-delimited JSON:
//
//	{"topic":"chat.lobby","data":{"text":"hi"}}
//	{"topic":"cam.42","data":"3q2+7w==","encoding":"base64"}
//
// All fields may be views, as those of Command are.
type Publication struct {
	Topic string // as the client wrote it: its syntax is not checked here
	Data  []byte // the payload to publish
	Key   string // of "idempotency_key"; empty: none
}

// ParsePublication reads one line, without its newline, into pub. An Error
// leaves in pub.Topic what could be read, for the result line.
func (r *Parser) ParsePublication(line []byte, pub *Publication) *Error {
	*pub = Publication{}
	if err := r.readFields(line); err != nil {
		return err
	}
	topic, err := r.text(fieldTopic)
	if err != nil {
		return err
	}
	if r.repeated != fieldTopic {
		pub.Topic = topic
	}
	if err := r.duplicate(); err != nil {
		return err
	}
	if r.fields[fieldTopic] == nil {
		return missing(fieldTopic)
	}
	if pub.Key, err = r.key(); err != nil {
		return err
	}
	data, encoding, err := r.data()
	if err != nil {
		return err
	}
	pub.Data, err = PayloadOf(data, encoding)
	return err
}

// key returns "idempotency_key", empty where it is absent.
func (r *Parser) key() (string, *Error) {
	if r.fields[fieldKey] == nil {
		return "", nil
	}
	key, err := r.text(fieldKey)
	if err != nil {
		return "", err
	}
	return key, CheckKey(key)
}

// MaxKeyLength is the longest idempotency key, in bytes.
const MaxKeyLength = 128

// CheckKey reports what is wrong with an idempotency key, of a command, a
// publication or the header Idempotency-Key.
func CheckKey(key string) *Error {
	ok := len(key) >= 1 && len(key) <= MaxKeyLength
	for i := 0; ok && i < len(key); i++ {
		ok = key[i] > ' ' && key[i] <= '~'
	}
	if !ok {
		return badRequest("the idempotency key is %s: it must be 1 to %d visible ASCII characters, without spaces", quote(key), MaxKeyLength)
	}
	return nil
}

// PayloadOf returns the bytes that the data of a publication stands for on
// NATS, by symmetry with delivery: with no encoding the JSON text itself (a
// string with its quotes, so that a subscriber gets the same string back),
// with "base64" the decoded bytes. data is one that Parse accepted; the result
// may share its memory.
func PayloadOf(data []byte, encoding string) ([]byte, *Error) {
	switch encoding {
	case "":
		return data, nil
	case "base64":
	default:
		return nil, badRequest(`"encoding" is %s: it can be "base64", or absent`, quote(encoding))
	}
	if len(data) == 0 || data[0] != '"' {
		return nil, badRequest(`with "encoding":"base64", "data" must be a string`)
	}
	text := appendUnquoted(nil, data) // some encoders write / as \/
	// RFC 4648 section 3.3: no line feeds in between, which the decoder would pass over.
	if bytes.ContainsAny(text, "\r\n") {
		return nil, badBase64()
	}
	payload, err := strictBase64.AppendDecode(nil, text)
	if err != nil {
		return nil, badBase64()
	}
	return payload, nil
}

// strictBase64 also refuses what would decode but not encode to the same text again.
var strictBase64 = base64.StdEncoding.Strict()

func badBase64() *Error {
	return badRequest(`"data" is not standard base64 with padding (RFC 4648 section 4)`)
}

// AppendResult appends what became of one publication over HTTP: the body of
// POST /publish/{topic}, or one line of POST /publish, whose newline the caller
// adds. With a cursor the message is stored, without one it is on its way:
//
//	{"topic":"chat.lobby","cursor":"k3:58"}
func AppendResult(dst []byte, topic, cursor string) []byte {
	dst = appendText(dst, `{"topic":`, topic)
	dst = appendOptional(dst, `,"cursor":`, cursor)
	return append(dst, '}')
}

// AppendFailure appends the result line of a publication that was refused. It
// is the one with a code; topic is absent where it could not be read:
//
//	{"topic":"chat.*","code":"invalid_topic","message":"…"}
func AppendFailure(dst []byte, topic string, code ErrorCode, message string) []byte {
	if topic == "" {
		return AppendRefusal(dst, code, message)
	}
	dst = appendText(dst, `{"topic":`, topic)
	dst = appendText(dst, `,"code":`, string(code))
	dst = appendText(dst, `,"message":`, message)
	return append(dst, '}')
}

// AppendRefusal appends the JSON body of an HTTP refusal:
//
//	{"code":"rate_limited","message":"…"}
func AppendRefusal(dst []byte, code ErrorCode, message string) []byte {
	dst = appendText(dst, `{"code":`, string(code))
	dst = appendText(dst, `,"message":`, message)
	return append(dst, '}')
}
