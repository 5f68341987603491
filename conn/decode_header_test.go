package conn

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/gobwas/ws"
)

// bits makes bytes of ones and zeros; blanks are for the reader.
func bits(s string) []byte {
	s = strings.ReplaceAll(s, " ", "")
	p := make([]byte, len(s)/8)
	for i := range p {
		for _, c := range s[i*8 : i*8+8] {
			p[i] = p[i]<<1 | byte(c-'0')
		}
	}
	return p
}

func TestParseHeader(t *testing.T) {
	const (
		clean      = ws.StateServerSide
		fragmented = ws.StateServerSide | ws.StateFragmented
		room       = 1 << 20
	)
	for _, test := range []struct {
		name  string
		data  []byte
		state ws.State
		want  ws.Header
		size  int // 0: more is needed, or fail
		fail  ws.StatusCode
	}{{
		name: "text",
		data: bits("1 000 0001 1 1100100 00000001 10001000 00000000 11111111"),
		//          _ ___ ____ _ _______ ___________________________________
		//          |  |   |   |    |                     |
		//         Fin |  Text |  Length              Mask value
		//            Rsv    Mask
		state: clean,
		want:  ws.Header{Fin: true, OpCode: ws.OpText, Masked: true, Mask: [4]byte{1, 0x88, 0, 0xff}, Length: 100},
		size:  6,
	}, {
		name: "binary fragment with 16 bits of length",
		data: bits("0 000 0010 1 1111110 00001111 11111111 00000001 00000010 00000011 00000100"),
		//          _ ___ ____ _ _______ _________________ ___________________________________
		//          |  |   |   |    |            |                          |
		//         Fin | Binary|   126      Length value                Mask value
		//            Rsv    Mask
		state: clean,
		want:  ws.Header{OpCode: ws.OpBinary, Masked: true, Mask: [4]byte{1, 2, 3, 4}, Length: 0x0fff},
		size:  8,
	}, {
		name: "64 bits of length",
		data: bits("1 000 0010 1 1111111" + strings.Repeat("00000000", 5) + "00000001 00000000 00000000" +
			//      _ ___ ____ _ _______                  ________________________________________
			//      |  |   |   |    |                                    |
			//     Fin | Binary|   127                             Length value
			//        Rsv    Mask
			"00000001 00000010 00000011 00000100"),
		//   Mask value
		state: clean,
		want:  ws.Header{Fin: true, OpCode: ws.OpBinary, Masked: true, Mask: [4]byte{1, 2, 3, 4}, Length: 1 << 16},
		size:  14,
	}, {
		name:  "nothing",
		state: clean,
	}, {
		name:  "one byte says nothing yet",
		data:  bits("1 111 1111"),
		state: clean,
	}, {
		name:  "length still missing",
		data:  bits("1 000 0001 1 1111110 00001111"),
		state: clean,
	}, {
		name:  "mask still missing",
		data:  bits("1 000 0001 1 0000001 00000001 00000001 00000001"),
		state: clean,
	}, {
		name: "RSV1 without an extension",
		data: bits("1 100 0001 1 0000001"),
		//            ^
		state: clean,
		fail:  ws.StatusProtocolError,
	}, {
		name:  "RSV2",
		data:  bits("1 010 0001 1 0000001"),
		state: clean,
		fail:  ws.StatusProtocolError,
	}, {
		name:  "RSV3 on a ping",
		data:  bits("1 001 1001 1 0000001"),
		state: clean,
		fail:  ws.StatusProtocolError,
	}, {
		name: "no mask",
		data: bits("1 000 0001 0 0000001"),
		//                     ^
		state: clean,
		fail:  ws.StatusProtocolError,
	}, {
		name:  "reserved data opcode",
		data:  bits("1 000 0011 1 0000001"),
		state: clean,
		fail:  ws.StatusProtocolError,
	}, {
		name:  "reserved control opcode",
		data:  bits("1 000 1011 1 0000000"),
		state: clean,
		fail:  ws.StatusProtocolError,
	}, {
		name: "ping in fragments",
		data: bits("0 000 1001 1 0000000"),
		//          ^
		state: clean,
		fail:  ws.StatusProtocolError,
	}, {
		name:  "ping with 125 bytes",
		data:  bits("1 000 1001 1 1111101 00000000 00000000 00000000 00000000"),
		state: fragmented,
		want:  ws.Header{Fin: true, OpCode: ws.OpPing, Masked: true, Length: 125},
		size:  6,
	}, {
		name: "ping with more than 125 bytes, refused before its length is known",
		data: bits("1 000 1001 1 1111110"),
		//                       _______
		//                         126
		state: clean,
		fail:  ws.StatusProtocolError,
	}, {
		name:  "continuation of nothing",
		data:  bits("1 000 0000 1 0000001"),
		state: clean,
		fail:  ws.StatusProtocolError,
	}, {
		name:  "text within a message in fragments",
		data:  bits("1 000 0001 1 0000001"),
		state: fragmented,
		fail:  ws.StatusProtocolError,
	}, {
		name: "125 in 16 bits",
		data: bits("1 000 0001 1 1111110 00000000 01111101"),
		//                               _________________
		state: clean,
		fail:  ws.StatusProtocolError,
	}, {
		name:  "126 in 16 bits",
		data:  bits("1 000 0001 1 1111110 00000000 01111110 00000000 00000000 00000000 00000000"),
		state: clean,
		want:  ws.Header{Fin: true, OpCode: ws.OpText, Masked: true, Length: 126},
		size:  8,
	}, {
		name:  "65535 in 64 bits",
		data:  bits("1 000 0001 1 1111111" + strings.Repeat("00000000", 6) + "11111111 11111111"),
		state: clean,
		fail:  ws.StatusProtocolError,
	}, {
		name: "most significant bit of the length",
		data: bits("1 000 0001 1 1111111 1 0000000" + strings.Repeat("00000000", 7)),
		//                               ^
		state: clean,
		fail:  ws.StatusProtocolError,
	}, {
		name:  "too big by one, refused before the mask",
		data:  append(bits("1 000 0010 1 1111111"), binary.BigEndian.AppendUint64(nil, room+1)...),
		state: clean,
		fail:  ws.StatusMessageTooBig,
	}, {
		name:  "the largest length there is",
		data:  append(bits("1 000 0010 1 1111111"), binary.BigEndian.AppendUint64(nil, 1<<63-1)...),
		state: fragmented ^ ws.StateFragmented,
		fail:  ws.StatusMessageTooBig,
	}} {
		t.Run(test.name, func(t *testing.T) {
			h, size, fail := parseHeader(test.data, test.state, room)
			if size != test.size || fail != test.fail {
				t.Fatalf("size %d, fail %d, want %d, %d", size, fail, test.size, test.fail)
			}
			if size > 0 && h != test.want {
				t.Errorf("header %+v, want %+v", h, test.want)
			}
			// Each rule is checked with its last byte at the latest: without
			// that byte there is neither a header nor a failure.
			if n := len(test.data); n > 0 {
				if _, size, fail := parseHeader(test.data[:n-1], test.state, room); size != 0 || fail != 0 {
					t.Errorf("without its last byte: size %d, fail %d", size, fail)
				}
			}
		})
	}
}
