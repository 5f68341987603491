package conn

// maxHello bounds what is kept of a client before its ClientHello is complete.
// Browsers send 0.5 to 2 KiB.
const maxHello = 16 << 10

// helloVerdict is what the first bytes of a TLS client amount to so far.
type helloVerdict uint8

const (
	helloNeedMore helloVerdict = iota
	helloComplete
	helloTooLarge
	helloNotTLS // no TLS client begins so
)

// scanHello looks whether p, all that has come, has a whole ClientHello in it
// (RFC 8446, 4.1.2 and 5.1), which may lie in several records. It is no more
// than that: a goroutine is worth it now, and crypto/tls judges the rest.
func scanHello(p []byte) helloVerdict {
	const (
		recordHandshake = 22
		clientHello     = 1
		recordHeader    = 5
		messageHeader   = 4
		maxRecord       = 1 << 14
	)
	if len(p) > 0 && p[0] != recordHandshake || len(p) > 1 && p[1] != 3 {
		return helloNotTLS
	}
	var header [messageHeader]byte
	got, size := 0, messageHeader
	for rest := p; len(rest) >= recordHeader; {
		n := int(rest[3])<<8 | int(rest[4])
		if rest[0] != recordHandshake || rest[1] != 3 || n == 0 || n > maxRecord {
			return helloNotTLS
		}
		payload := rest[recordHeader:min(recordHeader+n, len(rest))]
		if got < messageHeader {
			copy(header[got:], payload)
		}
		got += len(payload)
		if got > 0 && header[0] != clientHello {
			return helloNotTLS
		}
		if got >= messageHeader {
			size = messageHeader + (int(header[1])<<16 | int(header[2])<<8 | int(header[3]))
			if size > maxHello {
				return helloTooLarge
			}
			if got >= size {
				return helloComplete
			}
		}
		rest = rest[recordHeader+len(payload):]
	}
	if len(p) >= maxHello {
		return helloTooLarge
	}
	return helloNeedMore
}
