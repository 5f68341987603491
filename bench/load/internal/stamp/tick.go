package stamp

import (
	"math/rand/v2"
	"strconv"
)

// What a tick consists of.
const (
	tickMiddle = `","symbol":"SYM`
	tickLevels = `,"book":[`
	tickEnd    = `]}`
	// MinTick is the least length of a tick in bytes: one without any level.
	MinTick = len(head) + Size + 160
)

// AppendTick appends a payload of size bytes, but at least [MinTick], as a stock exchange might publish it: a quote with
// the levels of its order book, of which prices and sizes differ from one message to the next and names do not.
func AppendTick(b []byte, s Stamp, size int) []byte {
	random := rand.New(rand.NewPCG(uint64(s.Topic), uint64(s.Number)))
	end := len(b) + max(size, MinTick) - len(tickEnd)
	cents := 2_000 + int64(s.Topic)*7_919%40_000 + random.Int64N(500)
	b = append(b, head...)
	b = s.Append(b)
	b = strconv.AppendInt(append(b, tickMiddle...), 100+int64(s.Topic), 10)
	b = appendPrice(append(b, `","last":`...), cents)
	b = appendPrice(append(b, `,"open":`...), cents-random.Int64N(300))
	b = strconv.AppendInt(append(b, `,"volume":`...), 1_000_000+random.Int64N(9_000_000), 10)
	b = append(b, tickLevels...)
	for level := int64(0); ; level++ {
		before := len(b)
		if level > 0 {
			b = append(b, ',')
		}
		side := []string{"bid", "ask"}[level%2]
		b = append(append(append(b, `{"side":"`...), side...), `","price":`...)
		b = appendPrice(b, cents+(level/2+1)*(level%2*2-1))
		b = strconv.AppendInt(append(b, `,"size":`...), 100*(1+random.Int64N(90)), 10)
		b = strconv.AppendInt(append(b, `,"orders":`...), 1+random.Int64N(20), 10)
		if b = append(b, '}'); len(b) > end {
			b = b[:before]
			break
		}
	}
	for len(b) < end {
		b = append(b, ' ') // less than a level
	}
	return append(b, tickEnd...)
}

func appendPrice(b []byte, cents int64) []byte {
	b = append(strconv.AppendInt(b, cents/100, 10), '.')
	if cents %= 100; cents < 10 {
		b = append(b, '0')
	}
	return strconv.AppendInt(b, cents, 10)
}
