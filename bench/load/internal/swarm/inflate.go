package swarm

import (
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"io"

	"github.com/klauspost/compress/flate"
)

// inflater takes the compression off messages (RFC 7692 section 7.2.2). A server that compresses a message once sends
// all subscribers the same bytes; so the last that came are kept, else the clients of one worker would need more CPU
// for a delivery than any server.
type inflater struct {
	reader io.ReadCloser
	seed   maphash.Seed
	recent [64]inflated // by hash
}

// inflated is a message as it came, and as it was.
type inflated struct{ packed, plain []byte }

func newInflater() *inflater {
	return &inflater{reader: flate.NewReader(nil), seed: maphash.MakeSeed()}
}

// deflateTail is what a sender leaves out, and a last block, so that the reader finds an end.
const deflateTail = "\x00\x00\xff\xff\x01\x00\x00\xff\xff"

// inflate returns a message, which is good until the next call.
func (f *inflater) inflate(packed []byte) ([]byte, error) {
	m := &f.recent[maphash.Bytes(f.seed, packed)%uint64(len(f.recent))]
	if len(m.packed) > 0 && bytes.Equal(m.packed, packed) {
		return m.plain, nil
	}
	m.packed = append(append(m.packed[:0], packed...), deflateTail...)
	if err := f.reader.(flate.Resetter).Reset(bytes.NewReader(m.packed), nil); err != nil {
		return nil, err
	}
	plain := bytes.NewBuffer(m.plain[:0])
	n, err := io.Copy(plain, io.LimitReader(f.reader, maxFrame+1))
	m.packed, m.plain = m.packed[:len(packed)], plain.Bytes()
	switch {
	case err != nil:
		m.packed = m.packed[:0]
		return nil, fmt.Errorf("compressed message: %w", err)
	case n > maxFrame:
		m.packed = m.packed[:0]
		return nil, errLarge
	}
	return m.plain, nil
}

// errDeclined is where a run is to measure compression and the server gives none, or one that no client here understands.
var errDeclined = errors.New("upgrade: no permessage-deflate with server_no_context_takeover in the answer")

// checkExtension holds that the head of a 101 accepts what was offered.
func checkExtension(head []byte) error {
	if !bytes.Contains(head, []byte("permessage-deflate")) || !bytes.Contains(head, []byte("server_no_context_takeover")) {
		return errDeclined
	}
	return nil
}
