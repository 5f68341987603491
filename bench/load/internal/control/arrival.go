package control

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"
)

// Arrival is how far one message has come.
type Arrival struct {
	Count uint32 // subscribers that have it
	Last  uint32 // microseconds from sending until the last of these had it
}

// Record takes note that one more has it, this long after it was sent.
func (a *Arrival) Record(latency time.Duration) {
	a.Count++
	a.Last = max(a.Last, uint32(min(max(latency.Microseconds(), 0), math.MaxUint32)))
}

const arrivalSize = 8

// PackArrivals returns arrivals as Counted has them: 8 bytes each, little-endian,
// since there may be a million.
func PackArrivals(arrivals []Arrival) []byte {
	b := make([]byte, 0, len(arrivals)*arrivalSize)
	for _, a := range arrivals {
		b = binary.LittleEndian.AppendUint32(b, a.Count)
		b = binary.LittleEndian.AppendUint32(b, a.Last)
	}
	return b
}

// MergeArrivals adds what PackArrivals packed in another process: all that
// have a message, and the last of them.
func MergeArrivals(into []Arrival, packed []byte) ([]Arrival, error) {
	if len(packed)%arrivalSize != 0 {
		return nil, fmt.Errorf("%d bytes of arrivals are no multiple of %d", len(packed), arrivalSize)
	}
	for i := range len(packed) / arrivalSize {
		if i == len(into) {
			into = append(into, Arrival{})
		}
		b := packed[i*arrivalSize:]
		into[i].Count += binary.LittleEndian.Uint32(b)
		into[i].Last = max(into[i].Last, binary.LittleEndian.Uint32(b[4:]))
	}
	return into, nil
}
