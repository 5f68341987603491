package demofeed

import "time"

// The semi-final of the World Cup of 2014, Brazil against Germany in Belo
// Horizonte on 8 July: who scored and when.
var facts = []fact{
	{1, "kick-off", "Kick-off in Belo Horizonte"},
	{11, "goal-ger", "Müller, from a corner by Kroos"},
	{23, "goal-ger", "Klose, his 16th at World Cups: nobody has more"},
	{24, "goal-ger", "Kroos"},
	{26, "goal-ger", "Kroos again"},
	{29, "goal-ger", "Khedira: the fourth goal within six minutes"},
	{45, "half-time", "Half-time"},
	{46, "substitution", "Brazil: Paulinho for Fernandinho, Ramires for Hulk"},
	{46, "substitution", "Germany: Mertesacker for Hummels"},
	{58, "substitution", "Germany: Schürrle for Klose"},
	{68, "card", "Yellow card for Dante"},
	{69, "goal-ger", "Schürrle"},
	{69, "substitution", "Brazil: Willian for Fred"},
	{76, "substitution", "Germany: Draxler for Khedira"},
	{79, "goal-ger", "Schürrle again"},
	{90, "goal-bra", "Oscar"},
	{90, "full-time", "Full-time"},
}

type fact struct {
	minute int
	kind   string
	text   string
}

const (
	lastMinute = 90
	pause      = 15 // minutes, which are seconds, before it begins again
)

// event is a message of the match.
type event struct {
	Match  int64  `json:"match"` // of this replay: when it began, in seconds since the epoch
	Minute int    `json:"minute"`
	Kind   string `json:"kind"`  // kick-off, goal, card, substitution, half-time, full-time, or clock
	Score  [2]int `json:"score"` // Brazil, Germany
	Text   string `json:"text,omitempty"`
}

// replay plays the match, and again from the start.
type replay struct {
	began int64
	now   int // minute that was played last; 0: none
	score [2]int
}

// minute publishes what happens in the next minute: its events, or the clock alone.
func (r *replay) minute(publish func(string, []byte)) {
	if r.now == 0 || r.now >= lastMinute+pause {
		*r = replay{began: time.Now().Unix()}
	}
	r.now++
	if r.now > lastMinute {
		return
	}
	quiet := true
	for _, f := range facts {
		if f.minute == r.now {
			r.publish(publish, f.kind, f.text)
			quiet = false
		}
	}
	if quiet {
		r.publish(publish, "clock", "")
	}
}

func (r *replay) publish(publish func(string, []byte), kind, text string) {
	switch kind {
	case "goal-bra":
		kind, text = "goal", "Goal for Brazil: "+text
		r.score[0]++
	case "goal-ger":
		kind, text = "goal", "Goal for Germany: "+text
		r.score[1]++
	}
	publish(Match+".bra-ger", marshal(event{Match: r.began, Minute: r.now, Kind: kind, Score: r.score, Text: text}))
}
