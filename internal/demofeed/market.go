package demofeed

import (
	"math"
	"math/rand/v2"
	"time"
)

const (
	symbols    = 500
	marketBeat = 20 * time.Millisecond
	perBeat    = 50 // of the symbols change in each beat: each five times a second
)

// market has the prices of symbols that do not exist.
type market struct {
	rand   *rand.Rand
	quotes [symbols]quote
}

type quote struct {
	topic string
	first float64
	last  float64
}

func newMarket(r *rand.Rand) *market {
	m := &market{rand: r}
	for i := range m.quotes {
		price := math.Round(100*math.Exp(1+4*r.Float64())) / 100
		m.quotes[i] = quote{topic: Stocks + "." + symbol(i), first: price, last: price}
	}
	return m
}

// symbol returns the name of a symbol: four letters, of which the first is X and
// no two names are equal.
func symbol(i int) string {
	const letters = "ABCDEFGHKLMNPRSTUVWYZ"
	n := uint(i)*7 + 1000
	name := []byte("X...")
	for at := range name[1:] {
		name[at+1] = letters[n%uint(len(letters))]
		n /= uint(len(letters))
	}
	return string(name)
}

// open publishes every price once.
func (m *market) open(publish func(string, []byte)) {
	for i := range m.quotes {
		m.quotes[i].publish(publish)
	}
}

// move changes some of the prices by a little, each by as much up as down.
func (m *market) move(publish func(string, []byte)) {
	for range perBeat {
		q := &m.quotes[m.rand.IntN(symbols)]
		next := math.Round(100*q.last*math.Exp(0.0008*m.rand.NormFloat64())) / 100
		q.last = max(next, 0.01)
		q.publish(publish)
	}
}

func (q *quote) publish(publish func(string, []byte)) {
	publish(q.topic, marshal(struct {
		Price     float64 `json:"price"`
		Change    float64 `json:"change"` // in percent, since the server started
		Simulated bool    `json:"simulated"`
	}{q.last, math.Round(10000*(q.last/q.first-1)) / 100, true}))
}
