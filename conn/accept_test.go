package conn

import "testing"

// A call that finds nobody is rare where clients come one by one, and a crowd
// is soon taken in full batches.
func TestAcceptPace(t *testing.T) {
	for _, tc := range []struct {
		name             string
		come, times      int // so many, so many times
		failing, wakeUps int // at most
	}{
		{"one by one", 1, 900, 100, 900},
		{"three at a time", 3, 900, 300, 2700},
		{"a crowd", 10_000, 1, 1, 200},
	} {
		t.Run(tc.name, func(t *testing.T) {
			pace := acceptPace{next: 1}
			failing, wakeUps := 0, 0
			for range tc.times {
				for waiting := tc.come; waiting > 0; {
					wakeUps++
					if waiting < pace.next {
						failing++
						pace.were(waiting)
						break
					}
					waiting -= pace.next
					pace.wereEnough()
				}
			}
			if failing > tc.failing || wakeUps > tc.wakeUps {
				t.Errorf("%d calls failed, %d wake-ups, want at most %d and %d", failing, wakeUps, tc.failing, tc.wakeUps)
			}
		})
	}
}
